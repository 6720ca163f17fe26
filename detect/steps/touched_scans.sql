-- Codes of scans that came in between two blocks, one as often as it came: all codes
-- there are would be too many to be told apart at once.
INSERT INTO touched
SELECT code
FROM {main:Identifier}.arrivals
WHERE part_block > {from_block:UInt64}
    AND block > {from_block:UInt64}
    AND block <= {to_block:UInt64}
