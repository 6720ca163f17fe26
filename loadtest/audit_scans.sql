-- What Truth says of each town, worked out from what analysts see. The checksum
-- is made as appendRow makes it, of the row as a text, and added up.
SELECT
    town,
    toInt64(sum(intDiv(found, greatest(codes, 1)))) AS events,
    toInt64(sum(found)) AS found_rows,
    toInt64(ifNull(sum(quantities), 0) * 1000000) AS quantity_micro,
    toInt64(ifNull(sum(prices), 0) * 1000000) AS price_micro,
    sum(checksums) AS checksum
FROM
(
    SELECT
        toUInt64(substring(org, -5)) AS town,
        codes,
        count() AS found,
        sum(quantity) AS quantities,
        sum(price) AS prices,
        sum(xxHash64(concat(
            org, '\0',
            event_id, '\0',
            code_key, '\0',
            code_raw, '\0',
            toString(kind), '\0',
            region, '\0',
            device, '\0',
            operator, '\0',
            drug, '\0',
            lot, '\0',
            settlement, '\0',
            reverses, '\0',
            toString(toUnixTimestamp64Milli(time)), '\0',
            toString(toUnixTimestamp64Milli(sent)), '\0',
            ifNull(toString(reinterpretAsInt64(quantity)), ''), '\0',
            ifNull(toString(reinterpretAsInt64(price)), ''), '\0'
        ))) AS checksums
    FROM scans
    WHERE match(org, '-T[0-9]{5}$')
        AND (toUInt64OrZero(substring(org, -5)) + {towns:UInt64} - {first:UInt64}) % {towns:UInt64} < {count:UInt64}
    GROUP BY town, codes
)
GROUP BY town
ORDER BY town
