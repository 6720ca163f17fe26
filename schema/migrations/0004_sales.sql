-- The words of the trade, once: what is voided, what is one sale, what is
-- undone, what is effective. Detectors, check and analysts all read these.

-- What voids name, each with the voids that name it as (sent, time).
CREATE VIEW IF NOT EXISTS void_targets
AS SELECT
    org AS of_org,
    target.1 AS how,
    target.2 AS name,
    target.3 AS of_kind,
    groupArray((sent, time)) AS reached
FROM voids
FINAL
ARRAY JOIN arrayFilter(
    t -> t.2 != '',
    arrayConcat(
        [('event', reverses, '')],
        arrayMap(k -> ('settlement', settlement, k), void_kind),
        arrayMap(k -> ('batch', batch_no, k), void_kind))) AS target
WHERE NOT clock
GROUP BY
    of_org,
    how,
    name,
    of_kind;

-- Hashes of what voids name: a number is looked up ten times faster than a
-- join is made, and a collision only sends a row the slow way.
CREATE VIEW IF NOT EXISTS void_keys
AS SELECT cityHash64(of_org, how, name) AS void_key
FROM void_targets;

-- Scans with a clock to be trusted that no void names.
CREATE VIEW IF NOT EXISTS unnamed_scans
AS SELECT
    *,
    toDateTime64(0, 3, 'Asia/Shanghai') AS void_at
FROM scans
WHERE kind != 'void'
    AND NOT has(flags, 'clock')
    AND cityHash64(org, 'event', event_id) NOT IN (SELECT void_key FROM void_keys)
    AND (settlement = '' OR cityHash64(org, 'settlement', settlement) NOT IN (SELECT void_key FROM void_keys))
    AND (batch_no = '' OR cityHash64(org, 'batch', batch_no) NOT IN (SELECT void_key FROM void_keys));

-- Scans with a clock to be trusted that a void may name. void_at: the earliest
-- void that names it and was not sent before it; 1970 for none.
CREATE VIEW IF NOT EXISTS named_scans
AS SELECT
    s.*,
    arrayMin(arrayMap(
        v -> v.2,
        arrayFilter(v -> v.1 >= s.sent, arrayConcat(e.reached, n.reached, b.reached)))) AS void_at
FROM
(
    SELECT *
    FROM scans
    WHERE kind != 'void'
        AND NOT has(flags, 'clock')
        AND (cityHash64(org, 'event', event_id) IN (SELECT void_key FROM void_keys)
            OR (settlement != '' AND cityHash64(org, 'settlement', settlement) IN (SELECT void_key FROM void_keys))
            OR (batch_no != '' AND cityHash64(org, 'batch', batch_no) IN (SELECT void_key FROM void_keys)))
) AS s
LEFT JOIN (SELECT * FROM void_targets WHERE how = 'event') AS e ON e.of_org = s.org AND e.name = s.event_id
LEFT JOIN (SELECT * FROM void_targets WHERE how = 'settlement') AS n ON n.of_org = s.org AND n.name = s.settlement AND n.of_kind = toString(s.kind)
LEFT JOIN (SELECT * FROM void_targets WHERE how = 'batch') AS b ON b.of_org = s.org AND b.name = s.batch_no AND b.of_kind = toString(s.kind);

-- Every scan but voids, with a clock to be trusted.
CREATE VIEW IF NOT EXISTS timed_scans
AS SELECT
    *,
    false AS void_hit
FROM unnamed_scans
UNION ALL
SELECT
    *,
    void_at > toDateTime64(0, 3, 'Asia/Shanghai') AS void_hit
FROM named_scans;

-- Goods in, goods out and stock lists that no void took back.
CREATE VIEW IF NOT EXISTS stock_moves
AS SELECT * EXCEPT (void_at, void_hit)
FROM timed_scans
WHERE kind NOT IN ('sale', 'sale_return') AND NOT void_hit;

-- Codes whose sales need working out: uploaded more than once, or returned.
-- Repeats count too; a code too many here costs time, not truth.
CREATE VIEW IF NOT EXISTS busy_codes
AS SELECT code
FROM scan_rows
WHERE kind IN ('sale', 'sale_return')
GROUP BY code
HAVING count() > 1 OR max(kind) = 'sale_return';

