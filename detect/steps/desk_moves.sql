INSERT INTO {desk:Identifier}.stock_moves
SELECT
    code_key,
    if(scheme = 'cn20', code_key, code_raw) AS code_raw,
    scheme,
    product,
    event_id,
    kind,
    time,
    org,
    region,
    drug,
    lot,
    split,
    quantity,
    person,
    codes,
    digest,
    code,
    code_text,
    item,
    share,
    toYYYYMM(time) AS month
FROM stock_moves
