-- Persons of whom a touched sale may leave too much on hand.
SELECT DISTINCT person AS entity_id
FROM supply_rows
WHERE peak > {on_hand:Float64} - 0.001
    AND (person, drug) IN
    (
        SELECT
            person,
            drug
        FROM touched_sales
        WHERE pay = 'insured' AND person != '' AND isNotNull(days)
    )
