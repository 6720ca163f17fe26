-- What the voids that came in name.
INSERT INTO void_names
SELECT
    org,
    cityHash64(org, name.1, name.2) AS key
FROM {main:Identifier}.void_arrivals
ARRAY JOIN arrayFilter(n -> n.2 != '', [('event', reverses), ('settlement', settlement), ('batch', batch_no)]) AS name
WHERE part_block > {from_block:UInt64}
    AND block > {from_block:UInt64}
    AND block <= {to_block:UInt64}
