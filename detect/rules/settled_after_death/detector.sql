-- version: 1
-- title: Settled after the person's death
-- title_zh: 死亡后仍医保结算
-- status: live
-- severity: high
-- entity: person
-- same: 死亡日期 = 已于 (\S+) 死亡
WITH
    dead AS
    (
        SELECT
            person,
            assumeNotNull(died_on) AS death
        FROM persons
        WHERE isNotNull(died_on)
    ),
    after AS
    (
        SELECT
            s.person AS person,
            s.time AS time,
            s.org AS org,
            s.event_id AS event_id,
            s.code_key AS code_key,
            s.region AS region,
            if(s.undone, 0, s.paid) AS paid,
            d.death AS death
        FROM
        (
            SELECT *
            FROM sales
            WHERE pay = 'insured'
                AND setting != 'inpatient'
                AND person != ''
                AND person IN (SELECT person FROM dead)
        ) AS s
        INNER JOIN dead AS d ON d.person = s.person
        WHERE toDate32(s.time) > d.death
    )
SELECT
    s.person AS entity_id,
    toFloat64(uniqExact(s.org, s.event_id)) AS score,
    sum(s.paid) AS amount,
    concat(
        '参保人 ', s.person, ' 已于 ', toString(any(s.death)), ' 死亡，',
        toString(dateDiff('day', any(s.death), toDate32(min(s.time)))), ' 天后（', formatDateTime(min(s.time), '%F'), '）仍在',
        argMin(if(o.name != '', o.name, s.org), (s.time, s.org, s.event_id)), '医保结算',
        if(uniqExact(s.org, s.event_id) > 1, concat('；至 ', formatDateTime(max(s.time), '%F'), ' 共 ', toString(uniqExact(s.org, s.event_id)), ' 笔，涉及 ', toString(uniqExact(s.org)), ' 家机构'), '')) AS reason,
    arraySort(groupUniqArray((s.time, s.org, s.event_id, 'settled_after_death', s.code_key, s.person, s.region))) AS evidence
FROM after AS s
LEFT JOIN org_facts AS o ON o.org = s.org
GROUP BY s.person
