-- version: 1
-- title: Settle and return cycle
-- title_zh: 反复结算退货(套刷)
-- status: live
-- severity: high
-- entity: person
-- param: cycles UInt32 = 3 · settlements returned at once
-- param: days UInt32 = 60 · they fall within, × 24 h
-- param: minutes UInt32 = 30 · from sale to return
WITH
    cycles AS
    (
        SELECT
            *,
            multiIf(drug != '', drug, code_key != '', code_key, code_raw) AS what,
            if(settlement != '', concat(org, '/', settlement), concat(org, '//', event_id)) AS settled
        FROM busy_sales
        WHERE pay = 'insured'
            AND person != ''
            AND undone
            AND undone_at >= time
            AND undone_at <= time + toIntervalMinute({minutes:UInt32})
    ),
    counted AS
    (
        SELECT
            person,
            what,
            groupArray((time, settled)) AS all,
            arrayFilter(
                w -> w.2 >= {cycles:UInt32},
                arrayMap(
                    a -> (a.1, length(arrayDistinct(arrayMap(b -> b.2, arrayFilter(b -> b.1 >= a.1 AND b.1 <= a.1 + toIntervalHour({days:UInt32} * 24), all))))),
                    all)) AS windows
        FROM cycles
        GROUP BY
            person,
            what
        HAVING notEmpty(windows)
    )
SELECT
    c.person AS entity_id,
    toFloat64(max(arrayMax(arrayMap(w -> w.2, n.windows)))) AS score,
    sum(c.paid) AS amount,
    concat(
        '参保人 ', c.person, ' 于 ', formatDateTime(min(c.time), '%F'), ' 至 ', formatDateTime(max(c.time), '%F'),
        ' 在 ', toString(uniqExact(c.org)), ' 家机构对同一药品先医保结算、', toString({minutes:UInt32}), ' 分钟内又退货,',
        toString({days:UInt32}), ' 天内最多 ', toString(max(arrayMax(arrayMap(w -> w.2, n.windows)))), ' 次') AS reason,
    arraySort(groupUniqArrayArray([
        (c.time, c.org, c.event_id, 'sold', c.code_key, c.person, c.region),
        (c.undone_at, c.org, c.undone_event, 'returned', c.code_key, c.person, c.region)])) AS evidence
FROM cycles AS c
INNER JOIN counted AS n ON n.person = c.person AND n.what = c.what
WHERE arrayExists(w -> c.time >= w.1 AND c.time <= w.1 + toIntervalHour({days:UInt32} * 24), n.windows)
GROUP BY c.person
