-- Uploads that are no sale of their own: voided, merged, or with a wrong clock.
INSERT INTO {desk:Identifier}.gone
SELECT
    org,
    device,
    time,
    code,
    code_key,
    code_text,
    scheme,
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
    setting
FROM scans
WHERE kind = 'sale'
    AND code IN (SELECT code FROM judged_codes)
    AND cityHash64(code, code_text, org, event_id, digest) NOT IN
    (
        SELECT cityHash64(code, code_text, org, event_id, digest)
        FROM {desk:Identifier}.sales
    )
