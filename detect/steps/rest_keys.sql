-- Where the sales of those under judgement are.
INSERT INTO keys
SELECT DISTINCT
    org,
    device,
    time
FROM {main:Identifier}.sale_rows
WHERE person IN (SELECT entity_id FROM judged WHERE entity IN ('person', 'group'))
    AND person != ''
UNION DISTINCT
SELECT DISTINCT
    org,
    device,
    time
FROM {main:Identifier}.sale_rows
WHERE org IN (SELECT substringIndex(entity_id, '/', 1) FROM judged WHERE entity = 'device')
    AND concat(org, '/', device) IN (SELECT entity_id FROM judged WHERE entity = 'device')
UNION DISTINCT
SELECT DISTINCT
    org,
    device,
    time
FROM {main:Identifier}.sale_rows
WHERE org IN (SELECT entity_id FROM judged WHERE entity = 'org')
    AND ((org, formatDateTime(time, '%Y-%m')) IN (SELECT entity_id, period FROM judged WHERE entity = 'org')
        OR (org, '') IN (SELECT entity_id, period FROM judged WHERE entity = 'org'))
UNION DISTINCT
SELECT DISTINCT
    org,
    device,
    time
FROM {main:Identifier}.sale_rows
WHERE org IN (SELECT substringIndex(entity_id, '/', 1) FROM judged WHERE entity = 'lot')
    AND concat(org, '/', drug, '/', lot) IN (SELECT entity_id FROM judged WHERE entity = 'lot')
