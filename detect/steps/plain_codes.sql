-- Codes that came in at most once and were sold at most once, and that no return, no
-- void and no larger pack concerns: nearly all there are. Their sales stand, and nothing
-- is to be worked out.
INSERT INTO plain_codes
SELECT code
FROM life_rows
GROUP BY code
HAVING countIf(kind = 'sale') <= 1
    AND countIf(kind != 'sale') <= 1
    AND NOT max(kind IN ('sale_return', 'void') OR has(flags, 'clock')
        OR cityHash64(org, 'event', event_id) IN (SELECT void_key FROM void_keys)
        OR (settlement != '' AND cityHash64(org, 'settlement', settlement) IN (SELECT void_key FROM void_keys))
        OR (batch_no != '' AND cityHash64(org, 'batch', batch_no) IN (SELECT void_key FROM void_keys)))
    AND min(code_text) = max(code_text)
    AND code NOT IN (SELECT child FROM families)
    AND code NOT IN (SELECT parent FROM families)
