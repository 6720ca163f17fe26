-- What of each touched lot was sold and delivered in the months that were touched.
-- Units that are not known for sure are taken so that it is too much rather than too
-- little.
INSERT INTO {main:Identifier}.lot_months
WITH
    touched AS
    (
        SELECT
            cityHash64(org, drug, lot) AS key,
            month
        FROM touched_sales
        WHERE drug != '' AND lot != ''
        UNION DISTINCT
        SELECT
            cityHash64(org, drug, lot) AS key,
            month
        FROM touched_moves
        WHERE drug != '' AND lot != ''
    ),
    sold AS
    (
        SELECT
            cityHash64(org, drug, lot) AS key,
            month,
            product,
            drug,
            split,
            share
        FROM {main:Identifier}.kept_sales
        WHERE NOT undone
            AND drug != ''
            AND lot != ''
            AND (({all:Bool} AND org IN {orgs:Array(String)})
                OR (NOT {all:Bool} AND month IN (SELECT month FROM touched) AND cityHash64(org, drug, lot) IN (SELECT key FROM touched)))
    ),
    moved AS
    (
        SELECT
            cityHash64(org, drug, lot) AS key,
            month,
            drug,
            split,
            share,
            kind IN ('purchase', 'stock_in') AS comes,
            kind = 'purchase' AS bought
        FROM {main:Identifier}.kept_moves
        WHERE kind IN ('purchase', 'stock_in', 'purchase_return', 'stock_out')
            AND drug != ''
            AND lot != ''
            AND (({all:Bool} AND org IN {orgs:Array(String)})
                OR (NOT {all:Bool} AND month IN (SELECT month FROM touched) AND cityHash64(org, drug, lot) IN (SELECT key FROM touched)))
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
    key,
    month,
    sum(packs) AS beyond,
    max(bought) AS bought,
    {pass:UInt64} AS pass
FROM
(
    SELECT
        key,
        month,
        0. AS packs,
        false AS bought
    FROM touched
    UNION ALL
    SELECT
        s.key AS key,
        s.month AS month,
        multiIf(NOT s.split, s.share, p.units > 0, s.share / p.units, u.fewest > 0, s.share / u.fewest, 0) AS packs,
        false AS bought
    FROM sold AS s
    LEFT JOIN pack_sizes AS p ON s.split AND p.product = s.product
    LEFT JOIN units AS u ON s.split AND u.drug = s.drug
    UNION ALL
    SELECT
        m.key AS key,
        m.month AS month,
        multiIf(
            NOT m.split, if(m.comes, -m.share, m.share),
            m.comes, if(u.most > 0, -m.share / u.most, 0),
            u.fewest > 0, m.share / u.fewest, 0) AS packs,
        m.bought AS bought
    FROM moved AS m
    LEFT JOIN units AS u ON m.split AND u.drug = m.drug
)
GROUP BY
    key,
    month
