SELECT
    toString(detector),
    toString(entity_kind),
    entity_id,
    ifNull(toString(`from`), ''),
    ifNull(toString(`to`), '')
FROM exemptions
