SELECT DISTINCT t.org AS entity_id
FROM touched_sales AS t
INNER JOIN
(
    SELECT *
    FROM orgs
    WHERE status IN ('suspended', 'ended')
) AS o ON o.org = t.org
WHERE t.pay = 'insured'
    AND (isNull(o.status_from) OR toDate32(t.time) >= o.status_from)
    AND (isNull(o.status_to) OR toDate32(t.time) <= o.status_to)
