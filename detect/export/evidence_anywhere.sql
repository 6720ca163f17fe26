-- The same for events without a code of their own, which takes a look at the whole
-- table.
SELECT
    w.suspect_id,
    s.time,
    toString(s.org),
    toString(s.region),
    toString(s.kind),
    s.code_key,
    s.code_raw,
    toString(s.drug),
    multiIf(p.name != '', p.name, b.name),
    s.share,
    s.split,
    ifNull(toFloat64(s.price), 0),
    s.paid,
    toString(s.pay),
    s.person,
    s.settlement,
    s.event_id,
    toString(s.device)
FROM scans AS s
INNER JOIN
(
    SELECT
        suspect_id,
        arrayJoin(events) AS event
    FROM suspects
    WHERE suspect_id IN splitByChar(',', {ids:String})
) AS w ON w.event = concat(s.org, '/', s.event_id)
LEFT JOIN
(
    SELECT
        product,
        any(name) AS name
    FROM drugs
    GROUP BY product
) AS p ON p.product = s.product
LEFT JOIN
(
    SELECT
        drug,
        min(name) AS name
    FROM drugs
    WHERE pack_level <= 1
        AND drug != ''
    GROUP BY drug
) AS b ON b.drug = s.drug
