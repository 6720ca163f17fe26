-- Each event once, but for what nobody has merged yet.
INSERT INTO analyst_scans
SELECT
    if(scheme = 'cn20' AND code_raw = '', concat('8', leftPad(toString(code), 19, '0')), code_raw) AS code,
    if(startsWith(event_id, '\0'), UUIDNumToString(toFixedString(substring(event_id, 2, 16), 16)), event_id),
    kind,
    time,
    org,
    region,
    drug,
    lot,
    ifNull(quantity, 0),
    ifNull(price, 0),
    pay,
    settlement,
    ifNull(fund_pay, 0),
    person
FROM scan_rows
