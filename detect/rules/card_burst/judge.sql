-- Devices with a touched sale and a crowd, now or earlier, that is not usual there
-- at one look: new sales change what is usual. A date has 288 slots of 5 minutes, so
-- without two dates the 95th percentile is at least what stands 576 slots lower.
SELECT concat(org, '/', device) AS entity_id
FROM
(
    SELECT
        org,
        device,
        max(most) AS largest,
        arraySort(groupArrayArray(slots)) AS counts
    FROM device_days
    WHERE (org, device) IN
        (
            SELECT
                org,
                device
            FROM touched_sales
            WHERE pay = 'insured' AND device != ''
        )
        AND (org, device) IN
        (
            SELECT
                org,
                device
            FROM device_days
            WHERE most >= {persons:UInt32}
        )
    GROUP BY
        org,
        device
)
WHERE largest >= {times:Float64} * if(length(counts) < 596, 0, counts[toUInt32(ceil(0.95 * (length(counts) - 576)))])
