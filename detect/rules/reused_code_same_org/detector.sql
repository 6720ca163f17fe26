-- version: 1
-- title: Code reused at one institution
-- title_zh: 疑似串换(同机构重复结算)
-- status: live
-- severity: medium
-- entity: code
SELECT
    concat(u.org, '/', u.code_key) AS entity_id,
    toFloat64(count()) AS score,
    sum(u.paid) - argMin(u.paid, (u.time, u.event_id)) AS amount,
    concat(
        '追溯码 ', u.code_key, ' 于 ', formatDateTime(min(u.time), '%F'), ' 至 ', formatDateTime(max(u.time), '%F'),
        ' 在', if(any(o.name) != '', any(o.name), u.org), '医保结算 ', toString(count()), ' 次',
        if(countIf(u.split) > 0, concat('（其中拆零 ', toString(countIf(u.split)), ' 次）'), ''),
        '，合计取用 ', toString(round(round(sum(u.takes), 6), 2)), ' 盒', if(min(u.takes) = 0, '以上', ''),
        '，该码只有 ', toString(any(u.holds)), ' 盒，涉及 ',
        toString(uniqExactIf(u.person, u.person != '')), ' 名参保人') AS reason,
    arraySort(groupArray((u.time, u.org, u.event_id, if(u.split, 'split_sold', 'sold'), u.code_key, u.person, u.region))) AS evidence
FROM code_uses AS u
LEFT JOIN org_facts AS o ON o.org = u.org
GROUP BY
    u.org,
    u.code_key
HAVING count() >= 2
    AND ((any(u.holds) > 0 AND sum(u.takes) > any(u.holds) + 1e-9)
        OR (any(u.smallest) AND countIf(NOT u.split) > 0))
