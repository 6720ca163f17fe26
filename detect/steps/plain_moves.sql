-- Goods moves of plain codes that may mean something beside their sale: elsewhere, or
-- after it. What a shop bought in and sold does not.
INSERT INTO {desk:Identifier}.stock_moves
SELECT
    if(m.scheme = 'cn20', concat('8', leftPad(toString(m.code), 19, '0')), m.code_text) AS code_key,
    if(m.scheme = 'cn20', code_key, m.code_raw) AS code_raw,
    m.scheme,
    m.product,
    m.event_id,
    m.kind,
    m.time,
    m.org,
    m.region,
    m.drug,
    m.lot,
    m.split,
    m.quantity,
    m.person,
    m.codes,
    m.digest,
    m.code,
    m.code_text,
    m.scheme = 'cn20' OR m.code_text != '' AS item,
    toFloat64(ifNull(m.quantity, 0)) / greatest(m.codes, 1) AS share,
    toYYYYMM(m.time) AS month
FROM life_rows AS m
INNER JOIN
(
    SELECT
        code,
        org
    FROM life_rows
    WHERE kind = 'sale' AND code IN (SELECT code FROM plain_codes)
) AS s ON s.code = m.code
WHERE m.kind != 'sale'
    AND m.code IN (SELECT code FROM plain_codes)
    AND (m.org != s.org OR m.kind NOT IN ('purchase', 'stock_in'))
