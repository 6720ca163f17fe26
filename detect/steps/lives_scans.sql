-- Those whose lives must be worked out. What life_rows leaves out, no rule reads.
INSERT INTO scan_rows (* EXCEPT (seq, made, operator, visit, person_region, credential, doctor, doctor_id, pharmacist, pharmacist_id, rx, doc, supplier, void_kind))
SELECT * EXCEPT fresh
FROM life_rows
WHERE code NOT IN (SELECT code FROM plain_codes)
