SELECT
    toString(detector),
    -- A group is told by its members.
    multiIf(
        detector = 'card_bundle', arrayStringConcat(arraySort(arrayDistinct(persons)), ' '),
        detector = 'resale_ring', arrayStringConcat(arraySort(arrayDistinct(orgs)), ' '),
        entity_id)
FROM suspects
WHERE status != 'explained'
    AND arrayExists(org -> match(org, '-T[0-9]{5}$')
        AND (toUInt64OrZero(substring(org, -5)) + {towns:UInt64} - {first:UInt64}) % {towns:UInt64} < {count:UInt64}, orgs)
