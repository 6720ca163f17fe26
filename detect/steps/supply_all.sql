INSERT INTO {main:Identifier}.supply_rows
WITH
    events AS
    (
        SELECT
            person,
            drug,
            toFloat64(time) / 86400 AS at,
            toFloat64(assumeNotNull(any(days))) AS supply
        FROM {main:Identifier}.kept_sales
        WHERE NOT undone
            AND pay = 'insured'
            AND person != ''
            AND drug != ''
            AND item
            AND isNotNull(days)
            AND cityHash64(person) % {parts:UInt32} = {part:UInt32}
        GROUP BY
            person,
            drug,
            time,
            org,
            event_id
    ),
    stocked AS
    (
        SELECT
            person,
            drug,
            arraySort(groupArray((at, supply))) AS line,
            arrayMap((e, c) -> c - e.1, line, arrayCumSum(arrayMap(e -> e.2, line))) AS totals,
            arrayMap((e, t) -> t - e.2, line, totals) AS floors,
            arrayMap((t, i) -> t - arrayMin(arraySlice(floors, 1, i)), totals, arrayEnumerate(totals)) AS stocks
        FROM events
        GROUP BY
            person,
            drug
    )
SELECT
    person,
    drug,
    toDateTime64(line[-1].1 * 86400, 3, 'Asia/Shanghai') AS last_time,
    stocks[-1] AS stock,
    arrayMax(stocks) AS peak,
    {pass:UInt64} AS pass
FROM stocked
