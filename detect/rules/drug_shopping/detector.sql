-- version: 1
-- title: One drug from many shops
-- title_zh: 短期多机构重复购药
-- status: live
-- severity: medium
-- entity: person
-- part: person
-- param: orgs UInt32 = 3 · different orgs, at least
-- param: days UInt32 = 7 · they fall within, × 24 h
WITH
    bought AS
    (
        SELECT
            person,
            drug,
            groupArray((time, org, event_id, code_key, region, paid)) AS rows
        FROM effective_sales
        WHERE person != '' AND drug != ''
        GROUP BY
            person,
            drug
        HAVING uniqExact(org) >= {orgs:UInt32}
    ),
    -- How many orgs fall within the days that each sale opens.
    windows AS
    (
        SELECT
            *,
            arrayMap(
                a -> length(arrayDistinct(arrayMap(b -> b.2, arrayFilter(b -> b.1 >= a.1 AND b.1 <= a.1 + toIntervalHour({days:UInt32} * 24), rows)))),
                rows) AS ahead
        FROM bought
    ),
    proven AS
    (
        SELECT
            person,
            drug,
            rows,
            arrayMax(ahead) AS most,
            arrayMap(a -> a.1, arrayFilter((a, n) -> n >= {orgs:UInt32}, rows, ahead)) AS starts
        FROM windows
        WHERE most >= {orgs:UInt32}
    ),
    proofs AS
    (
        SELECT
            person,
            drug,
            most,
            arraySort(arrayFilter(r -> arrayExists(s -> r.1 >= s AND r.1 <= s + toIntervalHour({days:UInt32} * 24), starts), rows)) AS proof
        FROM proven
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
    p.person AS entity_id,
    toFloat64(max(p.most)) AS score,
    sum(arraySum(r -> if((r.1, r.2, r.3) = (p.proof[1].1, p.proof[1].2, p.proof[1].3), 0., r.6), p.proof)) AS amount,
    concat(
        '参保人 ', p.person, ' 于 ', formatDateTime(min(p.proof[1].1), '%F'), ' 至 ', formatDateTime(max(p.proof[-1].1), '%F'),
        ' 购买', argMax(if(n.title != '', concat(n.title, '(', p.drug, ')'), concat(' ', p.drug, ' ')), (p.most, p.drug)),
        toString({days:UInt32}), ' 天内最多涉及 ', toString(max(p.most)), ' 家机构',
        if(count() > 1, concat('；共 ', toString(count()), ' 种药品有此情形'), '')) AS reason,
    arraySort(groupUniqArrayArray(arrayMap(r -> (r.1, r.2, r.3, 'bought', r.4, p.person, r.5), p.proof))) AS evidence
FROM proofs AS p
LEFT JOIN names AS n ON n.drug = p.drug
GROUP BY p.person
