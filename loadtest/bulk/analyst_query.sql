-- What an analyst asks first.
SELECT
    code,
    count()
FROM analyst_scans
WHERE kind = 'sale' AND pay = 'insured'
GROUP BY code
HAVING count() > 1
