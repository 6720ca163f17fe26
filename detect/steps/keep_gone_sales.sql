INSERT INTO {main:Identifier}.sale_rows
(
    org,
    device,
    time,
    code,
    pass,
    state,
    scheme,
    code_text,
    event_id,
    digest,
    region,
    drug,
    lot,
    person,
    pay
)
SELECT
    org,
    device,
    time,
    code,
    {pass:UInt64} AS pass,
    'gone' AS state,
    scheme,
    code_text,
    event_id,
    digest,
    region,
    drug,
    lot,
    person,
    pay
FROM {desk:Identifier}.gone
WHERE cityHash64(code, code_text, org, event_id, digest) NOT IN (SELECT * FROM {desk:Identifier}.same_sales)
