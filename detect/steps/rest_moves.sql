-- Moves of the lots under judgement, and of the codes (and the packs that hold
-- codes) that the institutions under judgement sold.
INSERT INTO stock_moves
SELECT *
FROM {main:Identifier}.kept_moves
WHERE org IN (SELECT substringIndex(entity_id, '/', 1) FROM judged WHERE entity IN ('lot', 'org'))
    AND (concat(org, '/', drug, '/', lot) IN (SELECT entity_id FROM judged WHERE entity = 'lot')
        OR (org IN (SELECT entity_id FROM judged WHERE entity = 'org')
            AND (code IN (SELECT code FROM sales) OR code_key IN (SELECT parent FROM packs))))
