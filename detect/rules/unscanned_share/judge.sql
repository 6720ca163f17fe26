-- Touched months. Row by row a line covers no more than it does as a whole.
SELECT
    s.org AS entity_id,
    concat(toString(intDiv(s.month, 100)), '-', leftPad(toString(s.month % 100), 2, '0')) AS period
FROM kept_sales AS s
LEFT JOIN pack_sizes AS p ON p.product = s.product
WHERE s.pay = 'insured'
    AND NOT s.split
    AND s.drug NOT IN (SELECT drug FROM drugs WHERE trace_exempt AND drug != '')
    AND s.month IN (SELECT month FROM touched_sales)
    AND (s.org, s.month) IN
    (
        SELECT
            org,
            month
        FROM touched_sales
    )
GROUP BY
    s.org,
    s.month
HAVING sum(s.share) >= {packs:UInt32} * 0.999999
    AND sum(s.share) - sum(least(s.share, multiIf(NOT s.item, 0, p.product = '' OR p.smallest OR p.holds = 0, 1, p.holds))) > {share:Float64} * sum(s.share) * 0.999999
