INSERT INTO sales
SELECT *
FROM {main:Identifier}.kept_sales
WHERE month IN (SELECT toYYYYMM(time) FROM keys)
    AND (org, device, time) IN (SELECT org, device, time FROM keys)
