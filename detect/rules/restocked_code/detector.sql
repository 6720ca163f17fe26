-- version: 1
-- title: Settled code back in stock elsewhere
-- title_zh: 已结算药品在他处入库
-- status: live
-- severity: high
-- entity: code
WITH
    stocked AS
    (
        SELECT
            code,
            code_text,
            code_key,
            product,
            time,
            org,
            event_id,
            kind,
            person,
            region
        FROM stock_moves
        WHERE kind IN ('purchase', 'stock_in', 'stock_take') AND item
    ),
    sold AS
    (
        SELECT
            code,
            code_text,
            arraySort(groupArray((time, org, event_id, person, region, paid))) AS sales
        FROM effective_sales
        WHERE code IN (SELECT code FROM moved_codes)
        GROUP BY code, code_text
    ),
    caught AS
    (
        SELECT
            stocked.*,
            arrayLast(s -> s.1 < stocked.time AND s.2 != stocked.org, sold.sales) AS sale,
            sale.2 != '' AS found
        FROM stocked
        INNER JOIN sold ON sold.code = stocked.code AND sold.code_text = stocked.code_text
        LEFT JOIN pack_sizes AS p ON p.product = stocked.product
        WHERE p.product = '' OR p.smallest
    )
SELECT
    c.code_key AS entity_id,
    toFloat64(uniqExact(c.org, c.event_id)) AS score,
    0. AS amount,
    concat(
        '追溯码 ', c.code_key, ' 于 ', formatDateTime(min(c.sale.1), '%F'),
        ' 在', argMin(if(a.name != '', a.name, c.sale.2), (c.time, c.org, c.event_id)), '医保结算，',
        toString(round(dateDiff('millisecond', argMin(c.sale.1, (c.time, c.org, c.event_id)), min(c.time)) / 86400000, 1)), ' 天后出现在',
        argMin(if(b.name != '', b.name, c.org), (c.time, c.org, c.event_id)), '的',
        argMin(multiIf(c.kind = 'purchase', '采购', c.kind = 'stock_in', '入库', '盘存'), (c.time, c.org, c.event_id)), '记录中，尚可在再次售出前查获') AS reason,
    arraySort(groupUniqArrayArray([
        (c.sale.1, c.sale.2, c.sale.3, 'sold_first', c.code_key, c.sale.4, c.sale.5),
        (c.time, c.org, c.event_id, 'restocked', c.code_key, c.person, c.region)])) AS evidence
FROM caught AS c
LEFT JOIN org_facts AS a ON a.org = c.sale.2
LEFT JOIN org_facts AS b ON b.org = c.org
WHERE c.found
GROUP BY c.code_key
