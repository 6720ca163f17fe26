-- Persons of whom something was loaded, as far as they are dead or under suspicion. One
-- more than can be judged shows that they are too many.
INSERT INTO touched_persons
SELECT DISTINCT person
FROM {main:Identifier}.reference_persons
WHERE _block_number > {from_block:UInt64}
    AND (person IN (SELECT person FROM persons WHERE isNotNull(died_on))
        OR person IN (SELECT entity_id FROM {main:Identifier}.suspect_rows WHERE entity_kind = 'person'))
LIMIT {most:UInt64} + 1
