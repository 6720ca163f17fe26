SELECT
    code,
    toInt64(count())
FROM rejects
WHERE match(org, '-T[0-9]{5}$')
    AND (toUInt64OrZero(substring(org, -5)) + {towns:UInt64} - {first:UInt64}) % {towns:UInt64} < {count:UInt64}
GROUP BY code
