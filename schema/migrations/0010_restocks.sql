-- One row for each time a smallest-level item code that the fund had paid for
-- came into the stock of another org, with the latest effective sale before it
-- at another org than that.
CREATE VIEW IF NOT EXISTS restocks
(
    code_key String COMMENT '追溯码键 · key used to compare (drug_trac_codg)',
    code UInt64 COMMENT '码键数值,连接与分组比 code_key 快 · numeric code key, faster than code_key to join and group by (drug_trac_codg)',
    code_text String COMMENT '非20位追溯码的码键全文 · full key of item codes that are not 20 digits (drug_trac_codg)',
    product LowCardinality(String) COMMENT '药品标识码(前7位)或 GTIN-14 · product and pack level (drug_trac_codg)',
    drug LowCardinality(String) COMMENT '医疗目录编码,以结算时为准 · national catalogue code that was billed at the sale (med_list_codg)',
    sale_time DateTime64(3, 'Asia/Shanghai') COMMENT '此前最近一次他处有效结算的时间 · when it was last sold before, at another org (sel_retn_time)',
    sale_org LowCardinality(String) COMMENT '该次结算的机构 · institution of that sale (fixmedins_code)',
    sale_event String COMMENT '该次结算的事件号 · event_id of that sale (yaosu)',
    sale_person String COMMENT '该次结算的参保人假名 · person of that sale, pseudonym (psn_no)',
    sale_region LowCardinality(String) COMMENT '该次结算机构所在区划 · county of that sale (fixmedins_admdvs)',
    time DateTime64(3, 'Asia/Shanghai') COMMENT '再次入库的时间 · when it came into stock (purc_retn_stoin_time, inv_chg_time, invdate)',
    org LowCardinality(String) COMMENT '再次入库的机构 · institution where it came into stock (fixmedins_code)',
    event_id String COMMENT '再次入库的事件号 · event_id of that (yaosu)',
    kind Enum8('sale' = 1, 'sale_return' = 2, 'purchase' = 3, 'purchase_return' = 4, 'stock_in' = 5, 'stock_out' = 6, 'stock_take' = 7, 'void' = 8) COMMENT '采购、入库或盘存 · purchase, stock_in or stock_take (infno)',
    person String COMMENT '入库记录上的参保人假名,通常为空 · person on that record, pseudonym, usually empty (psn_no)',
    region LowCardinality(String) COMMENT '再次入库机构所在区划 · county of that institution (fixmedins_admdvs)'
)
COMMENT '已结算药品在他处入库,每次入库与码一行 · codes that came into stock elsewhere after the fund paid for them'
AS WITH
    stocked AS
    (
        SELECT
            code_key,
            code,
            code_text,
            product,
            time,
            org,
            event_id,
            kind,
            person,
            region
        FROM stock_moves
        WHERE kind IN ('purchase', 'stock_in', 'stock_take') AND item
    ),
    sold AS
    (
        SELECT
            code,
            code_text,
            arraySort(groupArray((time, org, event_id, person, region, drug))) AS sales
        FROM effective_sales
        WHERE code IN (SELECT code FROM moved_codes)
        GROUP BY
            code,
            code_text
    ),
    caught AS
    (
        SELECT
            stocked.code_key AS code_key,
            stocked.code AS code,
            stocked.code_text AS code_text,
            stocked.product AS product,
            stocked.time AS time,
            stocked.org AS org,
            stocked.event_id AS event_id,
            stocked.kind AS kind,
            stocked.person AS person,
            stocked.region AS region,
            arrayLast(s -> s.1 < stocked.time AND s.2 != stocked.org, sold.sales) AS sale
        FROM stocked
        INNER JOIN sold ON sold.code = stocked.code AND sold.code_text = stocked.code_text
        LEFT JOIN pack_sizes AS p ON p.product = stocked.product
        WHERE p.product = '' OR p.smallest
    )
SELECT
    code_key,
    code,
    code_text,
    product,
    sale.6 AS drug,
    sale.1 AS sale_time,
    sale.2 AS sale_org,
    sale.3 AS sale_event,
    sale.4 AS sale_person,
    sale.5 AS sale_region,
    time,
    org,
    event_id,
    kind,
    person,
    region
