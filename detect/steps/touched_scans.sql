-- Codes of scans that came in between two blocks.
INSERT INTO touched
SELECT DISTINCT code
FROM {main:Identifier}.arrivals
WHERE part_block > {from_block:UInt64}
    AND block > {from_block:UInt64}
    AND block <= {to_block:UInt64}
