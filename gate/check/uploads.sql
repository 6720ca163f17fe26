SELECT
    code,
    toString(org),
    toString(region),
    toUnixTimestamp64Milli(time) AS at,
    at + (toInt64(intDiv(promptness + 8589934592, 17179869184)) - 64) * 1000 + sent_lag,
    if(startsWith(event_id, '\0'), UUIDNumToString(toFixedString(substring(event_id, 2, 16), 16)), event_id),
    toUInt8(digest % 256),
    settlement,
    batch_no,
    reverses,
    person,
    toInt64(toDecimal128(ifNull(quantity, 0), 6) * 1000000),
    codes,
    kind = 'sale_return',
    pay = 'insured',
    split
FROM scan_rows
WHERE kind IN ('sale', 'sale_return')
    AND (scheme = 'cn20' OR code_text != '')
    AND NOT has(flags, 'clock')
