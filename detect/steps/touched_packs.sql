-- What newly loaded pack relations say is held by another pack.
INSERT INTO touched
SELECT DISTINCT child
FROM families
WHERE block > {from_block:UInt64}
