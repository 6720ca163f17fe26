INSERT INTO judged
WITH
    standing AS
    (
        SELECT
            entity_id,
            period
        FROM {main:Identifier}.suspect_rows
        WHERE detector = {rule:String}
    )
SELECT DISTINCT
    {rule:String} AS rule,
    {entity:String} AS entity,
    entity_id,
    period
FROM standing
WHERE entity_id IN
(
    SELECT concat(org, '/', drug, '/', lot) AS name
    FROM touched_sales
    WHERE name IN (SELECT entity_id FROM standing)
    UNION ALL
    SELECT concat(org, '/', drug, '/', lot) AS name
    FROM touched_moves
    WHERE name IN (SELECT entity_id FROM standing)
)
