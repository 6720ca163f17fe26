SELECT
    org,
    name
FROM org_facts
WHERE name != ''
    AND has(splitByChar(',', {orgs:String}), org)
