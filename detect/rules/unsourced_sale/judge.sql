-- Touched months. What has goods-in before it is kept with each sale.
SELECT
    org AS entity_id,
    formatDateTime(time, '%Y-%m') AS period
FROM kept_sales
WHERE pay = 'insured'
    AND item
    AND NOT undone
    AND time >= (SELECT toStartOfMonth(min(time)) FROM touched_sales)
    AND (org, formatDateTime(time, '%Y-%m')) IN
    (
        SELECT
            org,
            formatDateTime(time, '%Y-%m')
        FROM touched_sales
    )
GROUP BY
    entity_id,
    period
HAVING uniqExactIf((code, code_text), NOT sourced) >= {codes:UInt32}
    AND uniqExactIf((code, code_text), NOT sourced) > {share:Float64} * uniqExact(code, code_text) * 0.999999
    AND uniqExactIf((code, code_text), NOT sourced) <= (1 - {coverage:Float64}) * uniqExact(code, code_text) * 1.000001
