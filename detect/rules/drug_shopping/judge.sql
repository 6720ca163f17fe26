-- Persons and drugs with a touched sale and enough institutions within the days
-- around it.
WITH
    near AS
    (
        SELECT DISTINCT toDate(time) + toInt32(day) - toInt32({days:UInt32}) AS date
        FROM touched_sales
        ARRAY JOIN range(2 * {days:UInt32} + 1) AS day
        WHERE NOT known
    )
SELECT DISTINCT person AS entity_id
FROM
(
    SELECT
        person,
        arraySort(groupArray((time, org))) AS visits
    FROM kept_sales
    WHERE pay = 'insured'
        AND item
        AND NOT undone
        AND drug != ''
        AND person != ''
        AND (person, drug) IN (SELECT person, drug FROM touched_sales WHERE NOT known AND pay = 'insured' AND person != '')
        AND month IN (SELECT toYYYYMM(date) FROM near)
        AND toDate(time) IN (SELECT date FROM near)
    GROUP BY
        person,
        drug
    HAVING uniqExact(org) >= {orgs:UInt32}
)
WHERE arrayExists(
    a -> length(arrayDistinct(arrayMap(b -> b.2, arrayFilter(b -> b.1 >= a.1 AND b.1 <= a.1 + toIntervalHour({days:UInt32} * 24), visits)))) >= {orgs:UInt32},
    visits)
