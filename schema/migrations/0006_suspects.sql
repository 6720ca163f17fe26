CREATE TABLE IF NOT EXISTS suspect_rows
(
    suspect_id String COMMENT '线索编号,同一发现不变 · stable id of the finding (yaosu)',
    detector LowCardinality(String) COMMENT '规则编号 · detector (yaosu)',
    detector_version LowCardinality(String) COMMENT '规则版本 · detector version (yaosu)',
    severity Enum8('low' = 1, 'medium' = 2, 'high' = 3) COMMENT '严重程度 · severity (yaosu)',
    entity_kind Enum8('code' = 1, 'person' = 2, 'org' = 3, 'device' = 4, 'lot' = 5, 'group' = 6) COMMENT '对象类型 · what is suspected (yaosu)',
    entity_id String COMMENT '对象编号 · which (yaosu)',
    period String COMMENT '月份 YYYY-MM,非按月规则为空 · month of monthly detectors, else empty (yaosu)',
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
    status Enum8('open' = 1, 'reviewing' = 2, 'confirmed' = 3, 'dismissed' = 4, 'referred' = 5, 'explained' = 6) COMMENT '机器状态:open 待核,explained 已被后续事件解释 · state as the machine sees it (yaosu)',
    opened_at DateTime64(3, 'Asia/Shanghai') COMMENT '首次发现时间 · when first found (yaosu)',
    updated_at DateTime64(3, 'Asia/Shanghai') COMMENT '最近变化时间 · when last changed (yaosu)',
    version UInt64 COMMENT '版本,每次变化加一 · grows by one with each change (yaosu)'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY suspect_id
COMMENT '线索存储表,请查询 suspects · storage of suspects; query suspects';

CREATE TABLE IF NOT EXISTS decisions
(
    suspect_id String COMMENT '线索编号 · suspect (yaosu)',
    status Enum8('open' = 1, 'reviewing' = 2, 'confirmed' = 3, 'dismissed' = 4, 'referred' = 5, 'explained' = 6) COMMENT '人工结论 · decided status (yaosu)',
    by_name String COMMENT '经办人 · who decided (yaosu)',
    reason String COMMENT '理由 · why (yaosu)',
    decided_at DateTime64(3, 'Asia/Shanghai') COMMENT '决定时间 · when (yaosu)'
)
ENGINE = MergeTree
ORDER BY (suspect_id, decided_at)
COMMENT '人工决定,只增不改 · human decisions, appended only';

CREATE VIEW IF NOT EXISTS suspects
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
    updated_at DateTime64(3, 'Asia/Shanghai') COMMENT '最近变化时间 · when last changed (yaosu)'
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
    greatest(s.updated_at, d.last_decision) AS updated_at
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
