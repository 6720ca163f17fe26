INSERT INTO busy_codes
SELECT *
FROM busy_codes_now
