-- Institutions of which something else is known than the last finished pass saw. What
-- a pass noted that was broken off is no such thing.
INSERT INTO touched_orgs
SELECT org
FROM
(
    SELECT
        org,
        digest AS now,
        0 AS seen
    FROM org_digests
    UNION ALL
    SELECT
        org,
        0 AS now,
        digest AS seen
    FROM {main:Identifier}.seen_orgs
    WHERE pass <= {finished:UInt64}
)
GROUP BY org
HAVING max(now) != max(seen)
