INSERT INTO {main:Identifier}.move_rows
SELECT
    org,
    drug,
    lot,
    time,
    code,
    {pass:UInt64} AS pass,
    cityHash64(code, code_text, org, event_id, digest) IN
    (
        SELECT cityHash64(code, code_text, org, event_id, digest)
        FROM {desk:Identifier}.stock_moves
    ) AS stands,
    kind,
    code_text,
    if(scheme = 'cn20', '', code_raw) AS code_raw,
    scheme,
    if(scheme = 'cn20', '', product) AS other_product,
    event_id,
    digest,
    region,
    split,
    quantity,
    codes,
    person
FROM scans
WHERE kind NOT IN ('sale', 'sale_return', 'void')
    AND code IN (SELECT code FROM judged_codes)
    AND cityHash64(code, code_text, org, event_id, digest) NOT IN (SELECT * FROM {desk:Identifier}.same_moves)
UNION ALL
SELECT
    org,
    drug,
    lot,
    time,
    code,
    {pass:UInt64} AS pass,
    true AS stands,
    kind,
    code_text,
    if(scheme = 'cn20', '', code_raw) AS code_raw,
    scheme,
    if(scheme = 'cn20', '', product) AS other_product,
    event_id,
    digest,
    region,
    split,
    quantity,
    codes,
    person
FROM life_rows
WHERE kind != 'sale'
    AND fresh
    AND code IN (SELECT code FROM plain_codes)
