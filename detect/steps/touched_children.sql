-- What the touched larger packs hold: goods-in of a carton is goods-in of its boxes.
INSERT INTO touched
SELECT DISTINCT child
FROM families
WHERE parent IN (SELECT code FROM touched)
    AND child NOT IN (SELECT code FROM touched)
