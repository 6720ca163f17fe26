-- Those whose lives must be worked out. What life_rows leaves out, no rule reads.
INSERT INTO scan_rows (* EXCEPT ({unread}))
SELECT * EXCEPT fresh
FROM life_rows
WHERE code NOT IN (SELECT code FROM plain_codes)
