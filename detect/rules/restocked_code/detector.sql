-- version: 2
-- title: Settled code back in stock elsewhere
-- title_zh: 已结算药品在他处入库
-- status: live
-- severity: high
-- entity: code
-- urgent: 尚可在再次售出前查获
WITH
    -- Each restock with each sale of the box that stands, of whatever pay. The engine
    -- may hold either side in memory, so sales of other boxes are left out first.
    lives AS
    (
        SELECT
            r.code_key AS code_key,
            r.time AS time,
            r.org AS org,
            r.event_id AS event_id,
            multiIf(r.kind = 'purchase', '采购', r.kind = 'stock_in', '入库', '盘存') AS book,
            r.person AS person,
            r.region AS region,
            r.sale_time AS sale_time,
            r.sale_org AS sale_org,
            r.sale_event AS sale_event,
            r.sale_person AS sale_person,
            r.sale_region AS sale_region,
            s.time AS any_time,
            s.org AS any_org,
            if(s.pay = 'self', '自费', '医保') AS any_pay,
            s.event_id AS any_event
        FROM
        (
            SELECT
                code,
                code_text,
                time,
                org,
                pay,
                event_id
            FROM sales
            WHERE item AND NOT undone AND code IN (SELECT code FROM restocks)
        ) AS s
        RIGHT JOIN restocks AS r ON r.code = s.code AND r.code_text = s.code_text
    )
SELECT
    l.code_key AS entity_id,
    toFloat64(uniqExact(l.org, l.event_id)) AS score,
    0. AS amount,
    concat(
        '追溯码 ', l.code_key, ' 于 ', formatDateTime(min(l.sale_time), '%F'),
        ' 在', argMin(if(a.name != '', a.name, l.sale_org), (l.time, l.org, l.event_id)), '医保结算，',
        multiIf(
            dateDiff('millisecond', argMin(l.sale_time, (l.time, l.org, l.event_id)), min(l.time)) AS gap < 3600000, concat(toString(greatest(1, round(gap / 60000))), ' 分钟'),
            gap < 86400000, concat(toString(round(gap / 3600000, 1)), ' 小时'),
            concat(toString(round(gap / 86400000, 1)), ' 天')), '后出现在',
        argMin(if(b.name != '', b.name, l.org), (l.time, l.org, l.event_id)), '的', argMin(l.book, (l.time, l.org, l.event_id)), '记录中，',
        if(countIf(l.any_time > l.time) > 0, concat(
            '其后已于 ', formatDateTime(minIf(l.any_time, l.any_time > l.time), '%F'), ' 在',
            argMinIf(concat(if(c.name != '', c.name, l.any_org), l.any_pay), (l.any_time, l.any_org, l.any_event), l.any_time > l.time), '再次售出'), ''),
        -- Whoever took it in last may still have it.
        if(max(l.any_time) > max(l.time), '', concat(
            if(countIf(l.any_time > l.time) > 0, concat(
                '，', formatDateTime(max(l.time), '%F'), ' 又出现在', argMax(if(b.name != '', b.name, l.org), (l.time, l.org, l.event_id)),
                '的', argMax(l.book, (l.time, l.org, l.event_id)), '记录中，'), ''),
            '尚可在再次售出前查获'))) AS reason,
    arraySort(groupUniqArrayArray([
        (l.sale_time, l.sale_org, l.sale_event, 'sold_first', l.code_key, l.sale_person, l.sale_region),
        (l.time, l.org, l.event_id, 'restocked', l.code_key, l.person, l.region)])) AS evidence
FROM lives AS l
LEFT JOIN org_facts AS a ON a.org = l.sale_org
LEFT JOIN org_facts AS b ON b.org = l.org
LEFT JOIN org_facts AS c ON c.org = l.any_org
GROUP BY l.code_key
