-- What is on hand of what was touched: from the state of before where all that came
-- in is later, else from all sales of the person and drug. In days.
INSERT INTO {main:Identifier}.supply_rows
WITH
    changed AS
    (
        SELECT
            person,
            drug,
            min(time) AS since
        FROM touched_sales
        WHERE pay = 'insured'
            AND person != ''
            AND drug != ''
            AND code_key != ''
            AND isNotNull(days)
        GROUP BY
            person,
            drug
    ),
    before AS
    (
        SELECT
            person,
            drug,
            last_time,
            stock
        FROM {main:Identifier}.supply_rows
        FINAL
        WHERE person IN (SELECT person FROM changed)
            AND (person, drug) IN (SELECT person, drug FROM changed)
    ),
    again AS
    (
        SELECT
            c.person AS person,
            c.drug AS drug
        FROM changed AS c
        INNER JOIN before AS b ON b.person = c.person AND b.drug = c.drug
        WHERE c.since <= b.last_time
    ),
    events AS
    (
        SELECT
            person,
            drug,
            toFloat64(time) / 86400 AS at,
            toFloat64(assumeNotNull(any(days))) AS supply
        FROM touched_sales
        WHERE NOT gone
            AND NOT undone
            AND pay = 'insured'
            AND person != ''
            AND drug != ''
            AND code_key != ''
            AND isNotNull(days)
            AND (person, drug) NOT IN (SELECT person, drug FROM again)
        GROUP BY
            person,
            drug,
            time,
            org,
            event_id
        UNION ALL
        SELECT
            person,
            drug,
            toFloat64(last_time) / 86400 AS at,
            stock AS supply
        FROM before
        WHERE (person, drug) NOT IN (SELECT person, drug FROM again)
        UNION ALL
        SELECT
            person,
            drug,
            toFloat64(time) / 86400 AS at,
            any(supply) AS supply
        FROM
        (
            SELECT
                person,
                drug,
                org,
                event_id,
                time,
                toFloat64(assumeNotNull(argMax(days, pass))) AS supply,
                argMax(state, pass) AS last_state
            FROM sale_rows
            WHERE pay = 'insured'
                AND (person, drug) IN (SELECT person, drug FROM again)
                AND (scheme = 'cn20' OR code_text != '')
                AND isNotNull(days)
            GROUP BY
                person,
                drug,
                org,
                device,
                event_id,
                time,
                code,
                row_hash
            HAVING last_state = 'stands'
        )
        GROUP BY
            person,
            drug,
            org,
            event_id,
            time
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
