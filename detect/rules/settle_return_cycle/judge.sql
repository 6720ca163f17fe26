-- Persons with a touched sale that was taken back, and as many of those within the
-- days around it as it takes.
WITH
    near AS
    (
        SELECT DISTINCT toYYYYMM(toDate(time) + toInt32(day)) AS month
        FROM touched_sales
        ARRAY JOIN range(-toInt32({days:UInt32}) - 1, toInt32({days:UInt32}) + 2) AS day
        WHERE NOT known AND undone AND pay = 'insured' AND person != ''
    )
SELECT person AS entity_id
FROM sale_rows
WHERE month IN (SELECT month FROM near)
    AND state = 'undone'
    AND pay = 'insured'
    AND undone_at <= time + toIntervalMinute({minutes:UInt32})
    AND person IN (SELECT person FROM touched_sales WHERE NOT known AND undone AND pay = 'insured' AND person != '')
GROUP BY person
HAVING count() >= {cycles:UInt32}
