-- Oldest changes first, so that readers of the stream see a suspect open before it
-- is decided on.
SELECT
    suspect_id,
    detector,
    detector_version,
    toString(severity),
    toString(entity_kind),
    entity_id,
    period,
    regions,
    score,
    first_time,
    last_time,
    amount,
    events,
    codes,
    orgs,
    roles,
    persons,
    reason,
    parameters,
    toString(status),
    opened_at,
    updated_at,
    superseded_by,
    reopened,
    decided_at,
    version
FROM unpublished_suspects
ORDER BY
    updated_at,
    suspect_id
LIMIT {most:UInt32}
