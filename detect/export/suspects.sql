-- Empty parameters ask for nothing. A region is a prefix of any region concerned.
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
    reopened
FROM suspects
WHERE ({id:String} = '' OR suspect_id = {id:String})
    AND ({detectors:String} = '' OR has(splitByChar(',', {detectors:String}), detector))
    AND ({severities:String} = '' OR has(splitByChar(',', {severities:String}), toString(severity)))
    AND ({region:String} = '' OR arrayExists(r -> startsWith(r, {region:String}), regions))
    AND ({since_ms:Int64} = 0 OR updated_at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'Asia/Shanghai'))
    AND ({all:Bool} OR status NOT IN ('dismissed', 'explained'))
ORDER BY
    severity DESC,
    last_time DESC,
    suspect_id
