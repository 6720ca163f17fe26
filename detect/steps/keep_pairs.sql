INSERT INTO {main:Identifier}.pair_rows
SELECT
    if(match(code_key, '^8\\d{19}$'), toUInt64(substring(code_key, 2)), xxHash64(code_key)) AS code,
    if(match(code_key, '^8\\d{19}$'), '', code_key) AS code_text,
    code_key,
    drug,
    product,
    first_time,
    first_org,
    first_event,
    first_person,
    first_region,
    second_time,
    second_org,
    second_event,
    second_person,
    second_region,
    second_paid,
    gap_hours,
    {pass:UInt64} * 2 + 1 AS pass,
    true AS stands
FROM {desk:Identifier}.{sale_pairs:Identifier}
