-- Persons of whom a stay was loaded, and those of whom a suspect stands that may name the
-- hospital they lay in: nothing need have been sold there. One more than can be judged
-- shows that they are too many.
INSERT INTO touched_stays
SELECT DISTINCT person
FROM
(
    SELECT person
    FROM {main:Identifier}.reference_inpatient
    WHERE _block_number > {from_block:UInt64}
    UNION ALL
    SELECT person
    FROM inpatient
    WHERE org IN (SELECT org FROM touched_orgs)
        AND person IN (SELECT entity_id FROM {main:Identifier}.suspect_rows WHERE entity_kind = 'person')
)
LIMIT {most:UInt64} + 1
