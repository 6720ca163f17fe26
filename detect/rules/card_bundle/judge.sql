-- Persons of touched crowds that met before: as many of one crowd as it takes, in
-- crowds of enough other dates. Hospitals are left out by the rule. What a WITH names
-- is worked out wherever it stands, but for a single value: so crowds go along as such.
WITH
    windows AS
    (
        SELECT
            org,
            device,
            date,
            arrayJoin(crowds) AS crowd
        FROM device_days
        WHERE notEmpty(crowds) AND org NOT IN (SELECT org FROM org_facts WHERE type = 'hospital')
    ),
    fresh AS
    (
        SELECT
            org,
            device,
            date,
            crowd,
            arrayJoin(crowd) AS person
        FROM windows
        WHERE (org, device, date) IN
        (
            SELECT
                org,
                device,
                toDate32(time)
            FROM touched_sales
            WHERE pay = 'insured' AND device != ''
        )
    ),
    known AS
    (
        SELECT
            cityHash64(org, device, date, crowd) AS id,
            date,
            arrayJoin(arrayFilter(p -> p IN (SELECT person FROM fresh), crowd)) AS person
        FROM windows
    ),
    met AS
    (
        SELECT
            f.org AS org,
            f.device AS device,
            f.crowd AS crowd,
            k.date AS date
        FROM known AS k
        INNER JOIN fresh AS f ON f.person = k.person
        WHERE k.date != f.date
        GROUP BY
            f.org,
            f.device,
            f.date,
            f.crowd,
            k.id,
            k.date
        HAVING uniqExact(f.person) >= {size:UInt32}
    ),
    (
        SELECT groupArray((org, device, crowd))
        FROM
        (
            SELECT
                org,
                device,
                crowd
            FROM met
            GROUP BY
                org,
                device,
                crowd
            HAVING uniqExact(date) + 1 >= {days:UInt32}
        )
    ) AS often
SELECT DISTINCT person AS entity_id
FROM sale_rows
WHERE (org, device) IN
    (
        SELECT
            o.1,
            o.2
        FROM (SELECT arrayJoin(often) AS o)
    )
    AND cityHash64(person) IN (SELECT arrayJoin(arrayJoin(often).3))
