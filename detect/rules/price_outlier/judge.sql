SELECT DISTINCT
    t.org AS entity_id,
    formatDateTime(t.time, '%Y-%m') AS period
FROM touched_sales AS t
INNER JOIN
(
    SELECT
        drug,
        max(max_price) AS highest
    FROM drugs
    WHERE pack_level <= 1 AND drug != ''
    GROUP BY drug
) AS d ON d.drug = t.drug
WHERE t.pay = 'insured'
    AND NOT t.split
    AND toFloat64(t.price) > {times:Float64} * d.highest * 0.999999
