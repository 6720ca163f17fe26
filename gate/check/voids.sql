SELECT
    toString(org),
    reverses,
    settlement,
    batch_no,
    has(void_kind, 'sale'),
    has(void_kind, 'sale_return'),
    toUnixTimestamp64Milli(time),
    toUnixTimestamp64Milli(sent)
FROM voids
WHERE NOT clock
