INSERT INTO voids
SELECT *
FROM {main:Identifier}.voids
FINAL
WHERE org IN (SELECT DISTINCT org FROM life_rows)
