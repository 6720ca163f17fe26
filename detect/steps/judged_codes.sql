INSERT INTO judged_codes
SELECT DISTINCT code
FROM touched
WHERE code >= {from_code:UInt64} AND code <= {to_code:UInt64}
