INSERT INTO {main:Identifier}.late_rows
SELECT
    code,
    code_text,
    code_key,
    org,
    event_id,
    digest,
    kind,
    time,
    region,
    sale_event,
    sale_time,
    sale_person,
    elsewhere_org,
    elsewhere_time,
    elsewhere_event,
    elsewhere_region,
    {pass:UInt64} * 2 + 1 AS pass,
    true AS stands
FROM late_reversals
WHERE code IN (SELECT code FROM judged_codes)
