-- Maps a pseudonym back. Grant SELECT to those who may resolve, to nobody else.
CREATE TABLE IF NOT EXISTS person_vault
(
    person String COMMENT '参保人假名 · keyed pseudonym (psn_no)',
    number String COMMENT '人员编号原文 · the person''s number (psn_no)'
)
ENGINE = ReplacingMergeTree
ORDER BY person
SETTINGS non_replicated_deduplication_window = 10000
COMMENT '假名对照库,限授权人员 · the vault, for those allowed';

CREATE TABLE IF NOT EXISTS reject_rows
(
    seq UInt64 COMMENT '消息流 SCANS 序号 · sequence of the message in SCANS (yaosu)',
    position UInt32 COMMENT '消息内第几个事件,从 0 起 · position in the message, from 0 (yaosu)',
    received DateTime64(3, 'Asia/Shanghai') COMMENT '接收时间 · when it was received (yaosu)',
    subject String COMMENT '消息主题 · subject it came on (yaosu)',
    region String COMMENT '县级区划,不明时取自主题 · region, from the subject when unreadable (fixmedins_admdvs)',
    org String COMMENT '定点医药机构编号,不明时取自主题 · institution, from the subject when unreadable (fixmedins_code)',
    event_id String COMMENT '事件号,可读时 · event_id when readable (yaosu)',
    code LowCardinality(String) COMMENT '拒收原因码 · reason code (yaosu)',
    field LowCardinality(String) COMMENT '出错字段 · field at fault (yaosu)',
    reason String COMMENT '拒收原因 · reason (yaosu)',
    bytes String COMMENT '原文,人员信息已换成假名;二进制为空,原始字节在消息流 REJECTS · the bytes with persons replaced; empty when binary; the original is in stream REJECTS (yaosu)',
    size UInt64 COMMENT '原始字节数 · size of the original, bytes (yaosu)'
)
ENGINE = ReplacingMergeTree
ORDER BY (seq, position, received, subject)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT '拒收存储表,请查询 rejects · storage of rejects; query rejects';

CREATE VIEW IF NOT EXISTS rejects
(
    seq UInt64 COMMENT '消息流 SCANS 序号 · sequence of the message in SCANS (yaosu)',
    position UInt32 COMMENT '消息内第几个事件,从 0 起 · position in the message, from 0 (yaosu)',
    received DateTime64(3, 'Asia/Shanghai') COMMENT '接收时间 · when it was received (yaosu)',
    subject String COMMENT '消息主题 · subject it came on (yaosu)',
    region String COMMENT '县级区划 · region (fixmedins_admdvs)',
    org String COMMENT '定点医药机构编号 · institution (fixmedins_code)',
    event_id String COMMENT '事件号,可读时 · event_id when readable (yaosu)',
    code LowCardinality(String) COMMENT '拒收原因码 · reason code (yaosu)',
    field LowCardinality(String) COMMENT '出错字段 · field at fault (yaosu)',
    reason String COMMENT '拒收原因 · reason (yaosu)',
    bytes String COMMENT '原文,人员信息已换成假名 · the bytes with persons replaced (yaosu)',
    size UInt64 COMMENT '原始字节数 · size of the original, bytes (yaosu)'
)
COMMENT '拒收记录 · what was refused, and why'
AS SELECT *
FROM reject_rows
FINAL;

-- Same org and event_id, other content.
CREATE VIEW IF NOT EXISTS id_conflicts
(
    org LowCardinality(String) COMMENT '定点医药机构编号 · designated institution (fixmedins_code)',
    event_id String COMMENT '事件号 · event_id (yaosu)',
    contents UInt64 COMMENT '不同内容数 · number of different contents (yaosu)',
    digests Array(UInt32) COMMENT '内容摘要 · their digests (yaosu)',
    kinds Array(String) COMMENT '业务类型 · their kinds (infno)',
    first_time DateTime64(3, 'Asia/Shanghai') COMMENT '最早发生时间 · earliest time (yaosu)',
    last_time DateTime64(3, 'Asia/Shanghai') COMMENT '最晚发生时间 · latest time (yaosu)'
)
COMMENT '同号不同内容的事件 · events that share an id and differ'
AS SELECT
    org,
    event_id,
    uniqExact(digest) AS contents,
    arraySort(groupUniqArray(digest)) AS digests,
    arraySort(groupUniqArray(toString(kind))) AS kinds,
    min(time) AS first_time,
    max(time) AS last_time
FROM scans
WHERE (org, event_id) IN
(
    SELECT
        org,
        event_id
    FROM scan_rows
    GROUP BY org, event_id
    HAVING min(digest) != max(digest)
)
GROUP BY org, event_id
HAVING contents > 1;

-- Events whose clock cannot be trusted; they take no part in any detector.
CREATE VIEW IF NOT EXISTS wrong_clocks
(
    org LowCardinality(String) COMMENT '定点医药机构编号 · designated institution (fixmedins_code)',
    event_id String COMMENT '事件号 · event_id (yaosu)',
    kind Enum8('sale' = 1, 'sale_return' = 2, 'purchase' = 3, 'purchase_return' = 4, 'stock_in' = 5, 'stock_out' = 6, 'stock_take' = 7, 'void' = 8) COMMENT '业务类型 · what happened (infno)',
    time DateTime64(3, 'Asia/Shanghai') COMMENT '所报时间 · the time it gave (sel_retn_time)',
    received DateTime64(3, 'Asia/Shanghai') COMMENT '首次接收时间 · first receipt (yaosu)',
    region LowCardinality(String) COMMENT '机构所在县级区划 · county of the institution (fixmedins_admdvs)',
    device LowCardinality(String) COMMENT '终端设备编号 · POS or scanner (dev_no)'
)
COMMENT '时钟异常事件,不参与任何规则 · events with a wrong clock, in no detector'
AS SELECT
    org,
    event_id,
    any(kind) AS kind,
    any(time) AS time,
    any(received) AS received,
    any(region) AS region,
    any(device) AS device
FROM scans
WHERE has(flags, 'clock')
GROUP BY org, event_id, digest;
