-- version: 1
-- title: Packs billed without a code
-- title_zh: 应扫未扫
-- status: live
-- severity: low
-- entity: org
-- amount: turnover
-- param: packs UInt32 = 20 · packs billed in the month, at least
-- param: share Float64 = 0.05 · of these without an item code, more than
WITH
    -- One row an event. Packs are counted in 10^-12, whole numbers, so that sums are
    -- the same in any order.
    lines AS
    (
        SELECT
            s.org AS org,
            s.time AS time,
            s.event_id AS event_id,
            any(s.region) AS region,
            any(s.person) AS person,
            groupArrayIf(s.code_key, s.item) AS scanned,
            sumIf(s.paid, NOT s.undone) AS paid,
            toInt128(round(toFloat64(ifNull(any(s.quantity), 0)) * count() / any(s.codes) * 1e12)) AS billed,
            least(billed, toInt128(round(sumIf(if(p.holds > 0, p.holds, 1), s.item) * 1e12))) AS covered
        FROM sales AS s
        LEFT JOIN pack_sizes AS p ON p.product = s.product
        WHERE s.pay = 'insured'
            AND NOT s.split
            AND (s.drug = '' OR s.drug NOT IN (SELECT drug FROM drugs WHERE trace_exempt))
        GROUP BY
            s.org,
            s.time,
            s.event_id,
            s.digest
    ),
    months AS
    (
        SELECT
            org,
            formatDateTime(time, '%Y-%m') AS month,
            sum(billed) AS packs,
            sum(billed - covered) AS missing,
            countIf(billed > covered) AS short_lines,
            count() AS all_lines,
            sumIf(paid * toFloat64(billed - covered) / toFloat64(billed), billed > covered) AS missing_paid,
            groupArrayIf((time, event_id, person, region, scanned), billed > covered) AS proof
        FROM lines
        GROUP BY
            org,
            month
        HAVING packs + 1000000 >= toInt128({packs:UInt32}) * 1000000000000
            AND toFloat64(missing) > {share:Float64} * toFloat64(packs) + 1e6
    )
SELECT
    m.org AS entity_id,
    m.month AS period,
    round(toFloat64(m.missing) / toFloat64(m.packs), 6) AS score,
    m.missing_paid AS amount,
    concat(
        if(o.name != '', o.name, m.org), ' ', m.month, ' 医保结算应扫码药品 ',
        toString(round(toFloat64(m.packs) / 1e12, 2)), ' 盒，其中 ', toString(round(toFloat64(m.missing) / 1e12, 2)),
        ' 盒没有可用追溯码，占 ', toString(round(100 * toFloat64(m.missing) / toFloat64(m.packs), 1)), '%，分布在 ',
        toString(m.all_lines), ' 笔销售中的 ', toString(m.short_lines), ' 笔') AS reason,
    arraySort(arrayFlatten(arrayMap(
        l -> arrayMap(c -> (l.1, toString(m.org), l.2, 'unscanned', c, l.3, l.4), if(empty(l.5), [''], l.5)),
        m.proof))) AS evidence
FROM months AS m
LEFT JOIN org_facts AS o ON o.org = m.org
