INSERT INTO sales
SELECT *
FROM {main:Identifier}.kept_sales
WHERE (org, device, time) IN (SELECT org, device, time FROM keys)
