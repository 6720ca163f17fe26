-- Goods moves that are as a finished pass left them.
INSERT INTO {desk:Identifier}.same_moves
SELECT cityHash64(code, code_text, org, event_id, digest)
FROM scans
WHERE kind NOT IN ('sale', 'sale_return', 'void')
    AND code IN (SELECT code FROM judged_codes)
    AND (code, org, drug, lot, time, toUInt32(cityHash64(event_id, digest, code_text)), cityHash64(code, code_text, org, event_id, digest) IN
    (
        SELECT cityHash64(code, code_text, org, event_id, digest)
        FROM {desk:Identifier}.stock_moves
    )) IN
    (
        SELECT
            code,
            org,
            drug,
            lot,
            time,
            row_hash,
            argMax(stands, pass)
        FROM {main:Identifier}.move_rows
        WHERE month IN
            (
                SELECT DISTINCT toYYYYMM(time)
                FROM scans
                WHERE kind NOT IN ('sale', 'sale_return', 'void')
            )
            AND code IN (SELECT code FROM judged_codes)
        GROUP BY
            code,
            org,
            drug,
            lot,
            time,
            row_hash
        HAVING max(pass) <= {finished:UInt64}
    )
