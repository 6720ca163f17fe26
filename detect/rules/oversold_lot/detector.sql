-- version: 1
-- title: More sold of a lot than was delivered
-- title_zh: 批号销大于进
-- status: live
-- severity: medium
-- entity: lot
-- part: org
-- same: 药品批号 = (\S+ 批号 \S+) 净进货
-- param: margin UInt32 = 2 · packs sold beyond those delivered, more than
WITH
    smallest AS
    (
        SELECT
            drug,
            max(units) AS units
        FROM pack_sizes
        WHERE smallest
        GROUP BY drug
    ),
    moves AS
    (
        SELECT
            org,
            drug,
            lot,
            time,
            event_id,
            code_key,
            person,
            region,
            product,
            split,
            share,
            'sold' AS role,
            if(pay = 'insured', paid, 0.) AS fund
        FROM sales
        WHERE NOT undone
            AND drug != ''
            AND lot != ''
        UNION ALL
        SELECT
            org,
            drug,
            lot,
            time,
            event_id,
            code_key,
            person,
            region,
            product,
            split,
            share,
            transform(toString(kind), ['purchase', 'stock_in', 'purchase_return', 'stock_out'], ['purchased', 'received', 'sent_back', 'sent_out'], '') AS role,
            0. AS fund
        FROM stock_moves
        WHERE kind IN ('purchase', 'stock_in', 'purchase_return', 'stock_out')
            AND drug != ''
            AND lot != ''
    ),
    -- A share is the event's quantity by its codes, so that the rows of an event
    -- together move its quantity once. Packs are counted in 10^-12, whole numbers,
    -- so that sums are the same in any order.
    counted AS
    (
        SELECT
            m.org AS org,
            m.drug AS drug,
            m.lot AS lot,
            m.time AS time,
            m.event_id AS event_id,
            m.code_key AS code_key,
            m.person AS person,
            m.region AS region,
            m.role AS role,
            m.fund AS fund,
            if(p.smallest AND p.units > 0, p.units, d.units) AS units,
            multiIf(NOT m.split, m.share, units > 0, m.share / units, 0.) AS packs,
            toInt128(round(packs * 1e12)) * if(m.role IN ('purchased', 'received'), -1, 1) AS beyond
        FROM moves AS m
        LEFT JOIN pack_sizes AS p ON p.product = m.product
        LEFT JOIN smallest AS d ON d.drug = m.drug
    ),
    balanced AS
    (
        SELECT
            *,
            sum(beyond) OVER same AS excess,
            max(role = 'purchased') OVER same AS bought
        FROM counted
        WINDOW same AS (PARTITION BY org, drug, lot)
    ),
    oversold AS
    (
        SELECT
            org,
            drug,
            lot,
            toFloat64(any(excess)) / 1e12 AS too_many,
            toFloat64(sumIf(beyond, role = 'sold')) / 1e12 AS sold,
            sum(fund) AS fund,
            max(time) AS last,
            groupArray((time, org, event_id, role, code_key, person, region)) AS proof
        FROM balanced
        WHERE bought AND excess > toInt128({margin:UInt32}) * 1000000000000 + 1000000
        GROUP BY
            org,
            drug,
            lot
    ),
    names AS
    (
        SELECT
            drug,
            min(name) AS title
        FROM drugs
        WHERE name != ''
        GROUP BY drug
    )
SELECT
    concat(s.org, '/', s.drug, '/', s.lot) AS entity_id,
    round(s.too_many, 6) AS score,
    if(s.sold > 0, s.fund * least(1, s.too_many / s.sold), 0.) AS amount,
    concat(
        if(o.name != '', o.name, s.org), if(n.title != '', concat(' ', n.title, '(', s.drug, ')'), concat(' 药品 ', s.drug)),
        ' 批号 ', s.lot, ' 净进货 ', toString(round(s.sold - s.too_many, 2)), ' 盒，截至 ', formatDateTime(s.last, '%F'),
        ' 已售 ', toString(round(s.sold, 2)), ' 盒，多售 ', toString(round(s.too_many, 2)), ' 盒') AS reason,
    arraySort(arrayMap(r -> (r.1, toString(r.2), r.3, r.4, r.5, r.6, toString(r.7)), arrayDistinct(s.proof))) AS evidence
FROM oversold AS s
LEFT JOIN org_facts AS o ON o.org = s.org
LEFT JOIN names AS n ON n.drug = s.drug
