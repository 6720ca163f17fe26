-- The copy an analyst would make of the scans, with the columns an analyst would
-- take, in the order the question asks for. Frozen: what is measured against it
-- today and next year must be the same.
CREATE TABLE analyst_scans
(
    code String,
    event_id String,
    kind LowCardinality(String),
    time DateTime('Asia/Shanghai'),
    org LowCardinality(String),
    region LowCardinality(String),
    drug LowCardinality(String),
    lot LowCardinality(String),
    quantity Decimal(18, 6),
    price Decimal(18, 6),
    pay LowCardinality(String),
    settlement String,
    fund_pay Decimal(18, 6),
    person String
)
ENGINE = MergeTree
ORDER BY code
