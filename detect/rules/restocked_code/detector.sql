-- version: 1
-- title: Settled code back in stock elsewhere
-- title_zh: 已结算药品在他处入库
-- status: live
-- severity: high
-- entity: code
SELECT
    r.code_key AS entity_id,
    toFloat64(uniqExact(r.org, r.event_id)) AS score,
    0. AS amount,
    concat(
        '追溯码 ', r.code_key, ' 于 ', formatDateTime(min(r.sale_time), '%F'),
        ' 在', argMin(if(a.name != '', a.name, r.sale_org), (r.time, r.org, r.event_id)), '医保结算，',
        toString(round(dateDiff('millisecond', argMin(r.sale_time, (r.time, r.org, r.event_id)), min(r.time)) / 86400000, 1)), ' 天后出现在',
        argMin(if(b.name != '', b.name, r.org), (r.time, r.org, r.event_id)), '的',
        argMin(multiIf(r.kind = 'purchase', '采购', r.kind = 'stock_in', '入库', '盘存'), (r.time, r.org, r.event_id)), '记录中，尚可在再次售出前查获') AS reason,
    arraySort(groupUniqArrayArray([
        (r.sale_time, r.sale_org, r.sale_event, 'sold_first', r.code_key, r.sale_person, r.sale_region),
        (r.time, r.org, r.event_id, 'restocked', r.code_key, r.person, r.region)])) AS evidence
FROM restocks AS r
LEFT JOIN org_facts AS a ON a.org = r.sale_org
LEFT JOIN org_facts AS b ON b.org = r.org
GROUP BY r.code_key
