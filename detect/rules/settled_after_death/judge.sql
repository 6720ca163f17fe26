SELECT DISTINCT t.person AS entity_id
FROM touched_sales AS t
INNER JOIN
(
    SELECT
        person,
        died_on
    FROM persons
    WHERE isNotNull(died_on)
) AS p ON p.person = t.person
WHERE t.pay = 'insured' AND t.setting != 'inpatient' AND toDate32(t.time) > p.died_on
UNION DISTINCT
SELECT person AS entity_id
FROM touched_persons
