-- Dates on which a judged device had a crowd that may be unusual, and the dates after
-- them, into which its last minutes reach. What is usual stands in device_slots. A date
-- has 288 slots of 5 minutes, so without two dates the 95th percentile is at least what
-- stands 576 slots lower.
INSERT INTO judged_days
WITH
    days AS
    (
        SELECT
            org,
            device,
            date,
            most,
            slots
        FROM device_days
        WHERE (org, device) IN
        (
            SELECT
                org,
                device
            FROM touched_sales
            WHERE concat(org, '/', device) IN (SELECT entity_id FROM judged WHERE entity = 'device')
        )
    )
SELECT DISTINCT
    org,
    device,
    date + after
FROM
(
    SELECT
        org,
        device,
        groupArrayIf((date, most), most >= {persons:UInt32}) AS crowds,
        arraySort(groupArrayArray(slots)) AS counts,
        if(length(counts) < 596, 0, counts[toUInt32(ceil(0.95 * (length(counts) - 576)))]) AS at_least
    FROM days
    GROUP BY
        org,
        device
)
ARRAY JOIN arrayMap(c -> c.1, arrayFilter(c -> c.2 >= {times:Float64} * at_least, crowds)) AS date
ARRAY JOIN [0, 1] AS after