FROM caught
WHERE sale.2 != '';

-- A group that was swallowed by another says by which.
ALTER TABLE suspect_rows
    ADD COLUMN IF NOT EXISTS superseded_by String COMMENT '并入的线索编号,空为未并入 · suspect this group went into, empty for none (yaosu)';

CREATE OR REPLACE VIEW suspects
(
    suspect_id String COMMENT '线索编号 · stable id of the finding (yaosu)',
    detector LowCardinality(String) COMMENT '规则编号 · detector (yaosu)',
    detector_version LowCardinality(String) COMMENT '规则版本 · detector version (yaosu)',
    severity Enum8('low' = 1, 'medium' = 2, 'high' = 3) COMMENT '严重程度 · severity (yaosu)',
    entity_kind Enum8('code' = 1, 'person' = 2, 'org' = 3, 'device' = 4, 'lot' = 5, 'group' = 6) COMMENT '对象类型 · what is suspected (yaosu)',
    entity_id String COMMENT '对象编号 · which (yaosu)',
    period String COMMENT '月份 YYYY-MM · month of monthly detectors, else empty (yaosu)',
    regions Array(String) COMMENT '涉及区划,首个为最近发生地 · regions concerned, first where it last happened (fixmedins_admdvs)',
    score Float64 COMMENT '评分 · score (yaosu)',
    first_time DateTime64(3, 'Asia/Shanghai') COMMENT '最早证据时间 · earliest evidence (yaosu)',
    last_time DateTime64(3, 'Asia/Shanghai') COMMENT '最晚证据时间 · latest evidence (yaosu)',
    amount Float64 COMMENT '不应支付的基金金额,元 · yuan the fund should not have paid (fund_pay_sumamt)',
    events Array(String) COMMENT '证据事件 机构/事件号 · proving events as org/event_id (yaosu)',
    codes Array(String) COMMENT '涉及追溯码 · codes concerned (drug_trac_codg)',
    orgs Array(String) COMMENT '涉及机构,与 roles 同序 · institutions, in the order of roles (fixmedins_code)',
    roles Array(String) COMMENT '各机构角色 · role of each institution (yaosu)',
    persons Array(String) COMMENT '涉及参保人假名 · persons concerned, pseudonyms (psn_no)',
    reason String COMMENT '说明 · one sentence with the numbers in it (yaosu)',
    parameters String COMMENT '规则参数 JSON · parameters of the detector, JSON (yaosu)',
    status Enum8('open' = 1, 'reviewing' = 2, 'confirmed' = 3, 'dismissed' = 4, 'referred' = 5, 'explained' = 6) COMMENT '状态,人工决定优先 · state; a human decision stands above the machine''s (yaosu)',
    opened_at DateTime64(3, 'Asia/Shanghai') COMMENT '首次发现时间 · when first found (yaosu)',
    updated_at DateTime64(3, 'Asia/Shanghai') COMMENT '最近变化时间 · when last changed (yaosu)',
    superseded_by String COMMENT '并入的线索编号,空为未并入 · suspect this group went into, empty for none (yaosu)'
)
COMMENT '线索最新状态 · newest state of each suspect'
AS SELECT
    s.suspect_id,
    s.detector,
    s.detector_version,
    s.severity,
    s.entity_kind,
    s.entity_id,
    s.period,
    s.regions,
    s.score,
    s.first_time,
    s.last_time,
    s.amount,
    s.events,
    s.codes,
    s.orgs,
    s.roles,
    s.persons,
    s.reason,
    s.parameters,
    if(d.last_decision > toDateTime64(0, 3, 'Asia/Shanghai'), d.decided, s.status) AS status,
    s.opened_at,
    greatest(s.updated_at, d.last_decision) AS updated_at,
    s.superseded_by
FROM suspect_rows AS s
FINAL
LEFT JOIN
(
    SELECT
        suspect_id,
        argMax(status, decided_at) AS decided,
        max(decided_at) AS last_decision
    FROM decisions
    GROUP BY suspect_id
) AS d ON d.suspect_id = s.suspect_id;
