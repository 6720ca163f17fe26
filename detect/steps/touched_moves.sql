INSERT INTO {rest:Identifier}.touched_moves
SELECT
    org,
    drug,
    lot,
    time,
    code_key,
    event_id,
    kind
FROM scans
WHERE kind NOT IN ('sale', 'sale_return', 'void')
    AND code IN (SELECT code FROM judged_codes)
