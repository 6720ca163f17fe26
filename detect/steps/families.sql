-- Which larger pack holds which, by numeric code key, and with which insert that came.
INSERT INTO families
SELECT
    if(match(child, '^8\\d{19}$'), toUInt64(substring(child, 2)), xxHash64(child)) AS child,
    packs.child AS child_key,
    if(match(parent, '^8\\d{19}$'), toUInt64(substring(parent, 2)), xxHash64(parent)) AS parent,
    packs.parent AS parent_key,
    _block_number AS block
FROM {main:Identifier}.reference_packs AS packs
FINAL
