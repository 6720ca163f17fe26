-- Sales of plain codes, as the schema's view sales has them.
INSERT INTO {desk:Identifier}.sales
SELECT
    if(s.scheme = 'cn20', concat('8', leftPad(toString(s.code), 19, '0')), s.code_text) AS code_key,
    if(s.scheme = 'cn20', code_key, s.code_raw) AS code_raw,
    s.scheme,
    s.product,
    s.event_id,
    s.kind,
    s.time,
    s.org,
    s.region,
    s.device,
    s.drug,
    s.lot,
    s.expires,
    s.split,
    s.quantity,
    s.price,
    s.days,
    s.pay,
    s.settlement,
    s.fund_pay,
    s.person,
    s.setting,
    s.codes,
    s.digest,
    s.code,
    s.code_text,
    s.scheme = 'cn20' OR s.code_text != '' AS item,
    toFloat64(ifNull(s.quantity, 0)) / greatest(s.codes, 1) AS share,
    coalesce(toFloat64(s.fund_pay), toFloat64(s.price) * toFloat64(s.quantity), 0) / greatest(s.codes, 1) AS paid,
    false AS undone,
    '' AS undone_event,
    toDateTime64(0, 3, 'Asia/Shanghai') AS undone_at,
    item AND r.first > toDateTime64(0, 3, 'Asia/Shanghai') AND r.first < s.time AS sourced,
    toYYYYMM(s.time) AS month
FROM life_rows AS s
LEFT JOIN
(
    SELECT
        code,
        org,
        time AS first
    FROM life_rows
    WHERE kind IN ('purchase', 'stock_in', 'stock_take')
        AND code IN (SELECT code FROM plain_codes)
) AS r ON r.code = s.code AND r.org = s.org
WHERE s.kind = 'sale'
    AND s.code IN (SELECT code FROM plain_codes)
