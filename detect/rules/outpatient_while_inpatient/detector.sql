-- version: 1
-- title: Outpatient purchase during a hospital stay
-- title_zh: 住院期间门诊、药店购药
-- status: live
-- severity: medium
-- entity: person
WITH
    stays AS
    (
        SELECT
            person,
            arraySort(groupArray((
                admitted,
                ifNull(discharged, toDateTime64('2299-12-31 00:00:00', 3, 'Asia/Shanghai')),
                org,
                isNull(discharged)))) AS stays
        FROM inpatient
        GROUP BY person
    ),
    -- Stays may overlap; a sale counts once, with the first stay that holds it.
    outside AS
    (
        SELECT
            s.person AS person,
            s.time AS time,
            s.org AS org,
            s.event_id AS event_id,
            s.code_key AS code_key,
            s.region AS region,
            if(s.undone, 0, s.paid) AS paid,
            arrayFirst(i -> s.time > i.1 AND s.time < i.2, h.stays) AS stay
        FROM
        (
            SELECT *
            FROM sales
            WHERE pay = 'insured'
                AND setting IN ('pharmacy', 'outpatient')
                AND person != ''
                AND person IN (SELECT person FROM inpatient)
        ) AS s
        INNER JOIN stays AS h ON h.person = s.person
        WHERE arrayExists(i -> s.time > i.1 AND s.time < i.2, h.stays)
    )
SELECT
    s.person AS entity_id,
    toFloat64(uniqExact(s.org, s.event_id)) AS score,
    sum(s.paid) AS amount,
    concat(
        '参保人 ', s.person, ' 于 ', formatDateTime(argMin(s.stay.1, (s.time, s.org, s.event_id)), '%F'), ' 起在', argMin(if(h.name != '', h.name, s.stay.3), (s.time, s.org, s.event_id)), '住院',
        argMin(if(s.stay.4, '（尚未出院）', concat('，', formatDateTime(s.stay.2, '%F'), ' 出院')), (s.time, s.org, s.event_id)),
        '，期间于 ', formatDateTime(min(s.time), '%F'), ' 在', argMin(if(s.org = s.stay.3, '同一机构门诊', if(o.name != '', o.name, s.org)), (s.time, s.org, s.event_id)), '医保结算',
        if(uniqExact(s.org, s.event_id) > 1, concat('；住院期间此类结算共 ', toString(uniqExact(s.org, s.event_id)), ' 笔'), '')) AS reason,
    arraySort(groupUniqArray((s.time, s.org, s.event_id, 'sold_during_stay', s.code_key, s.person, s.region))) AS evidence
FROM outside AS s
LEFT JOIN org_facts AS o ON o.org = s.org
LEFT JOIN org_facts AS h ON h.org = s.stay.3
GROUP BY s.person
