-- version: 1
-- title: Settled while suspended
-- title_zh: 暂停、终止协议期间医保结算
-- status: live
-- severity: high
-- entity: org
WITH
    bans AS
    (
        SELECT
            org,
            arraySort(groupUniqArray((
                ifNull(status_from, toDate32('1900-01-01')),
                ifNull(status_to, toDate32('2299-12-31')),
                toString(status)))) AS bans
        FROM orgs
        WHERE status IN ('suspended', 'ended')
        GROUP BY org
    ),
    -- Rows of a history may overlap; a sale counts once, with the first that holds it.
    banned AS
    (
        SELECT
            s.org AS org,
            s.time AS time,
            s.event_id AS event_id,
            s.code_key AS code_key,
            s.person AS person,
            s.region AS region,
            if(s.undone, 0, s.paid) AS paid,
            arrayFirst(b -> toDate32(s.time) >= b.1 AND toDate32(s.time) <= b.2, h.bans) AS ban
        FROM
        (
            SELECT *
            FROM sales
            WHERE pay = 'insured'
                AND org IN (SELECT org FROM bans)
        ) AS s
        INNER JOIN bans AS h ON h.org = s.org
        WHERE arrayExists(b -> toDate32(s.time) >= b.1 AND toDate32(s.time) <= b.2, h.bans)
    )
SELECT
    s.org AS entity_id,
    toFloat64(uniqExact(s.event_id)) AS score,
    sum(s.paid) AS amount,
    concat(
        if(any(o.name) != '', any(o.name), s.org),
        if(argMin(s.ban.1, (s.time, s.event_id)) = toDate32('1900-01-01'), '', concat(' 自 ', toString(argMin(s.ban.1, (s.time, s.event_id))))),
        multiIf(
            argMin(s.ban.2, (s.time, s.event_id)) != toDate32('2299-12-31'), concat(' 至 ', toString(argMin(s.ban.2, (s.time, s.event_id))), ' '),
            argMin(s.ban.1, (s.time, s.event_id)) != toDate32('1900-01-01'), ' 起',
            ''),
        if(argMin(s.ban.3, (s.time, s.event_id)) = 'ended', '已终止', '被暂停'), '医保协议，却于 ', formatDateTime(min(s.time), '%F'),
        if(toDate32(min(s.time)) = toDate32(max(s.time)), '', concat(' 至 ', formatDateTime(max(s.time), '%F'))),
        ' 医保结算 ', toString(uniqExact(s.event_id)), ' 笔，涉及 ', toString(uniqExactIf(s.person, s.person != '')), ' 名参保人') AS reason,
    arraySort(groupUniqArray((s.time, s.org, s.event_id, 'settled_while_suspended', s.code_key, s.person, s.region))) AS evidence
FROM banned AS s
LEFT JOIN org_facts AS o ON o.org = s.org
GROUP BY s.org
