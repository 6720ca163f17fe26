-- Persons of whom a touched sale may leave too much on hand.
SELECT DISTINCT person AS entity_id
FROM touched_sales
WHERE NOT known
    AND pay = 'insured'
    AND person != ''
    AND cityHash64(person, drug) IN
    (
        SELECT key
        FROM supply_rows
        WHERE key IN (SELECT cityHash64(person, drug) FROM touched_sales WHERE NOT known AND pay = 'insured' AND person != '')
        GROUP BY key
        HAVING argMax(high, pass) > {on_hand:Float64} - 0.001
    )
