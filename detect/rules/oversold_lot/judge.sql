-- Touched lots of which more was sold than delivered, as far as units are known.
WITH
    lots AS
    (
        SELECT
            org,
            drug,
            lot
        FROM touched_sales
        WHERE drug != '' AND lot != ''
        UNION DISTINCT
        SELECT
            org,
            drug,
            lot
        FROM touched_moves
        WHERE drug != '' AND lot != ''
    ),
    units AS
    (
        SELECT
            drug,
            min(ifNull(pack_units, 0)) AS fewest,
            max(ifNull(pack_units, 0)) AS most
        FROM drugs
        WHERE pack_level <= 1 AND ifNull(pack_units, 0) > 0
        GROUP BY drug
    )
SELECT concat(org, '/', drug, '/', lot) AS entity_id
FROM
(
    SELECT
        s.org AS org,
        s.drug AS drug,
        s.lot AS lot,
        sum(if(s.split, if(p.units > 0, s.share / p.units, if(u.fewest > 0, s.share / u.fewest, 0)), s.share)) AS sold,
        0. AS delivered
    FROM kept_sales AS s
    LEFT JOIN pack_sizes AS p ON p.product = s.product
    LEFT JOIN units AS u ON u.drug = s.drug
    WHERE NOT s.undone AND (s.org, s.drug, s.lot) IN (SELECT org, drug, lot FROM lots)
    GROUP BY
        org,
        drug,
        lot
    UNION ALL
    SELECT
        m.org,
        m.drug,
        m.lot,
        0. AS sold,
        sum(if(m.kind IN ('purchase', 'stock_in'), 1, -1) * if(m.split, if(u.most > 0, m.share / u.most, 0), m.share)) AS delivered
    FROM kept_moves AS m
    LEFT JOIN units AS u ON u.drug = m.drug
    WHERE m.kind IN ('purchase', 'stock_in', 'purchase_return', 'stock_out')
        AND (m.org, m.drug, m.lot) IN (SELECT org, drug, lot FROM lots)
    GROUP BY
        org,
        drug,
        lot
)
GROUP BY
    org,
    drug,
    lot
HAVING sum(sold) - sum(delivered) > {margin:UInt32} * 0.999999
