-- Persons and drugs with a touched sale and enough institutions within the days
-- around it. A state of a sale that a later pass replaced is one too many at most.
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
    FROM sale_rows
    WHERE pay = 'insured'
        AND item
        AND state = 'stands'
        AND drug != ''
        AND person != ''
        AND cityHash64(person, drug) IN (SELECT cityHash64(person, drug) FROM touched_sales WHERE NOT known AND pay = 'insured' AND person != '')
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
