-- What this pass saw of institutions. Of those loaded while it ran nobody can say which
-- rule saw what.
INSERT INTO {main:Identifier}.seen_orgs
SELECT
    org,
    if(org IN (SELECT org FROM {main:Identifier}.reference_orgs WHERE _block_number > {orgs_block:UInt64}), 0, digest) AS digest,
    {pass:UInt64} AS pass
FROM org_digests
