-- version: 1
-- title: Impossible travel of a card
-- title_zh: 同卡短时异地结算
-- status: live
-- severity: medium
-- entity: person
-- part: person
-- param: min_km Float64 = 50 · farther apart than
-- param: kmh Float64 = 150 · faster than
WITH
    -- Candidates, not findings: cards used at more than one org.
    travellers AS
    (
        SELECT person
        FROM sales
        WHERE pay = 'insured' AND person != ''
        GROUP BY person
        HAVING min(org) != max(org)
    ),
    visits AS
    (
        SELECT
            s.person AS person,
            s.time AS time,
            s.org AS org,
            s.event_id AS event_id,
            s.region AS region,
            arraySort(groupUniqArray(s.code_key)) AS codes,
            sum(s.paid) AS paid,
            any(o.placed) OR any(isNotNull(r.lat) AND isNotNull(r.lon)) AS placed,
            if(any(o.placed), any(o.place), (any(ifNull(r.lat, 0)), any(ifNull(r.lon, 0)))) AS place,
            if(any(o.name) != '', any(o.name), s.org) AS name
        FROM sales AS s
        LEFT JOIN org_facts AS o ON o.org = s.org
        LEFT JOIN regions AS r ON r.region = s.region
        WHERE s.pay = 'insured'
            AND s.person IN (SELECT person FROM travellers)
        GROUP BY
            person,
            time,
            org,
            event_id,
            region
    ),
    legs AS
    (
        SELECT
            *,
            row_number() OVER trip AS nth,
            lagInFrame((time, org, event_id, codes, region, placed, place, name)) OVER (trip ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS previous,
            greatCircleDistance(previous.7.2, previous.7.1, place.2, place.1) / 1000 AS km,
            dateDiff('millisecond', previous.1, time) / 3600000 AS hours
        FROM visits
        WINDOW trip AS (PARTITION BY person ORDER BY time, org, event_id, region)
    )
SELECT
    person AS entity_id,
    toFloat64(max(least(km / greatest(hours, 1 / 60), 9999))) AS score,
    sum(paid) AS amount,
    concat(
        '参保人 ', person, ' 于 ', formatDateTime(min(previous.1), '%F %H:%i'), ' 在', argMin(previous.8, (time, org, event_id)), '结算，',
        multiIf(argMin(hours, (time, org, event_id)) AS gap = 0, '同一时刻', gap < 1, concat(toString(greatest(1, round(gap * 60))), ' 分钟后'), concat(toString(round(gap, 1)), ' 小时后')), '在 ', toString(round(argMin(km, (time, org, event_id)))), ' 公里外的', argMin(name, (time, org, event_id)),
        '再次结算', if(count() > 1, concat('，此类情形共 ', toString(count()), ' 次'), '')) AS reason,
    arraySort(groupUniqArrayArray(arrayConcat(
        arrayMap(c -> (previous.1, previous.2, previous.3, 'card_here', c, person, previous.5), previous.4),
        arrayMap(c -> (time, org, event_id, 'card_there', c, person, region), codes)))) AS evidence
FROM legs
WHERE nth > 1
    AND placed
    AND previous.6
    AND km > {min_km:Float64}
    AND km > {kmh:Float64} * hours
GROUP BY person
