-- Members of groups of before, one of whose events was looked at again, or who share
-- a member with those to be judged: what is said of one may end another.
INSERT INTO judged
SELECT DISTINCT
    {rule:String} AS rule,
    {entity:String} AS entity,
    person AS entity_id,
    '' AS period
FROM {main:Identifier}.suspect_rows
ARRAY JOIN persons AS person
WHERE detector = {rule:String}
    AND suspect_id IN
    (
        SELECT suspect_id
        FROM {main:Identifier}.suspect_rows
        ARRAY JOIN events AS of_suspect
        WHERE detector = {rule:String}
            AND of_suspect IN (SELECT concat(org, '/', event_id) FROM touched_sales)
        UNION ALL
        SELECT suspect_id
        FROM {main:Identifier}.suspect_rows
        ARRAY JOIN persons AS member
        WHERE detector = {rule:String}
            AND member IN (SELECT entity_id FROM judged WHERE rule = {rule:String})
    )
    AND person NOT IN (SELECT entity_id FROM judged WHERE rule = {rule:String})
