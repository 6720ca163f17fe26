SELECT
    org,
    ifNull(toString(status_from), ''),
    ifNull(toString(status_to), '')
FROM orgs
WHERE status IN ('suspended', 'ended')
