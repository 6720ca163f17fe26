-- version: 1
-- title: Returns and voids that come too late
-- title_zh: 转售之后才退货撤销
-- status: live
-- severity: medium
-- entity: org
-- param: count UInt32 = 3 · return and void events that came too late, at least
SELECT
    l.org AS entity_id,
    toFloat64(uniqExact(l.event_id, l.digest)) AS score,
    0. AS amount,
    concat(
        any(if(a.name != '', a.name, l.org)), ' 于 ', formatDateTime(min(l.time), '%F'), ' 至 ', formatDateTime(max(l.time), '%F'),
        ' 有 ', toString(uniqExactIf((l.event_id, l.digest), l.kind = 'sale_return')), ' 次退货、',
        toString(uniqExactIf((l.event_id, l.digest), l.kind = 'void')), ' 次撤销来得太晚，涉及 ',
        toString(uniqExact(l.code_key)), ' 个追溯码，如 ',
        argMin(l.code_key, (l.time, l.event_id, l.digest, l.code_key)), ' 于 ',
        formatDateTime(argMin(l.sale_time, (l.time, l.event_id, l.digest, l.code_key)), '%F %H:%i'), ' 售出，',
        formatDateTime(argMin(l.elsewhere_time, (l.time, l.event_id, l.digest, l.code_key)), '%F %H:%i'), ' 已在',
        argMin(if(b.name != '', b.name, l.elsewhere_org), (l.time, l.event_id, l.digest, l.code_key)), '售出，',
        formatDateTime(min(l.time), '%F %H:%i'), ' 才',
        argMin(if(l.kind = 'void', '撤销', '退货'), (l.time, l.event_id, l.digest, l.code_key))) AS reason,
    arraySort(groupUniqArrayArray([
        (l.sale_time, l.org, l.sale_event, 'sold_first', l.code_key, l.sale_person, l.region),
        (l.elsewhere_time, l.elsewhere_org, l.elsewhere_event, 'sold_elsewhere', l.code_key, '', l.elsewhere_region),
        (l.time, l.org, l.event_id, if(l.kind = 'void', 'voided_late', 'returned_late'), l.code_key, l.sale_person, l.region)])) AS evidence
FROM late_reversals AS l
LEFT JOIN org_facts AS a ON a.org = l.org
LEFT JOIN org_facts AS b ON b.org = l.elsewhere_org
GROUP BY l.org
HAVING uniqExact(l.event_id, l.digest) >= {count:UInt32}
