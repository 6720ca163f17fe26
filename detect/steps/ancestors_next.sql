-- The packs that hold the packs found so far; those known already are left out, so
-- that packs that hold each other end.
INSERT INTO ancestors
SELECT DISTINCT
    a.child_key,
    f.parent,
    f.parent_key
FROM ancestors AS a
INNER JOIN families AS f ON f.child_key = a.ancestor_key
WHERE (a.child_key, f.parent_key) NOT IN (SELECT child_key, ancestor_key FROM ancestors)
