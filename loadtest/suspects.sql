SELECT
    toString(detector),
    entity_id
FROM suspects
WHERE status != 'explained'
    AND arrayExists(org -> match(org, '-T[0-9]{5}$')
        AND (toUInt64OrZero(substring(org, -5)) + {towns:UInt64} - {first:UInt64}) % {towns:UInt64} < {count:UInt64}, orgs)
