-- What the voids that came in name, an id as scan_rows holds it: they are few, and
-- it holds many.
INSERT INTO void_names
SELECT
    org,
    target.1 AS how,
    target.2 AS name
FROM {main:Identifier}.void_arrivals
ARRAY JOIN arrayFilter(t -> t.2 != '', [('event_id', if(UUIDNumToString(UUIDStringToNum(reverses)) = reverses, concat('\0', UUIDStringToNum(reverses)), reverses)), ('settlement', settlement), ('batch_no', batch_no)]) AS target
WHERE part_block > {from_block:UInt64}
    AND block > {from_block:UInt64}
    AND block <= {to_block:UInt64}
