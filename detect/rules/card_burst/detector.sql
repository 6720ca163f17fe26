-- version: 1
-- title: Burst of cards at one device
-- title_zh: 短时间多人刷卡(疑似套刷)
-- status: live
-- severity: medium
-- entity: device
-- part: org
-- amount: turnover
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
        FROM sales
        WHERE pay = 'insured' AND device != '' AND person != ''
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
    devices AS
    (
        SELECT
            org,
            device,
            groupArrayIf((time, until, n), n >= {persons:UInt32}) AS crowds,
            groupArray((time, org, event_id, 'burst', code_key, person, region, paid)) AS swiped
        FROM windows
        GROUP BY
            org,
            device
        HAVING notEmpty(crowds)
    ),
    -- Most crowds of a busy device are usual there, and one look at all its slots
    -- shows it: a date has 288 slots of 5 minutes, so without two dates the 95th
    -- percentile is at least what stands 576 slots lower.
    usual AS
    (
        SELECT
            org,
            device,
            groupArray((date, slots)) AS days,
            arraySort(groupArrayArray(slots)) AS counts,
            if(length(counts) < 596, 0, counts[toUInt32(ceil(0.95 * (length(counts) - 576)))]) AS at_least
        FROM device_slots
        WHERE (org, device) IN (SELECT org, device FROM crowded)
        GROUP BY
            org,
            device
    ),
    unusual AS
    (
        SELECT
            d.org AS org,
            d.device AS device,
            d.swiped AS swiped,
            u.days AS days,
            arrayFilter(c -> c.3 >= {times:Float64} * u.at_least, d.crowds) AS crowds
        FROM devices AS d
        INNER JOIN usual AS u ON u.org = d.org AND u.device = d.device
        WHERE notEmpty(crowds)
    ),
    -- Each crowd with what is usual there on the other dates.
    measured AS
    (
        SELECT
            * EXCEPT (days, crowds),
            arrayMap(
                c -> (c.1, c.2, c.3, arraySort(arrayFlatten(arrayMap(s -> s.2, arrayFilter(s -> s.1 != toDate32(c.1) AND s.1 != toDate32(c.2), days))))),
                crowds) AS crowds
        FROM unusual
    ),
    judged AS
    (
        SELECT
            * EXCEPT crowds,
            arrayMap(c -> (c.1, c.2, c.3, if(length(c.4) < 20, 0, c.4[toUInt32(ceil(0.95 * length(c.4)))])), crowds) AS crowds
        FROM measured
    ),
    bursts AS
    (
        SELECT
            * EXCEPT crowds,
            arraySort(c -> (-toInt64(c.3), c.1), arrayFilter(c -> c.3 >= {times:Float64} * c.4, crowds)) AS found
        FROM judged
    )
SELECT
    concat(b.org, '/', b.device) AS entity_id,
    toFloat64(b.found[1].3) AS score,
    arraySum(arrayMap(s -> s.8, arrayFilter(s -> arrayExists(f -> s.1 >= f.1 AND s.1 <= f.2, b.found), b.swiped) AS proofs)) AS amount,
    concat(
        if(o.name != '', o.name, b.org), ' 的终端 ', b.device, ' 于 ', formatDateTime(b.found[1].1, '%F %H:%i'),
        ' 起 ', toString({minutes:UInt32}), ' 分钟内有 ', toString(b.found[1].3), ' 名参保人医保结算，平日同长时段为 ',
        toString(b.found[1].4), ' 人') AS reason,
    arraySort(arrayMap(s -> (s.1, s.2, s.3, s.4, s.5, s.6, s.7), proofs)) AS evidence
FROM bursts AS b
LEFT JOIN org_facts AS o ON o.org = b.org
WHERE notEmpty(b.found)
