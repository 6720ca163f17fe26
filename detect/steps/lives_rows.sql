-- All there is of the codes under judgement, but for what no rule reads. fresh: it
-- came in since the last pass, or something else is known of its institution. From here
-- on ids are text.
INSERT INTO life_rows
SELECT
    *
        EXCEPT ({unread})
        REPLACE (if(startsWith(event_id, '\0'), UUIDNumToString(toFixedString(substring(event_id, 2, 16), 16)), event_id) AS event_id),
    _block_number > {from_block:UInt64} OR org IN (SELECT org FROM touched_orgs) AS fresh
FROM {main:Identifier}.scan_rows
PREWHERE code >= {from_code:UInt64}
    AND code <= {to_code:UInt64}
    AND code IN (SELECT code FROM judged_codes)
