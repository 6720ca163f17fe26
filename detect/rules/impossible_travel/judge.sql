-- A hop that is too fast near a touched sale. A way with stops between is longer,
-- so where two sales are too far apart, one of the hops between them is too fast; and
-- so a state of a sale that a later pass replaced does no harm.
WITH
    near AS
    (
        SELECT DISTINCT toDate(time) + toInt32(day) - toInt32(ceil(20100 / {kmh:Float64} / 24)) - 1 AS date
        FROM touched_sales
        ARRAY JOIN range(2 * toUInt32(ceil(20100 / {kmh:Float64} / 24)) + 3) AS day
    ),
    hops AS
    (
        SELECT
            person,
            time,
            org,
            region,
            row_number() OVER trip AS nth,
            lagInFrame((time, org, region)) OVER (trip ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS before
        FROM sale_rows
        WHERE pay = 'insured'
            AND state != 'gone'
            AND person IN (SELECT person FROM touched_sales WHERE pay = 'insured' AND person != '')
            AND month IN (SELECT toYYYYMM(date) FROM near)
            AND toDate(time) IN (SELECT date FROM near)
        WINDOW trip AS (PARTITION BY person ORDER BY time, org)
    )
SELECT DISTINCT h.person AS entity_id
FROM
(
    SELECT *
    FROM hops
    WHERE nth > 1 AND (before.2, before.3) != (org, region)
) AS h
LEFT JOIN org_facts AS a ON a.org = h.before.2
LEFT JOIN org_facts AS b ON b.org = h.org
LEFT JOIN regions AS ra ON ra.region = h.before.3
LEFT JOIN regions AS rb ON rb.region = h.region
WHERE (a.placed OR isNotNull(ra.lat))
    AND (b.placed OR isNotNull(rb.lat))
    AND greatCircleDistance(
        if(a.placed, a.place.2, ifNull(ra.lon, 0)),
        if(a.placed, a.place.1, ifNull(ra.lat, 0)),
        if(b.placed, b.place.2, ifNull(rb.lon, 0)),
        if(b.placed, b.place.1, ifNull(rb.lat, 0))) / 1000 > {kmh:Float64} * dateDiff('millisecond', h.before.1, h.time) / 3600000 * 0.999
