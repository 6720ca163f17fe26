-- version: 1
-- title: Settle and return cycle
-- title_zh: 反复结算退货(套刷)
-- status: live
-- severity: high
-- entity: person
-- amount: refunded
-- param: cycles UInt32 = 3 · settlements returned at once
-- param: days UInt32 = 60 · they fall within, × 24 h
-- param: minutes UInt32 = 30 · from sale to return
WITH
    cycles AS
    (
        SELECT
            person,
            multiIf(drug != '', drug, code_key != '', code_key, code_raw) AS what,
            groupArray((
                time,
                org,
                event_id,
                if(settlement != '', concat(org, '/', settlement), concat(org, '//', event_id)) AS settled,
                undone_at,
                undone_event,
                code_key,
                region,
                paid)) AS rows
        FROM sales
        WHERE pay = 'insured'
            AND person != ''
            AND undone
            AND undone_at >= time
            AND undone_at <= time + toIntervalMinute({minutes:UInt32})
        GROUP BY
            person,
            what
        HAVING uniqExact(settled) >= {cycles:UInt32}
    ),
    -- How many settlements fall within the days that each opens.
    windows AS
    (
        SELECT
            *,
            arrayMap(
                a -> length(arrayDistinct(arrayMap(b -> b.4, arrayFilter(b -> b.1 >= a.1 AND b.1 <= a.1 + toIntervalHour({days:UInt32} * 24), rows)))),
                rows) AS ahead
        FROM cycles
    ),
    proven AS
    (
        SELECT
            * EXCEPT ahead,
            arrayMax(ahead) AS most,
            arrayMap(a -> a.1, arrayFilter((a, n) -> n >= {cycles:UInt32}, rows, ahead)) AS starts
        FROM windows
        WHERE most >= {cycles:UInt32}
    ),
    proofs AS
    (
        SELECT
            person,
            most,
            arrayJoin(arrayFilter(r -> arrayExists(s -> r.1 >= s AND r.1 <= s + toIntervalHour({days:UInt32} * 24), starts), rows)) AS r
        FROM proven
    )
SELECT
    person AS entity_id,
    toFloat64(max(most)) AS score,
    sum(r.9) AS amount,
    concat(
        '参保人 ', person, ' 于 ', formatDateTime(min(r.1), '%F'), ' 至 ', formatDateTime(max(r.1), '%F'),
        ' 在 ', toString(uniqExact(r.2)), ' 家机构对同一药品先医保结算、', toString({minutes:UInt32}), ' 分钟内又退货，',
        toString({days:UInt32}), ' 天内最多 ', toString(max(most)), ' 次') AS reason,
    arraySort(groupUniqArrayArray([
        (r.1, r.2, r.3, 'sold', r.7, person, r.8),
        (r.5, r.2, r.6, 'returned', r.7, person, r.8)])) AS evidence
FROM proofs
GROUP BY person
