-- Goods moves that are as a finished pass left them.
INSERT INTO {desk:Identifier}.same_moves
SELECT cityHash64(code, code_text, org, event_id, digest)
FROM scans
WHERE kind NOT IN ('sale', 'sale_return', 'void')
    AND code IN (SELECT code FROM judged_codes)
    AND (code, org, drug, lot, time, code_text, event_id, digest, cityHash64(code, code_text, org, event_id, digest) IN
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
            code_text,
            event_id,
            digest,
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
            code_text,
            event_id,
            digest
        HAVING max(pass) <= {finished:UInt64}
    )
