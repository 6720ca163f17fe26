INSERT INTO stock_moves
SELECT *
FROM kept_near_moves
