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
WHERE month IN (SELECT toYYYYMM(date) FROM judged_days)
    AND (org, device, toDate32(time)) IN (SELECT org, device, date FROM judged_days)
UNION DISTINCT
SELECT DISTINCT
    org,
    device,
    time
FROM {main:Identifier}.sale_rows
WHERE org IN (SELECT entity_id FROM judged WHERE entity = 'org')
    AND ((org, month) IN (SELECT entity_id, toUInt32OrZero(replaceOne(period, '-', '')) FROM judged WHERE entity = 'org')
        OR org IN (SELECT entity_id FROM judged WHERE entity = 'org' AND period = ''))
UNION DISTINCT
SELECT DISTINCT
    org,
    device,
    time
FROM {main:Identifier}.sale_rows
WHERE (org, drug, lot) IN (SELECT org, drug, lot FROM judged_lots)
