-- version: 1
-- title: More days of supply than a person can use
-- title_zh: 超量开药
-- status: live
-- severity: medium
-- entity: person
-- part: person
-- param: on_hand Float64 = 90 · days of supply on hand just after a sale, more than
WITH
    -- One row a sale and code; days count with the first code of an event. Supply is
    -- in nanoseconds: of milliseconds and of millionths of a day these are whole
    -- numbers, so that exactly on_hand is no finding.
    dispensed AS
    (
        SELECT
            person,
            drug,
            time,
            org,
            event_id,
            digest,
            code_key,
            region,
            paid,
            toInt128(toUnixTimestamp64Milli(time)) * 1000000 AS at,
            if(
                lagInFrame((time, org, event_id, digest)) OVER life = (time, org, event_id, digest),
                toInt128(0),
                toInt128(CAST(assumeNotNull(days), 'Decimal(38, 6)') * 86400000000000)) AS supply
        FROM effective_sales
        WHERE person != ''
            AND drug != ''
            AND isNotNull(days)
        WINDOW life AS (PARTITION BY person, drug ORDER BY time, org, event_id, digest, code_key ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    ),
    totals AS
    (
        SELECT
            *,
            sum(supply) OVER life - at AS total
        FROM dispensed
        WINDOW life AS (PARTITION BY person, drug ORDER BY time, org, event_id, digest, code_key ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    ),
    -- What is on hand counts from the earlier sale that, taken for the first one,
    -- leaves most: none was left just before it.
    stocks AS
    (
        SELECT
            *,
            total - min(total - supply) OVER life AS stock
        FROM totals
        WINDOW life AS (PARTITION BY person, drug ORDER BY time, org, event_id, digest, code_key ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    ),
    -- A run is the sales from one that found nothing left to the next such one.
    runs AS
    (
        SELECT
            *,
            stock > toInt128(round({on_hand:Float64} * 86400000000000)) AS over,
            countIf(supply > 0 AND stock = supply) OVER life AS run,
            max(stock) OVER (PARTITION BY person, drug) AS most
        FROM stocks
        WINDOW life AS (PARTITION BY person, drug ORDER BY time, org, event_id, digest, code_key ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    ),
    hoards AS
    (
        SELECT
            person,
            drug,
            run,
            max(stock) AS peak,
            argMax(time, (stock, time)) AS peak_time,
            sumIf(paid, over) AS excess_paid,
            maxIf((time, org, event_id, digest), over) AS last,
            arraySort(arrayFilter(
                r -> (r.1, r.2, r.3, r.4) <= last,
                groupArray((time, org, event_id, digest, code_key, region)))) AS proof
        FROM runs
        WHERE most > toInt128(round({on_hand:Float64} * 86400000000000))
        GROUP BY
            person,
            drug,
            run
        HAVING max(over)
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
    h.person AS entity_id,
    round(toFloat64(max(h.peak)) / 86400000000000, 3) AS score,
    sum(h.excess_paid) AS amount,
    concat(
        '参保人 ', h.person, ' 自 ', formatDateTime(argMax(h.proof[1].1, (h.peak, h.drug, h.run)), '%F'),
        ' 起 ', toString(argMax(arrayUniq(arrayMap(r -> (r.1, r.2, r.3, r.4), h.proof)), (h.peak, h.drug, h.run))), ' 次购买',
        argMax(if(n.title != '', concat(n.title, '(', h.drug, ')'), concat(' ', h.drug, ' ')), (h.peak, h.drug, h.run)),
        '，', formatDateTime(argMax(h.peak_time, (h.peak, h.drug, h.run)), '%F'), ' 手中结余达 ',
        toString(round(toFloat64(max(h.peak)) / 86400000000000, 1)), ' 天用量，超过 ', toString({on_hand:Float64}), ' 天',
        if(uniqExact(h.drug) > 1, concat('；共 ', toString(uniqExact(h.drug)), ' 种药品有此情形'), '')) AS reason,
    arraySort(groupUniqArrayArray(arrayMap(r -> (r.1, r.2, r.3, 'dispensed', r.5, h.person, r.6), h.proof))) AS evidence
FROM hoards AS h
LEFT JOIN names AS n ON n.drug = h.drug
GROUP BY h.person
