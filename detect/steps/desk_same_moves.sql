-- Goods moves that are as a finished pass left them, at institutions that are, too.
INSERT INTO {desk:Identifier}.same_moves
SELECT cityHash64(code, code_text, org, event_id, digest) AS key
FROM scans
WHERE kind NOT IN ('sale', 'sale_return', 'void')
    AND code IN (SELECT code FROM judged_codes)
    AND org NOT IN (SELECT org FROM touched_orgs)
    AND (key, key IN
    (
        SELECT cityHash64(code, code_text, org, event_id, digest)
        FROM {desk:Identifier}.stock_moves
    )) IN
    (
        SELECT
            cityHash64(code, code_text, org, event_id, digest) AS kept,
            argMax(stands, pass)
        FROM {main:Identifier}.move_rows
        WHERE month IN
            (
                SELECT DISTINCT toYYYYMM(time)
                FROM scan_rows
                WHERE kind NOT IN ('sale', 'sale_return', 'void')
            )
            AND code IN
            (
                SELECT DISTINCT code
                FROM scan_rows
                WHERE kind NOT IN ('sale', 'sale_return', 'void')
            )
        GROUP BY kept
        HAVING max(pass) <= {finished:UInt64}
    )
