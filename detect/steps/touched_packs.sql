-- What newly loaded pack relations say is held by another pack.
INSERT INTO touched
SELECT DISTINCT child
FROM families
WHERE loaded > parseDateTime64BestEffort({since:String}, 6, 'Asia/Shanghai')
