INSERT INTO {main:Identifier}.restock_rows
SELECT
    code,
    code_text,
    code_key,
    product,
    drug,
    sale_time,
    sale_org,
    sale_event,
    sale_person,
    sale_region,
    time,
    org,
    event_id,
    kind,
    person,
    region,
    {pass:UInt64} * 2 + 1 AS pass,
    true AS stands
FROM {desk:Identifier}.{restocks:Identifier}
