-- version: 1
-- title: Sold after its expiry date
-- title_zh: 过期药品售出
-- status: live
-- severity: medium
-- entity: code
WITH
    late AS
    (
        SELECT
            code_key,
            time,
            org,
            event_id,
            person,
            region,
            pay = 'insured' AS insured,
            if(insured AND NOT undone, paid, 0) AS paid,
            undone,
            assumeNotNull(expires) AS best_before,
            dateDiff('day', best_before, toDate32(time)) AS days_over
        FROM sales
        WHERE item
            AND isNotNull(expires)
            AND toDate32(time) > expires
    )
SELECT
    s.code_key AS entity_id,
    toFloat64(max(s.days_over)) AS score,
    sum(s.paid) AS amount,
    concat(
        '追溯码 ', s.code_key, ' 有效期至 ', toString(argMin(s.best_before, (s.time, s.org, s.event_id))),
        '，却于 ', formatDateTime(min(s.time), '%F'), ' 在', argMin(if(o.name != '', o.name, s.org), (s.time, s.org, s.event_id)),
        argMin(if(s.insured, '医保结算', '自费售出'), (s.time, s.org, s.event_id)),
        '，已过期 ', toString(argMin(s.days_over, (s.time, s.org, s.event_id))), ' 天',
        if(count() > 1, concat('；过期后共售出 ', toString(count()), ' 次'), ''),
        if(countIf(s.undone) > 0, concat('，其中 ', toString(countIf(s.undone)), ' 次已退货'), '')) AS reason,
    arraySort(groupArray((s.time, s.org, s.event_id, if(s.insured, 'sold_expired', 'sold_expired_for_cash'), s.code_key, s.person, s.region))) AS evidence
FROM late AS s
LEFT JOIN org_facts AS o ON o.org = s.org
GROUP BY s.code_key
