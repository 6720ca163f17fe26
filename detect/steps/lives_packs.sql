-- All there is of the packs that hold them. From here on ids are text.
INSERT INTO scan_rows (* EXCEPT ({unread}))
SELECT
    *
        EXCEPT ({unread})
        REPLACE (if(startsWith(event_id, '\0'), UUIDNumToString(toFixedString(substring(event_id, 2, 16), 16)), event_id) AS event_id)
FROM {main:Identifier}.scan_rows
PREWHERE code IN (SELECT ancestor FROM ancestors)
    AND code NOT IN (SELECT code FROM judged_codes)
