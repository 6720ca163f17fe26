INSERT INTO judged
SELECT DISTINCT
    {rule:String} AS rule,
    {entity:String} AS entity,
    entity_id,
    period
FROM {main:Identifier}.suspect_rows
WHERE detector = {rule:String}
    AND entity_id IN
    (
        SELECT concat(org, '/', drug, '/', lot)
        FROM touched_sales
        UNION ALL
        SELECT concat(org, '/', drug, '/', lot)
        FROM touched_moves
    )
