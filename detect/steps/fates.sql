INSERT INTO fates
SELECT *
FROM fates_now
