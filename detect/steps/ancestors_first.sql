INSERT INTO ancestors
SELECT DISTINCT
    child_key,
    parent,
    parent_key
FROM families
WHERE child IN (SELECT code FROM judged_codes)
