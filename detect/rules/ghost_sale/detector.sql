-- version: 1
-- title: Sold box still in stock
-- title_zh: 空刷(售出药品仍在库)
-- status: live
-- severity: medium
-- entity: code
WITH
    -- Boxes of an org with a sale and a later entry in its books. Stock lists name
    -- every box there is, so both sides are grouped, which spills, and not joined.
    boxes AS
    (
        SELECT
            org,
            code,
            code_text,
            any(code_key) AS code_key,
            any(product) AS product,
            arraySort(groupArrayIf((time, event_id, person, region, paid), sold)) AS sales,
            arraySort(groupArrayIf((time, event_id, kind, region), NOT sold)) AS moves
        FROM
        (
            SELECT
                org,
                code,
                code_text,
                code_key,
                product,
                time,
                event_id,
                toString(kind) AS kind,
                person,
                region,
                paid,
                true AS sold
            FROM effective_sales
            WHERE NOT split
                AND code IN (SELECT code FROM stock_moves WHERE kind IN ('stock_take', 'stock_out', 'purchase_return') AND item)
            UNION ALL
            SELECT
                org,
                code,
                code_text,
                code_key,
                product,
                time,
                event_id,
                toString(kind) AS kind,
                '' AS person,
                region,
                0. AS paid,
                false AS sold
            FROM stock_moves
            WHERE kind IN ('stock_take', 'stock_out', 'purchase_return')
                AND item
        )
        GROUP BY
            org,
            code,
            code_text
        HAVING countIf(sold) > 0
            AND minIf(time, sold) < maxIf(time, NOT sold)
    ),
    ghosts AS
    (
        SELECT
            org,
            code_key,
            product,
            arrayFilter(s -> s.1 < moves[-1].1, boxes.sales) AS sales,
            arrayFilter(m -> m.1 > boxes.sales[1].1, boxes.moves) AS moves
        FROM boxes
    )
SELECT
    concat(g.org, '/', g.code_key) AS entity_id,
    toFloat64(length(g.moves)) AS score,
    arraySum(arrayMap(s -> s.5, g.sales)) AS amount,
    concat(
        '追溯码 ', g.code_key, ' 于 ', formatDateTime(g.sales[1].1, '%F'), ' 在', if(o.name != '', o.name, g.org), '医保结算，',
        multiIf(
            dateDiff('millisecond', g.sales[1].1, g.moves[1].1) AS gap < 3600000, concat(toString(greatest(1, round(gap / 60000))), ' 分钟'),
            gap < 86400000, concat(toString(round(gap / 3600000, 1)), ' 小时'),
            concat(toString(round(gap / 86400000, 1)), ' 天')), '后仍出现在该机构的',
        multiIf(g.moves[1].3 = 'stock_take', '盘存', g.moves[1].3 = 'stock_out', '出库', '采购退货'), '记录中，药品可能未交给参保人',
        if(length(g.sales) > 1, concat('；此类结算 ', toString(length(g.sales)), ' 次'), ''),
        if(length(g.moves) > 1, concat('；结算后库存记录共 ', toString(length(g.moves)), ' 次'), '')) AS reason,
    arraySort(arrayConcat(
        arrayMap(s -> (s.1, g.org, s.2, 'sold', g.code_key, s.3, s.4), g.sales),
        arrayMap(m -> (m.1, g.org, m.2, multiIf(m.3 = 'stock_take', 'counted', m.3 = 'stock_out', 'moved_out', 'sent_back'), g.code_key, '', m.4), g.moves))) AS evidence
FROM ghosts AS g
LEFT JOIN pack_sizes AS p ON p.product = g.product
LEFT JOIN org_facts AS o ON o.org = g.org
WHERE p.product = '' OR p.smallest
