SELECT DISTINCT t.person AS entity_id
FROM touched_sales AS t
INNER JOIN inpatient AS i ON i.person = t.person
WHERE t.pay = 'insured'
    AND t.setting IN ('pharmacy', 'outpatient')
    AND t.time > i.admitted
    AND (isNull(i.discharged) OR t.time < i.discharged)
UNION DISTINCT
SELECT person AS entity_id
FROM touched_stays
