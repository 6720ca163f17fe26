-- version: 1
-- title: Burst of cards at one device
-- title_zh: 短时间多人刷卡(疑似套刷)
-- status: live
-- severity: medium
-- entity: device
-- param: persons UInt32 = 10 · different persons
-- param: minutes UInt32 = 5 · within
-- param: times Float64 = 3 · of what is usual at the device
WITH
    -- Candidates, not findings: a window of so many minutes touches two clock
    -- slots of that length, and one of them has half of its persons.
    crowded AS
    (
        SELECT
            org,
            device
        FROM scan_rows
        WHERE kind = 'sale' AND pay = 'insured' AND device != '' AND person != ''
        GROUP BY
            org,
            device,
            intDiv(toUnixTimestamp64Milli(time), {minutes:UInt32} * 60000)
        HAVING uniqExact(person) * 2 >= {persons:UInt32}
    ),
    swipes AS
    (
        SELECT
            org,
            device,
            time,
            person,
            min(event_id) AS event_id,
            min(code_key) AS code_key,
            min(region) AS region,
            sum(paid) AS paid
        FROM sales
        WHERE pay = 'insured'
            AND (org, device) IN (SELECT org, device FROM crowded)
        GROUP BY
            org,
            device,
            time,
            person
    ),
    windows AS
    (
        SELECT
            *,
            uniqExactIf(person, person != '') OVER following AS n,
            max(time) OVER following AS until
        FROM swipes
        WINDOW following AS (
            PARTITION BY org, device
            ORDER BY toUnixTimestamp64Milli(time)
            RANGE BETWEEN CURRENT ROW AND {minutes:UInt32} * 60000 FOLLOWING)
    ),
    slots AS
    (
        SELECT
            org,
            device,
            groupArray((day, n)) AS usual
        FROM
        (
            SELECT
                org,
                device,
                toDate(time) AS day,
                toStartOfFiveMinutes(time) AS slot,
                uniqExactIf(person, person != '') AS n
            FROM swipes
            WHERE (org, device) IN (SELECT org, device FROM windows WHERE n >= {persons:UInt32})
            GROUP BY org, device, day, slot
        )
        GROUP BY org, device
    ),
    bursts AS
    (
        SELECT
            w.org AS org,
            w.device AS device,
            w.time AS since,
            w.until AS until,
            w.n AS n,
            arraySort(arrayMap(s -> s.2, arrayFilter(s -> s.1 != toDate(w.time) AND s.1 != toDate(w.until), slots.usual))) AS others,
            if(length(others) < 20, 0, others[toUInt32(ceil(0.95 * length(others)))]) AS usual
        FROM windows AS w
        INNER JOIN slots ON slots.org = w.org AND slots.device = w.device
        WHERE w.n >= {persons:UInt32} AND w.n >= {times:Float64} * usual
    )
SELECT
    concat(b.org, '/', b.device) AS entity_id,
    toFloat64(max(b.n)) AS score,
    arraySum(arrayMap(s -> s.8, groupUniqArray((s.time, s.org, s.event_id, 'burst', s.code_key, s.person, s.region, s.paid)) AS swiped)) AS amount,
    concat(
        if(any(o.name) != '', any(o.name), b.org), ' 的终端 ', b.device, ' 于 ', formatDateTime(argMin(b.since, (-toInt64(b.n), b.since)), '%F %H:%i'),
        ' 起 ', toString({minutes:UInt32}), ' 分钟内有 ', toString(max(b.n)), ' 名参保人医保结算,平日同长时段为 ',
        toString(argMin(b.usual, (-toInt64(b.n), b.since))), ' 人') AS reason,
    arraySort(arrayMap(s -> (s.1, s.2, s.3, s.4, s.5, s.6, s.7), swiped)) AS evidence
FROM bursts AS b
INNER JOIN swipes AS s ON s.org = b.org AND s.device = b.device
LEFT JOIN org_facts AS o ON o.org = b.org
WHERE s.time >= b.since AND s.time <= b.until
GROUP BY
    b.org,
    b.device
