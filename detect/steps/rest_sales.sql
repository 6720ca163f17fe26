INSERT INTO sales
SELECT *
FROM near_sales
