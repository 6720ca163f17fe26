INSERT INTO {rest:Identifier}.touched_sales
SELECT
    org,
    device,
    time,
    code_key,
    event_id,
    region,
    drug,
    lot,
    expires,
    split,
    quantity,
    codes,
    price,
    days,
    pay,
    person,
    setting,
    undone,
    false AS gone
FROM {desk:Identifier}.sales
UNION ALL
SELECT
    org,
    device,
    time,
    code_key,
    event_id,
    region,
    drug,
    lot,
    expires,
    split,
    quantity,
    codes,
    price,
    days,
    pay,
    person,
    setting,
    false AS undone,
    true AS gone
FROM scans
WHERE kind = 'sale'
    AND code IN (SELECT code FROM judged_codes)
    AND cityHash64(code, code_text, org, event_id, digest) NOT IN
    (
        SELECT cityHash64(code, code_text, org, event_id, digest)
        FROM {desk:Identifier}.sales
    )
