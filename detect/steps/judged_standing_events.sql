-- Suspects of before, one of whose events was looked at again.
INSERT INTO judged
SELECT DISTINCT
    {rule:String} AS rule,
    {entity:String} AS entity,
    entity_id,
    period
FROM {main:Identifier}.suspect_rows
ARRAY JOIN events AS of_suspect
WHERE detector = {rule:String}
    AND of_suspect IN
    (
        SELECT concat(org, '/', event_id)
        FROM touched_sales
        UNION ALL
        SELECT concat(org, '/', event_id)
        FROM touched_moves
    )
