-- Uploads of those under judgement, with what a later pass replaced: FINAL over the
-- whole table would merge all of it. Who, where, when and what is the same in all
-- versions of an upload, so none is missed.
INSERT INTO near_sales
SELECT
    *,
    month
FROM {main:Identifier}.sale_rows
WHERE person IN (SELECT entity_id FROM judged WHERE entity IN ('person', 'group'))
    AND person != ''
UNION ALL
SELECT
    *,
    month
FROM {main:Identifier}.sale_rows
WHERE month IN (SELECT toYYYYMM(date) FROM judged_days)
    AND (org, device, toDate32(time)) IN (SELECT org, device, date FROM judged_days)
UNION ALL
SELECT
    *,
    month
FROM {main:Identifier}.sale_rows
WHERE org IN (SELECT entity_id FROM judged WHERE entity = 'org')
    AND ((org, month) IN (SELECT entity_id, toUInt32OrZero(replaceOne(period, '-', '')) FROM judged WHERE entity = 'org')
        OR org IN (SELECT entity_id FROM judged WHERE entity = 'org' AND period = ''))
UNION ALL
SELECT
    *,
    month
FROM {main:Identifier}.sale_rows
WHERE month IN (SELECT month FROM lot_months WHERE key IN (SELECT cityHash64(org, drug, lot) FROM judged_lots))
    AND org IN (SELECT org FROM judged_lots)
    AND (org, drug, lot) IN (SELECT org, drug, lot FROM judged_lots)
