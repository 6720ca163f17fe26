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
    -- Codes with a source at all are asked for, so who never has goods in is left out.
    moves AS
    (
        SELECT
            org,
            code,
            code_text,
            code_key,
            time,
            true AS sale
        FROM effective_sales
        WHERE org IN (SELECT org FROM stock_moves WHERE kind IN ('purchase', 'stock_in', 'stock_take') AND item)
        UNION ALL
        SELECT
            org,
            code,
            code_text,
            code_key,
            time,
            false AS sale
        FROM stock_moves
        WHERE kind IN ('purchase', 'stock_in', 'stock_take') AND item
    ),
    held AS
    (
        SELECT
            org,
            any(code_key) AS code_key,
            minIf(time, NOT sale) AS since,
            countIf(NOT sale) = 0 AS never,
            groupArrayIf(time, sale) AS times
        FROM moves
        GROUP BY
            org,
            code,
            code_text
        HAVING notEmpty(times)
    ),
    -- One row a code and month; open: nothing of that code came before a sale of it.
    months AS
    (
        SELECT
            org,
            code_key,
            since,
            never,
            arrayJoin(arrayDistinct(arrayMap(t -> toYYYYMM(t), times))) AS month,
            arrayExists(t -> toYYYYMM(t) = month AND (never OR t <= since), times) AS open
        FROM held
    ),
    -- Larger packs can only take codes away from those without a source: so they are
    -- looked up for the few orgs that have too many.
    counted AS
    (
        SELECT
            org,
            month,
            count() AS codes,
            groupArrayIf((code_key, since, never), open) AS without
        FROM months
        GROUP BY
            org,
            month
        HAVING length(without) >= {codes:UInt32}
            AND length(without) * 1000000 > toUInt64(round({share:Float64} * 1000000)) * codes
    ),
    -- steps: the packs passed, as a wrong load may run in circles.
    lines AS
    (
        SELECT
            toString(org) AS org,
            month,
            codes,
            code_key,
            since,
            never,
            code_key AS pack,
            [code_key] AS steps
        FROM
        (
            SELECT
                org,
                month,
                codes,
                arrayJoin(without) AS code,
                code.1 AS code_key,
                code.2 AS since,
                code.3 AS never
            FROM counted
        )
        UNION ALL
        SELECT
            l.org,
            l.month,
            l.codes,
            l.code_key,
            l.since,
            l.never,
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
    sources AS
    (
        SELECT
            l.org AS org,
            l.month AS month,
            l.codes AS codes,
            l.code_key AS code_key,
            any(l.never) AND countIf(a.code_key != '') = 0 AS never,
            least(any(if(l.never, far, l.since)), min(if(a.code_key != '', a.since, far))) AS since,
            toDateTime64('2299-12-31 00:00:00', 3, 'Asia/Shanghai') AS far
        FROM lines AS l
        LEFT JOIN arrivals AS a ON a.org = l.org AND a.code_key = l.pack
        GROUP BY
            l.org,
            l.month,
            l.codes,
            l.code_key
    ),
    unsourced AS
    (
        SELECT
            u.org AS org,
            u.month AS month,
            u.codes AS codes,
            u.code_key AS code_key,
            arraySort(groupArray((s.time, s.event_id, s.person, s.region, s.paid))) AS open
        FROM
        (
            SELECT
                toString(org) AS org,
                code_key,
                time,
                event_id,
                person,
                region,
                paid
            FROM effective_sales
        ) AS s
        INNER JOIN sources AS u ON u.org = s.org AND u.code_key = s.code_key AND u.month = toYYYYMM(s.time)
        WHERE u.never OR s.time <= u.since
        GROUP BY
            u.org,
            u.month,
            u.codes,
            u.code_key
    )
SELECT
    u.org AS entity_id,
    concat(toString(intDiv(u.month, 100)), '-', leftPad(toString(u.month % 100), 2, '0')) AS period,
    round(count() / u.codes, 6) AS score,
    sum(arraySum(s -> s.5, u.open)) AS amount,
    concat(
        any(if(o.name != '', o.name, u.org)), ' ', period, ' 医保售出的 ', toString(u.codes), ' 个追溯码中有 ', toString(count()),
        ' 个在售前没有采购、入库或盘存记录，占 ', toString(round(100 * count() / u.codes, 1)), '%，如 ',
        argMin(u.code_key, (u.open[1].1, u.code_key)), ' 于 ',
        formatDateTime(min(u.open[1].1), '%F'), ' 售出') AS reason,
    arraySort(groupUniqArrayArray(arrayMap(s -> (s.1, u.org, s.2, 'sold_unsourced', u.code_key, s.3, toString(s.4)), u.open))) AS evidence
FROM unsourced AS u
LEFT JOIN org_facts AS o ON o.org = u.org
GROUP BY
    u.org,
    u.month,
    u.codes
HAVING count() >= {codes:UInt32}
    AND count() * 1000000 > toUInt64(round({share:Float64} * 1000000)) * u.codes
    AND (u.codes - count()) * 1000000 >= toUInt64(round({coverage:Float64} * 1000000)) * u.codes
