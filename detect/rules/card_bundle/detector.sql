-- version: 1
-- title: Bundle of cards that come together again and again
-- title_zh: 多卡同行(疑似集中刷卡)
-- status: live
-- severity: medium
-- entity: group
-- amount: turnover
-- refine: bundle
-- param: size UInt32 = 5 · households
-- param: days UInt32 = 3 · different dates
-- param: minutes UInt32 = 10 · within, on one date at one device
WITH
    near AS
    (
        SELECT
            org,
            device,
            toDate(time) AS date,
            toUnixTimestamp64Milli(time) AS ms,
            time,
            event_id,
            code_key,
            person,
            region,
            if(undone, 0, paid) AS paid,
            uniqExact(person) OVER (
                PARTITION BY org, device, date
                ORDER BY ms
                RANGE BETWEEN CURRENT ROW AND {minutes:UInt32} * 60000 FOLLOWING) AS ahead
        FROM sales
        WHERE pay = 'insured'
            AND device != ''
            AND person != ''
            AND org NOT IN (SELECT org FROM org_facts WHERE type = 'hospital')
            -- Dates with persons enough in so many slots of five minutes as a window
            -- may reach into, whichever they are.
            AND (org, device, toDate32(time)) IN
            (
                SELECT
                    org,
                    device,
                    date
                FROM device_slots
                WHERE arraySum(arraySlice(arrayReverseSort(slots), 1, intDiv({minutes:UInt32} + 4, 5) + 1)) >= {size:UInt32}
            )
    ),
    -- Sales in a window that begins with any sale and holds persons enough.
    crowded AS
    (
        SELECT
            *,
            max(ahead >= {size:UInt32}) OVER (
                PARTITION BY org, device, date
                ORDER BY ms
                RANGE BETWEEN {minutes:UInt32} * 60000 PRECEDING AND CURRENT ROW) AS crowd
        FROM near
    ),
    regular AS
    (
        SELECT
            *,
            uniqExact(date) OVER (PARTITION BY person) AS dates
        FROM crowded
        WHERE crowd
    ),
    few AS
    (
        SELECT *
        FROM regular
        WHERE dates >= {days:UInt32}
    )
SELECT
    f.org AS org,
    o.name AS name,
    f.device AS device,
    f.time AS time,
    f.event_id AS event_id,
    f.code_key AS code_key,
    f.person AS person,
    p.household AS household,
    f.region AS region,
    f.paid AS paid
-- What is on the right is held in memory: the few persons, not all there are.
FROM persons AS p
RIGHT JOIN few AS f ON f.person = p.person
LEFT JOIN org_facts AS o ON o.org = f.org
