-- Those whose lives must be worked out.
INSERT INTO scan_rows
SELECT * EXCEPT fresh
FROM life_rows
WHERE code NOT IN (SELECT code FROM plain_codes)
