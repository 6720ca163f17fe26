-- What is on hand from all sales: of everybody, or of those whose sales are at hand
-- because they are judged.
INSERT INTO {main:Identifier}.supply_rows
WITH
    events AS
    (
        SELECT
            cityHash64(person, drug) AS key,
            toFloat64(time) / 86400 AS at,
            toFloat64(assumeNotNull(any(days))) AS supply
        FROM {of:Identifier}.{sales:Identifier}
        WHERE NOT undone
            AND pay = 'insured'
            AND person != ''
            AND drug != ''
            AND item
            AND isNotNull(days)
            AND cityHash64(person) % {parts:UInt32} = {part:UInt32}
            AND ({all:Bool} OR person IN (SELECT entity_id FROM judged WHERE entity = 'person'))
        GROUP BY
            person,
            drug,
            time,
            org,
            event_id,
            digest
    ),
    lines AS
    (
        SELECT
            key,
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
    arrayMax(stocks) AS high,
    {pass:UInt64} * 2 + 1 AS pass
FROM lines
