-- All there is of the codes under judgement, and of the packs that hold them.
INSERT INTO scan_rows
(
    code,
    code_text,
    org,
    event_id,
    digest,
    promptness,
    scheme,
    product,
    code_raw,
    codes,
    kind,
    time,
    sent_lag,
    region,
    device,
    drug,
    lot,
    expires,
    split,
    quantity,
    price,
    days,
    pay,
    settlement,
    fund_pay,
    person,
    setting,
    batch_no,
    reverses,
    flags
)
SELECT
    code,
    code_text,
    org,
    event_id,
    digest,
    promptness,
    scheme,
    product,
    code_raw,
    codes,
    kind,
    time,
    sent_lag,
    region,
    device,
    drug,
    lot,
    expires,
    split,
    quantity,
    price,
    days,
    pay,
    settlement,
    fund_pay,
    person,
    setting,
    batch_no,
    reverses,
    flags
FROM {main:Identifier}.scan_rows
PREWHERE code IN
(
    SELECT code
    FROM judged_codes
    UNION ALL
    SELECT ancestor
    FROM ancestors
)
