-- Persons of whom a suspect stands that may name the hospital they lay in: nothing need
-- have been sold there.
INSERT INTO touched_stays
SELECT DISTINCT person
FROM inpatient
WHERE org IN (SELECT org FROM touched_orgs)
    AND person IN (SELECT entity_id FROM {main:Identifier}.suspect_rows WHERE entity_kind = 'person')