-- What became of each upload of a sale or return of a busy code:
--   voided    a void took it back
--   merged    an earlier upload of the same sale or return speaks for it
--   stands    a sale that counts           undone   a sale that a return took back
--   undoes    a return that took one back   idle     a return that took nothing back
-- Uploads of one org with one settlement and one code are one sale, or one
-- return; the earliest speaks for it. Returns that name a sale go first, then
-- each other one takes the latest sale not yet undone and not after it, of the
-- same person when both name one. A void or return is too late when another org
-- uploaded a sale of the box after the sale and before the reversal.
-- partner: the return of an undone sale, the sale of a return that undoes.
CREATE VIEW IF NOT EXISTS fates
AS WITH
    uploads AS
    (
        SELECT
            code,
            code_text,
            org,
            arraySort(groupArray((
                time,
                event_id,
                digest,
                kind = 'sale_return' AS back,
                if(settlement != '', concat('s', settlement), concat('e', toString(digest), event_id)) AS line,
                person,
                reverses,
                void_hit,
                void_at))) AS rows
        FROM timed_scans
        WHERE kind IN ('sale', 'sale_return') AND code IN (SELECT code FROM busy_codes)
        GROUP BY
            code,
            code_text,
            org
    ),
    sold AS
    (
        SELECT
            code,
            code_text,
            arraySort(groupArray((time, org))) AS uploads
        FROM scans
        WHERE kind = 'sale'
            AND item
            AND NOT has(flags, 'clock')
            AND code IN (SELECT code FROM busy_codes)
        GROUP BY
            code,
            code_text
        HAVING uniq(org) > 1
    ),
    -- Each step is a query of its own: an alias used in an alias is copied into
    -- it, and eight steps of that take the engine a second to plan.
    placed AS
    (
        SELECT
            code,
            code_text,
            org,
            rows,
            arrayMap(u -> u.1, arrayFilter(u -> u.2 != org, sold.uploads)) AS elsewhere
        FROM uploads
        LEFT JOIN sold ON sold.code = uploads.code AND sold.code_text = uploads.code_text
    ),
    struck AS
    (
        SELECT
            *,
            arrayFilter(
                r -> r.4 OR NOT arrayExists(t -> t > r.1 AND t < r.9, elsewhere),
                arrayFilter(r -> r.8, rows)) AS voided
        FROM placed
    ),
    lasting AS
    (
        SELECT
            * EXCEPT rows,
            if(empty(voided), rows, arrayFilter(r -> NOT (r.8 AND has(voided, r)), rows)) AS live
        FROM struck
    ),
    counted AS
    (
        SELECT
            *,
            arrayEnumerateUniq(arrayMap(r -> r.4, live), arrayMap(r -> r.5, live)) AS nth
        FROM lasting
    ),
    parted AS
    (
        SELECT
            *,
            arrayFilter((r, n) -> n > 1, live, nth) AS merged,
            arrayFilter((r, n) -> n = 1 AND NOT r.4, live, nth) AS sales,
            arrayFilter((r, n) -> n = 1 AND r.4, live, nth) AS returns
        FROM counted
    ),
    -- named: the sale a return names, 0 for none: the earliest with an upload of that name.
    naming AS
    (
        SELECT
            *,
            arrayMap(s -> s.1, sales) AS times,
            arrayMap(s -> s.6, sales) AS persons,
            arrayMap(
                r -> if(r.7 = '', 0, arrayMin(arrayMap(
                    u -> indexOf(arrayMap(s -> s.5, sales), u.5),
                    arrayFilter(u -> u.2 = r.7 AND NOT u.4, live)))),
                returns) AS named
        FROM parted
    ),
    -- by_name: for each sale the number of the return that names and undoes it, 0 for none.
    first_round AS
    (
        SELECT
            * EXCEPT (live, nth),
            arrayFold(
                (by, at, n, i) -> if(n = 0 OR by[n] != 0 OR arrayExists(t -> t > times[n] AND t < at, elsewhere),
                    by,
                    arrayMap((b, k) -> if(k = n, i, b), by, arrayEnumerate(by))),
                arrayMap(r -> r.1, returns),
                named,
                arrayEnumerate(returns),
                arrayMap(s -> toUInt32(0), sales)) AS by_name
        FROM naming
    ),
    unnamed_ones AS
    (
        SELECT
            *,
            arrayFilter((i, n) -> n = 0 OR (by_name[n] != 0 AND by_name[n] < i), arrayEnumerate(returns), named) AS unnamed
        FROM first_round
    ),
    second_round AS
    (
        SELECT
            *,
            arrayFold(
                (by, i, at, who) -> if(
                    (arrayLastIndex((t, p, b) -> b = 0 AND t <= at AND (p = '' OR who = '' OR p = who), times, persons, by) AS latest) = 0
                        OR arrayExists(t -> t > times[latest] AND t < at, elsewhere),
                    by,
                    arrayMap((b, k) -> if(k = latest, i, b), by, arrayEnumerate(by))),
                unnamed,
                arrayMap(i -> returns[i].1, unnamed),
                arrayMap(i -> returns[i].6, unnamed),
                by_name) AS undone_by
        FROM unnamed_ones
    ),
    judged AS
    (
        SELECT
            *,
            arrayMap(i -> indexOf(undone_by, i), arrayEnumerate(returns)) AS undid
        FROM second_round
    )
