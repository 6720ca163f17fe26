-- Sales of the codes under judgement. sourced: goods-in at the same org before it,
-- of the code or of a pack that holds it.
INSERT INTO {desk:Identifier}.sales
WITH
    sources AS
    (
        SELECT
            org,
            code_key,
            min(time) AS first
        FROM {desk:Identifier}.stock_moves
        WHERE kind IN ('purchase', 'stock_in', 'stock_take') AND item
        GROUP BY
            org,
            code_key
    ),
    reached AS
    (
        SELECT
            org,
            code_key,
            min(first) AS first
        FROM
        (
            SELECT
                org,
                code_key,
                first
            FROM sources
            UNION ALL
            SELECT
                s.org AS org,
                a.child_key AS code_key,
                s.first AS first
            FROM sources AS s
            INNER JOIN ancestors AS a ON a.ancestor_key = s.code_key
        )
        GROUP BY
            org,
            code_key
    )
SELECT
    s.code_key,
    if(s.scheme = 'cn20', s.code_key, s.code_raw) AS code_raw,
    s.scheme,
    s.product,
    s.event_id,
    s.kind,
    s.time,
    s.org,
    s.region,
    s.device,
    s.drug,
    s.lot,
    s.expires,
    s.split,
    s.quantity,
    s.price,
    s.days,
    s.pay,
    s.settlement,
    s.fund_pay,
    s.person,
    s.setting,
    s.codes,
    s.digest,
    s.code,
    s.code_text,
    s.item,
    s.share,
    s.paid,
    s.undone,
    s.undone_event,
    s.undone_at,
    s.item AND r.code_key != '' AND r.first < s.time AS sourced,
    toYYYYMM(s.time) AS month
FROM sales AS s
LEFT JOIN reached AS r ON r.org = s.org AND r.code_key = s.code_key
WHERE s.code IN (SELECT code FROM judged_codes)
