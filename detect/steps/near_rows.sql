-- Uploads of those under judgement, with what a later pass replaced: FINAL over the
-- whole table would merge all of it.
INSERT INTO near_rows
SELECT
    *,
    month
FROM {main:Identifier}.sale_rows
WHERE month IN (SELECT toYYYYMM(time) FROM keys)
    AND (org, device, time) IN (SELECT org, device, time FROM keys)
