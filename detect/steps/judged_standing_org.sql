INSERT INTO judged
SELECT DISTINCT
    {rule:String} AS rule,
    {entity:String} AS entity,
    entity_id,
    period
FROM {main:Identifier}.suspect_rows
WHERE detector = {rule:String}
    AND (entity_id, period) IN
    (
        SELECT
            org,
            formatDateTime(time, '%Y-%m')
        FROM touched_sales
    )
