-- Rows of reference data keep the number of the insert they came with, as scans do: a
-- pass knows by it what it has not seen. The stamp of a load is no such number. It is
-- taken before the first of many inserts, by a clock that may be slow.
ALTER TABLE reference_orgs
    MODIFY SETTING enable_block_number_column = 1;

ALTER TABLE reference_persons
    MODIFY SETTING enable_block_number_column = 1;

ALTER TABLE reference_inpatient
    MODIFY SETTING enable_block_number_column = 1;

ALTER TABLE reference_packs
    MODIFY SETTING enable_block_number_column = 1;
