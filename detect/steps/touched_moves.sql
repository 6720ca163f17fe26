-- Moves that came in, or that something took back.
INSERT INTO {rest:Identifier}.touched_moves
SELECT
    org,
    drug,
    lot,
    time,
    code_key,
    event_id,
    kind,
    toYYYYMM(time) AS month
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
    if(scheme = 'cn20', concat('8', leftPad(toString(code), 19, '0')), code_text) AS code_key,
    event_id,
    kind,
    toYYYYMM(time) AS month
FROM life_rows
WHERE kind != 'sale'
    AND fresh
    AND code IN (SELECT code FROM plain_codes)
