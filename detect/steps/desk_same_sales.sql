-- Sales that are as a finished pass left them, at institutions that are, too: of those,
-- no rule has anything new to say. What a pass wrote that was broken off counts as new.
INSERT INTO {desk:Identifier}.same_sales
WITH
    uploads AS
    (
        SELECT
            code,
            time,
            cityHash64(code, code_text, org, event_id, digest) AS key,
            if(undone, 'undone', 'stands') AS state,
            sourced,
            undone_event,
            undone_at
        FROM {desk:Identifier}.sales
        WHERE org NOT IN (SELECT org FROM touched_orgs)
        UNION ALL
        SELECT
            code,
            time,
            cityHash64(code, code_text, org, event_id, digest) AS key,
            'gone' AS state,
            false AS sourced,
            '' AS undone_event,
            toDateTime64(0, 3, 'Asia/Shanghai') AS undone_at
        FROM {desk:Identifier}.gone
        WHERE org NOT IN (SELECT org FROM touched_orgs)
    )
SELECT key
FROM uploads
WHERE (key, toString(state), sourced, undone_event, undone_at) IN
(
    SELECT
        cityHash64(code, code_text, org, event_id, digest) AS kept,
        toString(argMax(state, pass)),
        argMax(sourced, pass),
        argMax(undone_event, pass),
        argMax(undone_at, pass)
    FROM {main:Identifier}.sale_rows
    WHERE month IN (SELECT DISTINCT toYYYYMM(time) FROM uploads)
        AND code IN (SELECT code FROM uploads)
    GROUP BY kept
    HAVING max(pass) <= {finished:UInt64}
)
