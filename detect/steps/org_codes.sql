-- Codes of all that those institutions sold and moved, but for those touched anyhow. One
-- more than can be looked at shows that they are too many.
INSERT INTO org_codes
SELECT DISTINCT code
FROM
(
    SELECT code
    FROM {main:Identifier}.sale_rows
    WHERE org IN (SELECT org FROM touched_orgs)
    UNION ALL
    SELECT code
    FROM {main:Identifier}.move_rows
    WHERE org IN (SELECT org FROM touched_orgs)
)
WHERE code NOT IN (SELECT code FROM touched)
LIMIT {most:UInt64} + 1
