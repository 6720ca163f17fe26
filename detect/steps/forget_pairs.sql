INSERT INTO {main:Identifier}.pair_rows
SELECT * REPLACE ({pass:UInt64} * 2 AS pass, false AS stands)
FROM
(
    SELECT *
    FROM {main:Identifier}.pair_rows
    FINAL
    WHERE stands AND code IN (SELECT code FROM judged_codes)
)
