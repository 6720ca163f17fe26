INSERT INTO sales
SELECT *
FROM kept_near_sales
