-- The events that prove some suspects, looked up by the suspects' codes: the
-- table is sorted by them.
SELECT
    w.suspect_id,
    s.time,
    s.sent,
    toString(s.org),
    toString(s.region),
    toString(s.kind),
    s.code_key,
    s.code_raw,
    toString(s.scheme),
    toString(s.product),
    p.name,
    p.drug,
    toString(s.drug),
    b.name,
    toString(s.lot),
    if(isNull(s.expires), '', toString(assumeNotNull(s.expires))),
    s.share,
    s.split,
    ifNull(toFloat64(s.price), 0),
    s.paid,
    toBool(isNull(s.fund_pay)),
    ifNull(toFloat64(s.days), 0),
    toString(s.pay),
    s.person,
    toString(s.credential),
    toString(s.setting),
    s.rx,
    toString(if(s.doctor != '', s.doctor, s.doctor_id)),
    toString(if(s.pharmacist != '', s.pharmacist, s.pharmacist_id)),
    toString(s.operator),
    toString(s.supplier),
    s.doc,
    s.batch_no,
    s.settlement,
    s.reverses,
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
        max(name) AS name,
        max(toString(drug)) AS drug
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
WHERE s.code IN
    (
        SELECT if(match(key, '^8[0-9]{19}$'), toUInt64OrZero(substring(key, 2)), xxHash64(key))
        FROM
        (
            SELECT arrayJoin(codes) AS key
            FROM suspects
            WHERE suspect_id IN splitByChar(',', {ids:String})
        )
    )
