-- Device days that were touched, and the day before, whose last minutes may reach
-- into them. In a full pass that begins: all.
INSERT INTO {main:Identifier}.device_days
WITH
    wanted AS
    (
        SELECT DISTINCT
            org,
            device,
            toDate32(time) - toInt32(before) AS date
        FROM touched_sales
        ARRAY JOIN [0, 1] AS before
        WHERE pay = 'insured' AND device != ''
    ),
    swipes AS
    (
        SELECT
            org,
            device,
            time,
            person,
            toDate32(time) AS date,
            toUnixTimestamp64Milli(time) AS at
        FROM {main:Identifier}.kept_sales
        WHERE pay = 'insured'
            AND device != ''
            AND (({all:Bool} AND org IN {orgs:Array(String)})
                OR (NOT {all:Bool} AND month IN (SELECT toYYYYMM(arrayJoin([date, date + 1])) FROM wanted)
                    AND cityHash64(org, device, toDate32(time)) IN (SELECT cityHash64(org, device, arrayJoin([date, date + 1])) FROM wanted)))
        GROUP BY
            org,
            device,
            time,
            person
    ),
    windows AS
    (
        SELECT
            org,
            device,
            date,
            at,
            intDiv(at, 300000) AS slot,
            person,
            uniqExactIf(person, person != '') OVER (PARTITION BY org, device ORDER BY at RANGE BETWEEN CURRENT ROW AND {burst_minutes:UInt32} * 60000 FOLLOWING) AS n,
            groupUniqArrayIf(cityHash64(person), person != '') OVER together AS crowd,
            max(at) OVER together AS until
        FROM swipes
        WINDOW together AS (PARTITION BY org, device, date ORDER BY at RANGE BETWEEN CURRENT ROW AND {bundle_minutes:UInt32} * 60000 FOLLOWING)
    ),
    -- Of windows one within the other the larger is enough.
    largest AS
    (
        SELECT
            *,
            until > lagInFrame(until, 1, 0) OVER (PARTITION BY org, device, date ORDER BY at, person ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS opens
        FROM windows
    ),
    slots AS
    (
        SELECT
            org,
            device,
            date,
            slot,
            uniqExactIf(person, person != '') AS persons,
            max(n) AS most,
            groupArrayIf(crowd, opens AND length(crowd) >= {bundle_size:UInt32}) AS crowds
        FROM largest
        GROUP BY
            org,
            device,
            date,
            slot
    )
SELECT
    org,
    device,
    date,
    arraySort(groupArray(toUInt16(least(persons, 65535)))) AS slots,
    toUInt32(max(most)) AS most,
    arrayDistinct(groupArrayArray(crowds)) AS crowds,
    {pass:UInt64} AS pass
FROM slots
WHERE {all:Bool} OR (org, device, date) IN (SELECT org, device, date FROM wanted)
GROUP BY
    org,
    device,
    date
