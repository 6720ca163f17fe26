-- version: 1
-- title: Sold for cash and to the fund
-- title_zh: 同码自费、医保各卖一次
-- status: live
-- severity: medium
-- entity: code
WITH
    -- Whole sales that stand, of codes that were sold more than once and that the
    -- fund paid for at least once.
    lives AS
    (
        SELECT
            code_key,
            any(product) AS product,
            arraySort(groupArray((time, org, event_id, pay = 'insured' AS insured, person, region, paid))) AS sales,
            sales[1] AS first,
            arrayFirst(s -> s.4 != sales[1].4, sales) AS other
        FROM sales
        WHERE item
            AND NOT undone
            AND NOT split
            AND code IN (SELECT code FROM code_uses WHERE NOT split)
        GROUP BY code_key
        HAVING countIf(pay = 'insured') > 0
            AND countIf(pay = 'self') > 0
    )
SELECT
    l.code_key AS entity_id,
    toFloat64(length(l.sales)) AS score,
    -- The first sale may be the true one; cash costs the fund nothing.
    arraySum(arrayMap(s -> if(s.4, s.7, 0), arraySlice(l.sales, 2))) AS amount,
    concat(
        '追溯码 ', l.code_key, ' 于 ', formatDateTime(l.first.1, '%F'), ' 在', if(a.name != '', a.name, l.first.2), if(l.first.4, '医保结算', '自费售出'),
        '，',
        multiIf(
            dateDiff('millisecond', l.first.1, l.other.1) AS gap < 3600000, concat(toString(greatest(1, round(gap / 60000))), ' 分钟'),
            gap < 86400000, concat(toString(round(gap / 3600000, 1)), ' 小时'),
            concat(toString(round(gap / 86400000, 1)), ' 天')), '后在', if(l.first.2 = l.other.2, '同一机构', if(b.name != '', b.name, l.other.2)),
        if(l.other.4, '又医保结算', '又自费售出'), '，同一盒药整盒卖出 ', toString(length(l.sales)), ' 次（医保 ',
        toString(arrayCount(s -> s.4, l.sales)), ' 次，自费 ', toString(arrayCount(s -> NOT s.4, l.sales)), ' 次）') AS reason,
    arrayMap(s -> (s.1, s.2, s.3, if(s.4, 'sold_insured', 'sold_for_cash'), l.code_key, s.5, s.6), l.sales) AS evidence
FROM lives AS l
LEFT JOIN pack_sizes AS p ON p.product = l.product
LEFT JOIN org_facts AS a ON a.org = l.first.2
LEFT JOIN org_facts AS b ON b.org = l.other.2
WHERE p.product = '' OR p.smallest
