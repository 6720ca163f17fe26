-- Touched lots of which more was sold than delivered in all months, as far as units
-- are known.
WITH
    lots AS
    (
        SELECT
            cityHash64(org, drug, lot) AS key,
            concat(org, '/', drug, '/', lot) AS name
        FROM touched_sales
        WHERE drug != '' AND lot != ''
        UNION DISTINCT
        SELECT
            cityHash64(org, drug, lot) AS key,
            concat(org, '/', drug, '/', lot) AS name
        FROM touched_moves
        WHERE drug != '' AND lot != ''
    )
SELECT name AS entity_id
FROM lots
WHERE key IN
(
    SELECT key
    FROM
    (
        SELECT
            key,
            argMax(beyond, pass) AS packs,
            argMax(bought, pass) AS had
        FROM lot_months
        WHERE key IN (SELECT key FROM lots)
        GROUP BY
            key,
            month
    )
    GROUP BY key
    HAVING max(had) AND sum(packs) > {margin:UInt32} * 0.999999
)
