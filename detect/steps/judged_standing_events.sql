-- Suspects of before, one of whose events was looked at again: of all rules at once.
-- Their events are few beside those that were touched.
INSERT INTO judged
WITH
    standing AS
    (
        SELECT
            detector,
            entity_kind,
            entity_id,
            period,
            arrayJoin(events) AS of_suspect
        FROM {main:Identifier}.suspect_rows
        WHERE detector IN {rules:Array(String)}
    ),
    touched AS
    (
        SELECT concat(org, '/', event_id) AS of_touched
        FROM touched_sales
        WHERE of_touched IN (SELECT of_suspect FROM standing)
        UNION ALL
        SELECT concat(org, '/', event_id) AS of_touched
        FROM touched_moves
        WHERE of_touched IN (SELECT of_suspect FROM standing)
    )
SELECT DISTINCT
    detector AS rule,
    toString(entity_kind) AS entity,
    entity_id,
    period
FROM standing
WHERE of_suspect IN (SELECT of_touched FROM touched)
