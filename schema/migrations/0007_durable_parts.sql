-- What an insert returned for survives a power cut, so that the ingester may say
-- it is stored: the engine's default is to leave the disk to the system. The same
-- holds for what a merge makes, as its sources are deleted. An insert makes one file
-- of data, not two a column, so that it is a handful of syncs and not some 180;
-- the first merge parts the columns.
ALTER TABLE scan_rows
    MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, min_level_for_wide_part = 1;

ALTER TABLE voids
    MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

ALTER TABLE person_vault
    MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

ALTER TABLE reject_rows
    MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;
