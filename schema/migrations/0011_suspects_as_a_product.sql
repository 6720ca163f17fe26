-- Suspects as a product: what a person decided and on what, what went out on the
-- stream, and what became of a suspect that another one took in.
ALTER TABLE suspect_rows
    ADD COLUMN IF NOT EXISTS superseded_by String COMMENT '并入的线索编号 · suspect that took this one in (yaosu)';

ALTER TABLE decisions
    ADD COLUMN IF NOT EXISTS suspect_version UInt64 COMMENT '作出决定时线索的版本 · version of the suspect it was made on (yaosu)',
    ADD COLUMN IF NOT EXISTS events_seen Array(String) COMMENT '作出决定时已有的证据事件,空为不详 · events that were evidence then, empty when not known (yaosu)';

-- A state of a suspect that is on the stream: written when the stream has
-- acknowledged it. Nothing is deleted, so a state goes out once.
CREATE TABLE IF NOT EXISTS published
(
    suspect_id String COMMENT '线索编号 · suspect (yaosu)',
    version UInt64 COMMENT '线索版本 · version of the suspect (yaosu)',
    decided_at DateTime64(3, 'Asia/Shanghai') COMMENT '最近人工决定的时间,1970 为无 · time of the newest decision, 1970 for none (yaosu)',
    stream String COMMENT '消息流的建立时间:重建后序号从头起 · when the stream was made; a new one counts from 1 (yaosu)',
    sequence UInt64 COMMENT '消息流 SUSPECTS 序号 · sequence in stream SUSPECTS (yaosu)'
)
ENGINE = ReplacingMergeTree
ORDER BY (suspect_id, version, decided_at)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1
COMMENT '已发布到 SUSPECTS 的线索状态 · states of suspects that are on the stream';

-- What a person decided survives a power cut, and a state that was published keeps
-- its version.
ALTER TABLE suspect_rows
    MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

ALTER TABLE decisions
    MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

-- A human decision stands above the machine's state. "open" takes earlier decisions
-- back. A dismissed suspect is open again when it has evidence the decision did
-- not see; another reason or parameter alone reopens nothing.
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
    superseded_by String COMMENT '并入的线索编号 · suspect that took this one in (yaosu)',
    reopened Bool COMMENT '排除之后有了新证据,重新打开 · dismissed before, and open again for new evidence (yaosu)',
    decided_at DateTime64(3, 'Asia/Shanghai') COMMENT '最近人工决定的时间,1970 为无 · time of the newest decision, 1970 for none (yaosu)',
    version UInt64 COMMENT '版本,机器每次更新加一 · grows by one with each change by the machine (yaosu)'
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
    multiIf(
        d.decided IN ('', 'open'), toString(s.status),
        reopened, 'open',
        d.decided) AS status,
    s.opened_at,
    greatest(s.updated_at, d.last_decision) AS updated_at,
    s.superseded_by,
    d.decided = 'dismissed'
        AND s.status = 'open'
        AND notEmpty(d.seen)
        AND length(arrayDistinct(arrayConcat(d.seen, s.events))) > length(arrayDistinct(d.seen)) AS reopened,
    d.last_decision AS decided_at,
    s.version
FROM suspect_rows AS s
FINAL
LEFT JOIN
(
    SELECT
        suspect_id,
        toString(argMax(status, decided_at)) AS decided,
        argMax(events_seen, decided_at) AS seen,
        max(decided_at) AS last_decision
    FROM decisions
    GROUP BY suspect_id
) AS d ON d.suspect_id = s.suspect_id;

-- What is not on the stream yet.
CREATE VIEW IF NOT EXISTS unpublished_suspects
COMMENT '尚未发布到 SUSPECTS 的线索 · suspects whose state is not on the stream yet'
AS SELECT s.*
FROM suspects AS s
LEFT ANTI JOIN published AS p ON p.suspect_id = s.suspect_id AND p.version = s.version AND p.decided_at = s.decided_at;
