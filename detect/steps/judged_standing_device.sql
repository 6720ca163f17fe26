INSERT INTO judged
SELECT DISTINCT
    {rule:String} AS rule,
    {entity:String} AS entity,
    entity_id,
    period
FROM {main:Identifier}.suspect_rows
WHERE detector = {rule:String}
    AND entity_id IN (SELECT concat(org, '/', device) FROM touched_sales)
