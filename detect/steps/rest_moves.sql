-- Moves of the lots under judgement, and of the codes (and the packs that hold
-- codes) that the institutions under judgement sold.
INSERT INTO stock_moves
SELECT *
FROM {main:Identifier}.kept_moves
WHERE (org, drug, lot) IN (SELECT org, drug, lot FROM judged_lots)
UNION ALL
SELECT *
FROM {main:Identifier}.kept_moves
WHERE org IN (SELECT entity_id FROM judged WHERE entity = 'org')
    AND (code IN (SELECT code FROM sales) OR code_key IN (SELECT parent FROM packs))
    AND (org, drug, lot) NOT IN (SELECT org, drug, lot FROM judged_lots)
