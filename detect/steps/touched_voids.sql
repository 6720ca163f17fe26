-- Codes of what they name. A hash too many costs a look at one more code.
INSERT INTO touched
SELECT DISTINCT code
FROM {main:Identifier}.scan_rows
PREWHERE org IN (SELECT org FROM void_names)
WHERE cityHash64(org, 'event', event_id) IN (SELECT key FROM void_names)
    OR (settlement != '' AND cityHash64(org, 'settlement', settlement) IN (SELECT key FROM void_names))
    OR (batch_no != '' AND cityHash64(org, 'batch', batch_no) IN (SELECT key FROM void_names))
