SELECT
    f.org,
    f.name,
    f.type,
    o.region
FROM org_facts AS f
LEFT JOIN
(
    SELECT
        org,
        max(region) AS region
    FROM orgs
    GROUP BY org
) AS o ON o.org = f.org
WHERE has(splitByChar(',', {orgs:String}), f.org)
