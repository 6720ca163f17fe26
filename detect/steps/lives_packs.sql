-- All there is of the packs that hold them. From here on ids are text.
INSERT INTO scan_rows (* EXCEPT (seq, made, operator, visit, person_region, credential, doctor, doctor_id, pharmacist, pharmacist_id, rx, doc, supplier, void_kind))
SELECT
    *
        EXCEPT (seq, made, operator, visit, person_region, credential, doctor, doctor_id, pharmacist, pharmacist_id, rx, doc, supplier, void_kind)
        REPLACE (if(startsWith(event_id, '\0'), UUIDNumToString(toFixedString(substring(event_id, 2, 16), 16)), event_id) AS event_id)
FROM {main:Identifier}.scan_rows
PREWHERE code IN (SELECT ancestor FROM ancestors)
    AND code NOT IN (SELECT code FROM judged_codes)
