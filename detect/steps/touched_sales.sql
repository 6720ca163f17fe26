-- Sales that came in, or of which something else is true now. known: that is nothing but
-- what is known of their institution.
INSERT INTO {rest:Identifier}.touched_sales
SELECT
    org,
    device,
    time,
    code_key,
    event_id,
    digest,
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
    false AS gone,
    code IN (SELECT code FROM org_codes) AS known,
    month
FROM {desk:Identifier}.sales
WHERE cityHash64(code, code_text, org, event_id, digest) NOT IN (SELECT * FROM {desk:Identifier}.same_sales)
UNION ALL
SELECT
    org,
    device,
    time,
    code_key,
    event_id,
    digest,
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
    true AS gone,
    code IN (SELECT code FROM org_codes) AS known,
    toYYYYMM(time) AS month
FROM {desk:Identifier}.gone
WHERE cityHash64(code, code_text, org, event_id, digest) NOT IN (SELECT * FROM {desk:Identifier}.same_sales)
