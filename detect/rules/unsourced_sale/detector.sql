-- version: 1
-- title: Sold without having come in
-- title_zh: 有销无进
-- status: live
-- severity: medium
-- entity: org
-- param: codes UInt32 = 5 · codes of the month without a source, at least
-- param: share Float64 = 0.02 · of the month's codes, more than
-- param: coverage Float64 = 0.8 · of the month's codes with a source, at least
WITH RECURSIVE
    moves AS
    (
        SELECT
            org,
            code,
            code_text,
            code_key,
            time,
            event_id,
            person,
            region,
            paid,
            true AS sale
        FROM effective_sales
        UNION ALL
        SELECT
            org,
            code,
            code_text,
            code_key,
            time,
            '' AS event_id,
            '' AS person,
            '' AS region,
            0. AS paid,
            false AS sale
        FROM stock_moves
        WHERE kind IN ('purchase', 'stock_in', 'stock_take') AND item
    ),
    held AS
    (
        SELECT
            org,
            code_key,
            minIf(time, NOT sale) AS since,
            countIf(NOT sale) = 0 AS never,
            groupArrayIf((formatDateTime(time, '%Y-%m'), time, event_id, person, region, paid), sale) AS sales
        FROM moves
        GROUP BY
            org,
            code,
            code_text,
            code_key
        HAVING notEmpty(sales)
    ),
    -- One row a code and month; open: its sales that nothing of that code came before.
    months AS
    (
        SELECT
            org,
            code_key,
            arrayJoin(arrayDistinct(arrayMap(s -> s.1, sales))) AS month,
            arrayFilter(s -> s.1 = month AND (never OR s.2 <= since), sales) AS open
        FROM held
    ),
    counted AS
    (
        SELECT
            *,
            count() OVER same AS codes,
            countIf(notEmpty(open)) OVER same AS without
        FROM months
        WINDOW same AS (PARTITION BY org, month)
    ),
    -- Larger packs can only take codes away from those without a source: so they are
    -- looked up for the few orgs that have too many. steps: the packs passed, as a
    -- wrong load may run in circles.
    lines AS
    (
        SELECT
            toString(org) AS org,
            month,
            codes,
            code_key,
            open,
            code_key AS pack,
            [code_key] AS steps
        FROM counted
        WHERE notEmpty(open)
            AND without >= {codes:UInt32}
            AND without * 1000000 > toUInt64(round({share:Float64} * 1000000)) * codes
        UNION ALL
        SELECT
            l.org,
            l.month,
            l.codes,
            l.code_key,
            l.open,
            p.parent AS pack,
            arrayPushBack(l.steps, p.parent) AS steps
        FROM packs AS p
        INNER JOIN lines AS l ON l.pack = p.child
        WHERE NOT has(l.steps, p.parent)
    ),
    arrivals AS
    (
        SELECT
            toString(org) AS org,
            code_key,
            min(time) AS since
        FROM stock_moves
        WHERE kind IN ('purchase', 'stock_in', 'stock_take')
            AND item
            AND code_key IN (SELECT parent FROM packs)
        GROUP BY
            org,
            code_key
    ),
    unsourced AS
    (
        SELECT
            l.org AS org,
            l.month AS month,
            l.codes AS codes,
            l.code_key AS code_key,
            minIf(a.since, a.code_key != '') AS since,
            countIf(a.code_key != '') = 0 AS never,
            arrayFilter(s -> never OR s.2 <= since, any(l.open)) AS open
        FROM lines AS l
        LEFT JOIN arrivals AS a ON a.org = l.org AND a.code_key = l.pack
        GROUP BY
            l.org,
            l.month,
            l.codes,
            l.code_key
        HAVING notEmpty(open)
    )
SELECT
    u.org AS entity_id,
    u.month AS period,
    round(count() / u.codes, 6) AS score,
    sum(arraySum(s -> s.6, u.open)) AS amount,
    concat(
        any(if(o.name != '', o.name, u.org)), ' ', u.month, ' 医保售出的 ', toString(u.codes), ' 个追溯码中有 ', toString(count()),
        ' 个在售前没有采购、入库或盘存记录，占 ', toString(round(100 * count() / u.codes, 1)), '%，如 ',
        argMin(u.code_key, (arraySort(u.open)[1].2, u.code_key)), ' 于 ',
        formatDateTime(min(arraySort(u.open)[1].2), '%F'), ' 售出') AS reason,
    arraySort(groupUniqArrayArray(arrayMap(s -> (s.2, u.org, s.3, 'sold_unsourced', u.code_key, s.4, toString(s.5)), u.open))) AS evidence
FROM unsourced AS u
LEFT JOIN org_facts AS o ON o.org = u.org
GROUP BY
    u.org,
    u.month,
    u.codes
HAVING count() >= {codes:UInt32}
    AND count() * 1000000 > toUInt64(round({share:Float64} * 1000000)) * u.codes
    AND (u.codes - count()) * 1000000 >= toUInt64(round({coverage:Float64} * 1000000)) * u.codes
