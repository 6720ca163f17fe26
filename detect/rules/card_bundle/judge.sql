-- Persons of touched crowds that met before: as many of one crowd as it takes, in
-- crowds of enough other dates. Hospitals are left out by the rule.
WITH
    windows AS
    (
        SELECT
            org,
            device,
            date,
            cityHash64(org, device, date, crowd) AS id,
            crowd
        FROM
        (
            SELECT
                org,
                device,
                date,
                arrayJoin(crowds) AS crowd
            FROM device_days
            WHERE notEmpty(crowds) AND org NOT IN (SELECT org FROM org_facts WHERE type = 'hospital')
        )
    ),
    fresh AS
    (
        SELECT
            org,
            device,
            date,
            id,
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
            id,
            date,
            arrayJoin(crowd) AS person
        FROM windows
        WHERE arrayExists(p -> p IN (SELECT person FROM fresh), crowd)
    ),
    met AS
    (
        SELECT
            f.id AS id,
            k.date AS date
        FROM fresh AS f
        INNER JOIN known AS k ON k.person = f.person
        WHERE k.date != f.date
        GROUP BY
            f.id,
            k.id,
            k.date
        HAVING uniqExact(f.person) >= {size:UInt32}
    ),
    often AS
    (
        SELECT id
        FROM met
        GROUP BY id
        HAVING uniqExact(date) + 1 >= {days:UInt32}
    )
SELECT DISTINCT person AS entity_id
FROM sale_rows
WHERE (org, device) IN
    (
        SELECT
            org,
            device
        FROM fresh
        WHERE id IN (SELECT id FROM often)
    )
    AND cityHash64(person) IN (SELECT person FROM fresh WHERE id IN (SELECT id FROM often))
