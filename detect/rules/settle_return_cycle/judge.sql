-- Persons with a touched sale that was taken back, and as many of those as it takes.
SELECT person AS entity_id
FROM sale_rows
WHERE state = 'undone'
    AND pay = 'insured'
    AND undone_at <= time + toIntervalMinute({minutes:UInt32})
    AND person IN (SELECT person FROM touched_sales WHERE undone AND pay = 'insured' AND person != '')
GROUP BY person
HAVING count() >= {cycles:UInt32}
