-- Device days that have no insured sale any more.
INSERT INTO {main:Identifier}.device_days
SELECT
    org,
    device,
    date,
    [] AS slots,
    0 AS most,
    [] AS crowds,
    {pass:UInt64} AS pass
FROM
(
    SELECT DISTINCT
        org,
        device,
        toDate32(time) AS date
    FROM touched_sales
    WHERE pay = 'insured' AND device != '' AND gone
)
WHERE (org, device, date) NOT IN
(
    SELECT
        org,
        device,
        toDate32(time)
    FROM {main:Identifier}.kept_sales
    WHERE pay = 'insured'
        AND month IN (SELECT toYYYYMM(time) FROM touched_sales WHERE gone)
        AND cityHash64(org, device, toDate32(time)) IN (SELECT cityHash64(org, device, toDate32(time)) FROM touched_sales WHERE gone)
)
