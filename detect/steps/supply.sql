-- What is on hand of what was touched, from the state of before. What came late is
-- added to the last sale, and what was taken back is not taken off: that makes it too
-- high, never too low. In days.
INSERT INTO {main:Identifier}.supply_rows
WITH
    fresh AS
    (
        SELECT
            cityHash64(person, drug) AS key,
            toFloat64(time) / 86400 AS at,
            toFloat64(assumeNotNull(any(days))) AS supply
        FROM touched_sales
        WHERE NOT gone
            AND NOT known
            AND NOT undone
            AND pay = 'insured'
            AND person != ''
            AND drug != ''
            AND code_key != ''
            AND isNotNull(days)
        GROUP BY
            person,
            drug,
            time,
            org,
            event_id,
            digest
    ),
    before AS
    (
        SELECT
            key,
            toFloat64(argMax(last_time, pass)) / 86400 AS last,
            argMax(stock, pass) AS stock,
            argMax(high, pass) AS high
        FROM {main:Identifier}.supply_rows
        WHERE key IN (SELECT key FROM fresh)
        GROUP BY key
    ),
    events AS
    (
        SELECT
            f.key AS key,
            greatest(f.at, b.last) AS at,
            f.supply AS supply,
            if(f.at < b.last, f.supply, 0) AS late,
            0 AS high
        FROM fresh AS f
        LEFT JOIN before AS b ON b.key = f.key
        UNION ALL
        SELECT
            key,
            last AS at,
            stock AS supply,
            0 AS late,
            high
        FROM before
    ),
    lines AS
    (
        SELECT
            key,
            max(high) + sum(late) AS high,
            arraySort(groupArray((at, supply))) AS line,
            arrayMap((e, c) -> c - e.1, line, arrayCumSum(arrayMap(e -> e.2, line))) AS totals,
            arrayMap((e, t) -> t - e.2, line, totals) AS floors,
            arrayMap((t, i) -> t - arrayMin(arraySlice(floors, 1, i)), totals, arrayEnumerate(totals)) AS stocks
        FROM events
        GROUP BY key
    )
SELECT
    key,
    toDateTime64(line[-1].1 * 86400, 3, 'Asia/Shanghai') AS last_time,
    stocks[-1] AS stock,
    greatest(high, arrayMax(stocks)) AS high,
    {pass:UInt64} * 2 AS pass
FROM lines
