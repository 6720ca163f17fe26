-- Rows as the engine has them, before equal ones are merged.
SELECT toInt64(count())
FROM scan_rows
WHERE match(org, '-T[0-9]{5}$')
    AND (toUInt64OrZero(substring(org, -5)) + {towns:UInt64} - {first:UInt64}) % {towns:UInt64} < {count:UInt64}