SELECT
    code,
    code_text,
    org,
    upload.1 AS event_id,
    upload.2 AS digest,
    upload.3 AS fate,
    upload.4 AS partner,
    upload.5 AS partner_time
FROM judged
ARRAY JOIN arrayConcat(
    arrayMap(r -> (r.2, r.3, 'voided', '', r.9), voided),
    arrayMap(r -> (r.2, r.3, 'merged', '', r.1), merged),
    arrayMap((r, i) -> (r.2, r.3, if(i = 0, 'stands', 'undone'), returns[i].2, if(i = 0, toDateTime64(0, 3, 'Asia/Shanghai'), returns[i].1)), sales, undone_by),
    arrayMap((r, k) -> (r.2, r.3, if(k > 0, 'undoes', 'idle'), sales[k].2, if(k > 0, sales[k].1, toDateTime64(0, 3, 'Asia/Shanghai'))), returns, undid)) AS upload;

-- Sales of busy codes, one row per sale and code.
CREATE VIEW IF NOT EXISTS busy_sales
AS SELECT
    s.*,
    f.fate = 'undone' AS undone,
    f.partner AS undone_event,
    f.partner_time AS undone_at
FROM scans AS s
INNER JOIN fates AS f USING (code, code_text, org, event_id, digest)
WHERE s.kind = 'sale'
    AND s.code IN (SELECT code FROM busy_codes)
    AND f.fate IN ('stands', 'undone');

-- Sales, one row per sale and code, insured or not, with what undid them.
CREATE VIEW IF NOT EXISTS sales
AS SELECT
    * EXCEPT (void_at, void_hit),
    false AS undone,
    '' AS undone_event,
    toDateTime64(0, 3, 'Asia/Shanghai') AS undone_at
FROM timed_scans
WHERE kind = 'sale'
    AND NOT void_hit
    AND code NOT IN (SELECT code FROM busy_codes)
UNION ALL
SELECT *
FROM busy_sales;

-- An insured sale of an item code that is not undone.
CREATE VIEW IF NOT EXISTS effective_sales
AS SELECT *
FROM sales
WHERE pay = 'insured' AND item AND NOT undone;

-- Effective sales of codes that were sold more than once, with what each takes
-- of its pack. takes and holds are in packs: a whole sale takes all of a
-- smallest pack, a split sale its units; a larger pack holds smallest packs.
-- holds 0: unknown. takes 0: a split sale whose units are unknown.
CREATE VIEW IF NOT EXISTS code_uses
AS SELECT
    s.*,
    p.product = '' OR p.smallest AS smallest,
    if(p.product = '' OR p.smallest, 1, p.holds) AS holds,
    multiIf(
        s.split, if(p.units > 0, s.share / p.units, 0),
        p.product = '' OR p.smallest, 1,
        s.share) AS takes
FROM busy_sales AS s
LEFT JOIN pack_sizes AS p ON p.product = s.product
WHERE s.pay = 'insured' AND s.item AND NOT s.undone;

-- Two consecutive effective sales of one code at different orgs. Larger packs
-- count only when all orgs together took more than the pack holds.
CREATE VIEW IF NOT EXISTS sale_pairs
AS SELECT
    code_key,
    drug,
    product,
    previous.1 AS first_time,
    previous.2 AS first_org,
    previous.3 AS first_event,
    previous.4 AS first_person,
    previous.5 AS first_region,
    time AS second_time,
    org AS second_org,
    event_id AS second_event,
    person AS second_person,
    region AS second_region,
    paid AS second_paid,
    dateDiff('millisecond', first_time, second_time) / 3600000 AS gap_hours
FROM
(
    SELECT
        *,
        row_number() OVER life AS nth,
        lagInFrame((time, org, event_id, person, region)) OVER (life ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS previous,
        sum(takes) OVER (PARTITION BY code, code_text) AS taken
    FROM code_uses
    WINDOW life AS (PARTITION BY code, code_text ORDER BY time, org, event_id, digest)
)
WHERE nth > 1
    AND previous.2 != org
    AND (smallest OR (holds > 0 AND taken > holds + 1e-9));

-- Codes that were sold and also stand in a goods-in note or a stock list of
-- another org, looked at without regard to time: candidates, not findings.
CREATE VIEW IF NOT EXISTS moved_codes
AS SELECT code
FROM scan_rows
WHERE kind IN ('sale', 'purchase', 'stock_in', 'stock_take')
GROUP BY code
HAVING countIf(kind = 'sale') > 0
    AND countIf(kind != 'sale') > 0
    AND min(org) != max(org);
