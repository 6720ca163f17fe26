-- Touched months. What has goods-in before it is kept with each sale. Where nothing
-- has, or nearly all, nothing need be told apart: that is seen with what later passes
-- replaced among it.
WITH
    months AS
    (
        SELECT
            org,
            month
        FROM sale_rows
        WHERE pay = 'insured'
            AND item
            AND state = 'stands'
            AND month IN (SELECT month FROM touched_sales)
            AND (org, month) IN
            (
                SELECT
                    org,
                    month
                FROM touched_sales
            )
        GROUP BY
            org,
            month
        HAVING countIf(NOT sourced) >= {codes:UInt32} AND countIf(sourced) > 0
    )
SELECT
    org AS entity_id,
    concat(toString(intDiv(month, 100)), '-', leftPad(toString(month % 100), 2, '0')) AS period
FROM kept_sales
WHERE pay = 'insured'
    AND item
    AND NOT undone
    AND month IN (SELECT month FROM months)
    AND (org, month) IN
    (
        SELECT
            org,
            month
        FROM months
    )
GROUP BY
    org,
    month
HAVING uniqExactIf((code, code_text), NOT sourced) >= {codes:UInt32}
    AND uniqExactIf((code, code_text), NOT sourced) > {share:Float64} * uniqExact(code, code_text) * 0.999999
    AND uniqExactIf((code, code_text), NOT sourced) <= (1 - {coverage:Float64}) * uniqExact(code, code_text) * 1.000001
