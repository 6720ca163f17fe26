-- Lots under judgement; each has a touched sale or move.
INSERT INTO judged_lots
SELECT DISTINCT
    org,
    drug,
    lot
FROM
(
    SELECT
        org,
        drug,
        lot
    FROM touched_sales
    UNION DISTINCT
    SELECT
        org,
        drug,
        lot
    FROM touched_moves
)
WHERE concat(org, '/', drug, '/', lot) IN (SELECT entity_id FROM judged WHERE entity = 'lot')
