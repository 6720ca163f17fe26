-- Moves of the lots under judgement, and of the codes (and the packs that hold codes)
-- that the institutions under judgement sold, with what a later pass replaced.
INSERT INTO near_moves
SELECT
    *,
    month
FROM {main:Identifier}.move_rows
WHERE (org, drug, lot) IN (SELECT org, drug, lot FROM judged_lots)
UNION ALL
SELECT
    *,
    month
FROM {main:Identifier}.move_rows
WHERE org IN (SELECT entity_id FROM judged WHERE entity = 'org')
    AND code IN
    (
        SELECT code
        FROM sales
        UNION DISTINCT
        SELECT if(match(parent, '^8\\d{19}$'), toUInt64OrZero(substring(parent, 2)), xxHash64(parent))
        FROM packs
    )
