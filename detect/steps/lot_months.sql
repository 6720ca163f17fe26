-- What of each touched lot was sold and delivered in the months that were touched.
-- Units that are not known for sure are taken so that it is too much rather than too
-- little.
INSERT INTO {main:Identifier}.lot_months
WITH
    touched AS
    (
        SELECT
            org,
            drug,
            lot,
            month
        FROM touched_sales
        WHERE drug != '' AND lot != ''
        UNION DISTINCT
        SELECT
            org,
            drug,
            lot,
            month
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
SELECT
    cityHash64(org, drug, lot) AS key,
    month,
    sum(packs) AS beyond,
    {pass:UInt64} AS pass
FROM
(
    SELECT
        org,
        drug,
        lot,
        month,
        0. AS packs
    FROM touched
    UNION ALL
    SELECT
        s.org AS org,
        s.drug AS drug,
        s.lot AS lot,
        s.month AS month,
        if(s.split, if(p.units > 0, s.share / p.units, if(u.fewest > 0, s.share / u.fewest, 0)), s.share) AS packs
    FROM {main:Identifier}.kept_sales AS s
    LEFT JOIN pack_sizes AS p ON p.product = s.product
    LEFT JOIN units AS u ON u.drug = s.drug
    WHERE NOT s.undone
        AND s.drug != ''
        AND s.lot != ''
        AND (({all:Bool} AND s.org IN {orgs:Array(String)})
            OR (s.month IN (SELECT month FROM touched) AND (s.org, s.drug, s.lot, s.month) IN (SELECT org, drug, lot, month FROM touched)))
    UNION ALL
    SELECT
        m.org AS org,
        m.drug AS drug,
        m.lot AS lot,
        m.month AS month,
        if(m.kind IN ('purchase', 'stock_in'),
            -if(m.split, if(u.most > 0, m.share / u.most, 0), m.share),
            if(m.split, if(u.fewest > 0, m.share / u.fewest, 0), m.share)) AS packs
    FROM {main:Identifier}.kept_moves AS m
    LEFT JOIN units AS u ON u.drug = m.drug
    WHERE m.kind IN ('purchase', 'stock_in', 'purchase_return', 'stock_out')
        AND m.drug != ''
        AND m.lot != ''
        AND (({all:Bool} AND m.org IN {orgs:Array(String)})
            OR (m.month IN (SELECT month FROM touched) AND (m.org, m.drug, m.lot, m.month) IN (SELECT org, drug, lot, month FROM touched)))
)
GROUP BY
    org,
    drug,
    lot,
    month
