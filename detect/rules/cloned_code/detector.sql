-- version: 1
-- title: Cloned code
-- title_zh: 疑似假药(克隆码)
-- status: live
-- severity: high
-- entity: code
-- param: clone_days UInt32 = 3 · longer gaps are resold_code
SELECT
    p.code_key AS entity_id,
    toFloat64(count()) AS score,
    sum(p.second_paid) AS amount,
    concat(
        '追溯码 ', p.code_key, ' 于 ', formatDateTime(min(p.first_time), '%F'),
        ' 在', argMin(if(a.name != '', a.name, p.first_org), (p.first_time, p.first_org, p.first_event)), '医保结算，',
        multiIf(argMin(p.gap_hours, (p.first_time, p.first_org, p.first_event)) AS gap = 0, '同一时刻', gap < 1, concat(toString(greatest(1, round(gap * 60))), ' 分钟后'), concat(toString(round(gap, 1)), ' 小时后')), '在',
        argMin(if(b.name != '', b.name, p.second_org), (p.first_time, p.first_org, p.first_event)), '再次医保结算，',
        argMin(multiIf(p.first_person = '' OR p.second_person = '', '参保人信息不全', p.first_person = p.second_person, '两次参保人相同', '两次参保人不同'), (p.first_time, p.first_org, p.first_event)),
        if(count() > 1, concat('；共 ', toString(count()), ' 次短时间跨机构结算'), '')) AS reason,
    arraySort(groupUniqArrayArray([
        (p.first_time, p.first_org, p.first_event, 'sold_first', p.code_key, p.first_person, p.first_region),
        (p.second_time, p.second_org, p.second_event, 'sold_again', p.code_key, p.second_person, p.second_region)])) AS evidence
FROM sale_pairs AS p
LEFT JOIN org_facts AS a ON a.org = p.first_org
LEFT JOIN org_facts AS b ON b.org = p.second_org
WHERE p.gap_hours <= {clone_days:UInt32} * 24
GROUP BY p.code_key
