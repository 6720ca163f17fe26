-- What passes of the detectors keep, so that the next one need not work out all
-- lives again: each sale and goods move with what became of it. Nothing here adds
-- up: rows are replaced by those of a later pass, and all of it can be made anew
-- from the scans. Analysts read sales and effective_sales, which are always of now.

-- One row per upload of a sale and code. By device, as queues, months, lots and
-- institutions are looked at; the sales of a person are found by a look at one
-- column.
CREATE TABLE IF NOT EXISTS sale_rows
(
    org LowCardinality(String) COMMENT '定点医药机构编号 · designated institution (fixmedins_code)' CODEC(ZSTD),
    device LowCardinality(String) COMMENT '终端设备编号 · POS or scanner (dev_no)' CODEC(ZSTD),
    time DateTime64(3, 'Asia/Shanghai') COMMENT '销售时间 · when it was sold (sel_retn_time)' CODEC(Delta, ZSTD),
    code UInt64 COMMENT '码键数值 · numeric code key (drug_trac_codg)' CODEC(ZSTD),
    row_hash UInt32 COMMENT '事件号与内容摘要 · hash of event_id, content and key (yaosu)' CODEC(ZSTD),
    pass UInt64 COMMENT '写入它的轮次,最新一轮保留 · pass that wrote it; the latest stays (yaosu)' CODEC(ZSTD),
    state Enum8('gone' = 0, 'stands' = 1, 'undone' = 2) COMMENT 'gone 已撤销或并入他次上传,stands 有效,undone 已退货 · voided or merged, stands, undone (yaosu)' CODEC(ZSTD),
    sourced Bool COMMENT '售前本机构有该码(或其上级包装)入库 · goods-in of the code or a larger pack at this org before the sale (yaosu)' CODEC(ZSTD),
    code_text String COMMENT '非20位追溯码的码键全文 · full key of item codes that are not 20 digits (drug_trac_codg)' CODEC(ZSTD),
    code_raw String COMMENT '不可比码的扫描原文 · as scanned, of codes that are no item codes (drug_trac_codg)' CODEC(ZSTD),
    scheme Enum8('' = 0, 'placeholder' = 1, 'cn20' = 2, 'gs1' = 3, 'ma' = 4, 'product' = 5, 'own' = 6, 'invalid' = 7) COMMENT '追溯码编码方案 · form of the code (drug_trac_codg)' CODEC(ZSTD),
    other_product LowCardinality(String) COMMENT '药品标识,20位码取前7位故为空 · product of codes that are not 20 digits (drug_trac_codg)' CODEC(ZSTD),
    event_id String COMMENT '机构内事件号 · the sender''s key within its org (yaosu)' CODEC(ZSTD),
    digest UInt32 COMMENT '事件内容摘要 · digest of the event''s content (yaosu)' CODEC(ZSTD),
    region LowCardinality(String) COMMENT '机构所在县级区划 · county of the institution (fixmedins_admdvs)' CODEC(ZSTD),
    drug LowCardinality(String) COMMENT '医疗目录编码 · national catalogue code that was billed (med_list_codg)' CODEC(ZSTD),
    lot LowCardinality(String) COMMENT '生产批号 · lot (manu_lotnum)' CODEC(ZSTD),
    expires Nullable(Date32) COMMENT '有效期止 · expiry (expy_end)' CODEC(ZSTD),
    split Bool COMMENT '拆零标志 · part of a pack was dispensed (trdn_flag)' CODEC(ZSTD),
    quantity Nullable(Decimal(18, 6)) COMMENT '整个事件的数量 · quantity of the whole event (sel_retn_cnt)' CODEC(ZSTD),
    codes UInt16 COMMENT '该事件的码行数 · rows of this event that carry a code (drugtracinfo)' CODEC(ZSTD),
    price Nullable(Decimal(18, 6)) COMMENT '实际交易单价,元 · yuan per unit of quantity (finl_trns_pric)' CODEC(ZSTD),
    days Nullable(Decimal(18, 6)) COMMENT '用药天数 · days of supply (prd_days)' CODEC(ZSTD),
    pay Enum8('insured' = 1, 'self' = 2) COMMENT '医保或自费 · insured or self-paid (mdtrt_setl_type)' CODEC(ZSTD),
    settlement String COMMENT '结算ID · settlement within its org (setl_id)' CODEC(ZSTD),
    fund_pay Nullable(Decimal(18, 6)) COMMENT '整个事件的基金支付金额,元 · what the fund paid for the whole event, yuan (fund_pay_sumamt)' CODEC(ZSTD),
    person String COMMENT '参保人假名(HMAC) · keyed pseudonym of the insured person (psn_no)' CODEC(ZSTD),
    setting Enum8('pharmacy' = 1, 'outpatient' = 2, 'inpatient' = 3, 'other' = 4) COMMENT '就医场景 · setting (yaosu)' CODEC(ZSTD),
    undone_event String COMMENT '冲销它的退货事件号 · event_id of the return that undid it (yaosu)' CODEC(ZSTD),
    undone_at DateTime64(3, 'Asia/Shanghai') COMMENT '退货时间,1970 为未退货 · when, 1970 for never (sel_retn_time)' CODEC(ZSTD)
)
ENGINE = ReplacingMergeTree(pass)
PRIMARY KEY (org, device, time)
ORDER BY (org, device, time, code, row_hash)
COMMENT '各轮检测留存的销售,请查询 sales · sales as passes keep them; query sales';

CREATE TABLE IF NOT EXISTS move_rows
(
    org LowCardinality(String) COMMENT '定点医药机构编号 · designated institution (fixmedins_code)' CODEC(ZSTD),
    drug LowCardinality(String) COMMENT '医疗目录编码 · national catalogue code (med_list_codg)' CODEC(ZSTD),
    lot LowCardinality(String) COMMENT '生产批号 · lot (manu_lotnum)' CODEC(ZSTD),
    time DateTime64(3, 'Asia/Shanghai') COMMENT '发生时间 · when it happened (purc_retn_stoin_time, inv_chg_time, invdate)' CODEC(Delta, ZSTD),
    code UInt64 COMMENT '码键数值 · numeric code key (drug_trac_codg)' CODEC(ZSTD),
    row_hash UInt32 COMMENT '事件号与内容摘要 · hash of event_id, content and key (yaosu)' CODEC(ZSTD),
    pass UInt64 COMMENT '写入它的轮次 · pass that wrote it; the latest stays (yaosu)' CODEC(ZSTD),
    stands Bool COMMENT '未被撤销 · no void took it back (yaosu)' CODEC(ZSTD),
    kind Enum8('sale' = 1, 'sale_return' = 2, 'purchase' = 3, 'purchase_return' = 4, 'stock_in' = 5, 'stock_out' = 6, 'stock_take' = 7, 'void' = 8) COMMENT '业务类型 · what happened (infno)' CODEC(ZSTD),
    code_text String COMMENT '非20位追溯码的码键全文 · full key of item codes that are not 20 digits (drug_trac_codg)' CODEC(ZSTD),
    code_raw String COMMENT '不可比码的扫描原文 · as scanned, of codes that are no item codes (drug_trac_codg)' CODEC(ZSTD),
    scheme Enum8('' = 0, 'placeholder' = 1, 'cn20' = 2, 'gs1' = 3, 'ma' = 4, 'product' = 5, 'own' = 6, 'invalid' = 7) COMMENT '追溯码编码方案 · form of the code (drug_trac_codg)' CODEC(ZSTD),
    other_product LowCardinality(String) COMMENT '药品标识,20位码取前7位故为空 · product of codes that are not 20 digits (drug_trac_codg)' CODEC(ZSTD),
    event_id String COMMENT '机构内事件号 · the sender''s key within its org (yaosu)' CODEC(ZSTD),
    digest UInt32 COMMENT '事件内容摘要 · digest of the event''s content (yaosu)' CODEC(ZSTD),
    region LowCardinality(String) COMMENT '机构所在县级区划 · county of the institution (fixmedins_admdvs)' CODEC(ZSTD),
    split Bool COMMENT '拆零标志 · units, not packs (trdn_flag)' CODEC(ZSTD),
    quantity Nullable(Decimal(18, 6)) COMMENT '整个事件的数量 · quantity of the whole event (purc_retn_cnt, cnt)' CODEC(ZSTD),
    codes UInt16 COMMENT '该事件的码行数 · rows of this event that carry a code (drugtracinfo)' CODEC(ZSTD),
    person String COMMENT '参保人假名,通常为空 · person, empty as a rule (psn_no)' CODEC(ZSTD)
)
ENGINE = ReplacingMergeTree(pass)
PRIMARY KEY (org, drug, lot)
ORDER BY (org, drug, lot, time, code, row_hash)
COMMENT '各轮检测留存的出入库与盘存,请查询 scans · goods moves as passes keep them; query scans';

-- Found in the lives of codes: consecutive sales at different institutions, goods-in
-- after a sale elsewhere, and returns and voids that came too late. What no longer
-- holds is marked, not deleted.
CREATE TABLE IF NOT EXISTS pair_rows
(
    code UInt64 COMMENT '码键数值 · numeric code key (drug_trac_codg)' CODEC(Delta, ZSTD),
    code_text String COMMENT '非20位追溯码的码键全文 · full key of item codes that are not 20 digits (drug_trac_codg)' CODEC(ZSTD),
    code_key String COMMENT '追溯码键 · key used to compare (drug_trac_codg)' CODEC(ZSTD),
    drug LowCardinality(String) COMMENT '医疗目录编码 · national catalogue code (med_list_codg)' CODEC(ZSTD),
    product LowCardinality(String) COMMENT '药品标识码 · product (drug_trac_codg)' CODEC(ZSTD),
    first_time DateTime64(3, 'Asia/Shanghai') COMMENT '前一次销售时间 · first sale (sel_retn_time)' CODEC(ZSTD),
    first_org String COMMENT '前一次销售机构 · first institution (fixmedins_code)' CODEC(ZSTD),
    first_event String COMMENT '前一次销售事件号 · first sale''s event_id (yaosu)' CODEC(ZSTD),
    first_person String COMMENT '前一次参保人假名 · first person, pseudonym (psn_no)' CODEC(ZSTD),
    first_region String COMMENT '前一次所在区划 · first county (fixmedins_admdvs)' CODEC(ZSTD),
    second_time DateTime64(3, 'Asia/Shanghai') COMMENT '后一次销售时间 · second sale (sel_retn_time)' CODEC(ZSTD),
    second_org String COMMENT '后一次销售机构 · second institution (fixmedins_code)' CODEC(ZSTD),
    second_event String COMMENT '后一次销售事件号 · second sale''s event_id (yaosu)' CODEC(ZSTD),
    second_person String COMMENT '后一次参保人假名 · second person, pseudonym (psn_no)' CODEC(ZSTD),
    second_region String COMMENT '后一次所在区划 · second county (fixmedins_admdvs)' CODEC(ZSTD),
    second_paid Float64 COMMENT '后一次基金支付,元 · what the fund paid for the second, yuan (fund_pay_sumamt)' CODEC(ZSTD),
    gap_hours Float64 COMMENT '两次相隔小时数 · hours between (yaosu)' CODEC(ZSTD),
    pass UInt64 COMMENT '写入它的轮次的两倍,仍成立时加一 · twice the pass that wrote it, and one where it stands (yaosu)' CODEC(ZSTD),
    stands Bool COMMENT '仍成立 · still so (yaosu)' CODEC(ZSTD)
)
ENGINE = ReplacingMergeTree(pass)
ORDER BY (code, code_text, first_time, first_org, first_event, second_time, second_org, second_event)
COMMENT '各轮检测留存的先后两次销售,请查询 sale_pairs · consecutive sales as passes keep them; query sale_pairs';

CREATE TABLE IF NOT EXISTS restock_rows
(
    code UInt64 COMMENT '码键数值 · numeric code key (drug_trac_codg)' CODEC(Delta, ZSTD),
    code_text String COMMENT '非20位追溯码的码键全文 · full key of item codes that are not 20 digits (drug_trac_codg)' CODEC(ZSTD),
    code_key String COMMENT '追溯码键 · key used to compare (drug_trac_codg)' CODEC(ZSTD),
    product LowCardinality(String) COMMENT '药品标识码 · product (drug_trac_codg)' CODEC(ZSTD),
    drug LowCardinality(String) COMMENT '医疗目录编码 · national catalogue code (med_list_codg)' CODEC(ZSTD),
    sale_time DateTime64(3, 'Asia/Shanghai') COMMENT '售出时间 · when it was sold (sel_retn_time)' CODEC(ZSTD),
    sale_org String COMMENT '售出机构 · who sold it (fixmedins_code)' CODEC(ZSTD),
    sale_event String COMMENT '售出事件号 · event_id of that sale (yaosu)' CODEC(ZSTD),
    sale_person String COMMENT '参保人假名 · person, pseudonym (psn_no)' CODEC(ZSTD),
    sale_region String COMMENT '售出机构区划 · county of that institution (fixmedins_admdvs)' CODEC(ZSTD),
    time DateTime64(3, 'Asia/Shanghai') COMMENT '入库或盘存时间 · when it was in stock (purc_retn_stoin_time, inv_chg_time, invdate)' CODEC(ZSTD),
    org String COMMENT '入库机构 · who had it in stock (fixmedins_code)' CODEC(ZSTD),
    event_id String COMMENT '入库事件号 · event_id (yaosu)' CODEC(ZSTD),
    kind Enum8('sale' = 1, 'sale_return' = 2, 'purchase' = 3, 'purchase_return' = 4, 'stock_in' = 5, 'stock_out' = 6, 'stock_take' = 7, 'void' = 8) COMMENT '业务类型 · what happened (infno)' CODEC(ZSTD),
    person String COMMENT '入库记录上的参保人假名,通常为空 · person on that record, pseudonym (psn_no)' CODEC(ZSTD),
    region String COMMENT '入库机构区划 · county (fixmedins_admdvs)' CODEC(ZSTD),
    pass UInt64 COMMENT '写入它的轮次的两倍,仍成立时加一 · twice the pass that wrote it, and one where it stands (yaosu)' CODEC(ZSTD),
    stands Bool COMMENT '仍成立 · still so (yaosu)' CODEC(ZSTD)
)
ENGINE = ReplacingMergeTree(pass)
ORDER BY (code, code_text, time, org, event_id, kind)
COMMENT '各轮检测留存的售后入库,请查询 restocks · restocks as passes keep them; query restocks';

CREATE TABLE IF NOT EXISTS late_rows
(
    code UInt64 COMMENT '码键数值 · numeric code key (drug_trac_codg)' CODEC(Delta, ZSTD),
    code_text String COMMENT '非20位追溯码的码键全文 · full key of item codes that are not 20 digits (drug_trac_codg)' CODEC(ZSTD),
    code_key String COMMENT '追溯码键 · key used to compare (drug_trac_codg)' CODEC(ZSTD),
    org String COMMENT '冲销机构 · institution that reversed (fixmedins_code)' CODEC(ZSTD),
    event_id String COMMENT '冲销事件号 · event_id of the return or void (yaosu)' CODEC(ZSTD),
    digest UInt32 COMMENT '冲销事件内容摘要 · digest of that event''s content (yaosu)' CODEC(ZSTD),
    kind Enum8('sale_return' = 2, 'void' = 8) COMMENT 'sale_return 退货或 void 撤销 · return or void (infno)' CODEC(ZSTD),
    time DateTime64(3, 'Asia/Shanghai') COMMENT '冲销时间 · when (sel_retn_time)' CODEC(ZSTD),
    region String COMMENT '县级区划 · county (fixmedins_admdvs)' CODEC(ZSTD),
    sale_event String COMMENT '本欲冲销的销售 · the sale it would have taken back (yaosu)' CODEC(ZSTD),
    sale_time DateTime64(3, 'Asia/Shanghai') COMMENT '该销售时间 · when that was (sel_retn_time)' CODEC(ZSTD),
    sale_person String COMMENT '参保人假名 · person, pseudonym (psn_no)' CODEC(ZSTD),
    elsewhere_org String COMMENT '其间售出该码的机构 · who sold the code in between (fixmedins_code)' CODEC(ZSTD),
    elsewhere_time DateTime64(3, 'Asia/Shanghai') COMMENT '其间售出时间 · when (sel_retn_time)' CODEC(ZSTD),
    elsewhere_event String COMMENT '其间售出的事件号 · event_id of that sale (yaosu)' CODEC(ZSTD),
    elsewhere_region String COMMENT '其间售出机构的区划 · county of that institution (fixmedins_admdvs)' CODEC(ZSTD),
    pass UInt64 COMMENT '写入它的轮次的两倍,仍成立时加一 · twice the pass that wrote it, and one where it stands (yaosu)' CODEC(ZSTD),
    stands Bool COMMENT '仍成立 · still so (yaosu)' CODEC(ZSTD)
)
ENGINE = ReplacingMergeTree(pass)
ORDER BY (code, code_text, org, event_id, digest, kind)
COMMENT '各轮检测留存的过晚冲销,请查询 late_reversals · late reversals as passes keep them; query late_reversals';

-- Of each device and date, what tells whether a crowd there is unusual, and who
-- was there together. Only candidates come from it, never findings.
CREATE TABLE IF NOT EXISTS device_days
(
    org LowCardinality(String) COMMENT '定点医药机构编号 · designated institution (fixmedins_code)' CODEC(ZSTD),
    device LowCardinality(String) COMMENT '终端设备编号 · POS or scanner (dev_no)' CODEC(ZSTD),
    date Date32 COMMENT '日期 · date (sel_retn_time)' CODEC(Delta, ZSTD),
    slots Array(UInt16) COMMENT '当日各5分钟时段的参保人数 · persons in each 5-minute slot with an insured sale (yaosu)' CODEC(ZSTD),
    most UInt32 COMMENT '自当日某笔起若干分钟内最多的参保人数 · most persons within the minutes that a sale of the date opens (yaosu)' CODEC(ZSTD),
    crowds Array(Array(UInt64)) COMMENT '当日同时出现的人群,人以假名的哈希表示 · who were there within minutes of each other, hashes of pseudonyms (yaosu)' CODEC(ZSTD),
    pass UInt64 COMMENT '写入它的轮次 · pass that wrote it (yaosu)' CODEC(ZSTD)
)
ENGINE = ReplacingMergeTree(pass)
ORDER BY (org, device, date)
COMMENT '各终端每日人流,供挑选待核对象 · crowds by device and date, to choose whom to judge';

-- What a person has on hand of a drug after the last sale. Only candidates come
-- from it; it may be too high, never too low.
CREATE TABLE IF NOT EXISTS supply_rows
(
    person String COMMENT '参保人假名 · pseudonym (psn_no)' CODEC(ZSTD),
    drug LowCardinality(String) COMMENT '医疗目录编码 · national catalogue code (med_list_codg)' CODEC(ZSTD),
    last_time DateTime64(3, 'Asia/Shanghai') COMMENT '最近一次购药 · last sale (sel_retn_time)' CODEC(ZSTD),
    stock Float64 COMMENT '其后手中结余,天 · days of supply just after it (prd_days)' CODEC(ZSTD),
    peak Float64 COMMENT '该轮算得的最高结余,天 · the most, as far as this pass looked (prd_days)' CODEC(ZSTD),
    pass UInt64 COMMENT '写入它的轮次 · pass that wrote it (yaosu)' CODEC(ZSTD)
)
ENGINE = ReplacingMergeTree(pass)
ORDER BY (person, drug)
COMMENT '参保人药品结余,供挑选待核对象 · supply on hand, to choose whom to judge';

-- How far passes are, one row per thing that is looked at: scans and voids by
-- block, reference data by load, each rule by its version and parameters.
CREATE TABLE IF NOT EXISTS pass_marks
(
    name String COMMENT '对象 · what (yaosu)',
    mark String COMMENT '已看到何处 · how far it was looked at (yaosu)',
    pass UInt64 COMMENT '轮次 · pass that wrote it (yaosu)'
)
ENGINE = ReplacingMergeTree(pass)
ORDER BY name
COMMENT '检测进度 · how far passes are';

-- What each pass did.
CREATE TABLE IF NOT EXISTS detect_runs
(
    pass UInt64 COMMENT '轮次,开始时刻的微秒数 · pass, microseconds of its start (yaosu)',
    rule LowCardinality(String) COMMENT '规则编号,空为整轮 · rule, empty for the pass as a whole (yaosu)',
    mode LowCardinality(String) COMMENT 'whole 全部重算,touched 只算涉及的 · all of it, or what was touched (yaosu)',
    started DateTime64(3, 'Asia/Shanghai') COMMENT '开始时间 · start (yaosu)',
    seconds Float64 COMMENT '用时,秒 · how long it took (yaosu)',
    arrivals UInt64 COMMENT '新到扫码行数 · rows that came in (yaosu)',
    candidates UInt64 COMMENT '复核的码或对象数 · codes or entities judged (yaosu)',
    found UInt64 COMMENT '成立的发现数 · findings that stand among those judged (yaosu)',
    new UInt64 COMMENT '新增 · new ones (yaosu)',
    changed UInt64 COMMENT '变化 · changed ones (yaosu)',
    explained UInt64 COMMENT '已被解释 · explained ones (yaosu)',
    read_rows UInt64 COMMENT '引擎读取行数 · rows the engine read (yaosu)',
    read_bytes UInt64 COMMENT '引擎读取字节数,未压缩 · bytes the engine read, uncompressed (yaosu)',
    error String COMMENT '错误,空为无 · what failed, empty for nothing (yaosu)'
)
ENGINE = ReplacingMergeTree
ORDER BY (pass, rule)
TTL toDateTime(started) + INTERVAL 400 DAY
COMMENT '检测轮次记录 · what each pass did';

-- The kept relations in the form the rules read.
CREATE VIEW IF NOT EXISTS kept_sales
AS SELECT
    if(scheme = 'cn20', concat('8', leftPad(toString(code), 19, '0')), code_text) AS code_key,
    if(scheme = 'cn20', concat('8', leftPad(toString(code), 19, '0')), code_raw) AS code_raw,
    scheme,
    if(scheme = 'cn20', substring(concat('8', leftPad(toString(code), 19, '0')), 1, 7), other_product) AS product,
    event_id,
    CAST('sale', 'Enum8(\'sale\' = 1, \'sale_return\' = 2, \'purchase\' = 3, \'purchase_return\' = 4, \'stock_in\' = 5, \'stock_out\' = 6, \'stock_take\' = 7, \'void\' = 8)') AS kind,
    time,
    org,
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
    codes,
    digest,
    code,
    code_text,
    scheme = 'cn20' OR code_text != '' AS item,
    toFloat64(ifNull(quantity, 0)) / greatest(codes, 1) AS share,
    coalesce(toFloat64(fund_pay), toFloat64(price) * toFloat64(quantity), 0) / greatest(codes, 1) AS paid,
    state = 'undone' AS undone,
    undone_event,
    undone_at,
    sourced
FROM sale_rows
FINAL
WHERE state != 'gone';

CREATE VIEW IF NOT EXISTS kept_moves
AS SELECT
    if(scheme = 'cn20', concat('8', leftPad(toString(code), 19, '0')), code_text) AS code_key,
    if(scheme = 'cn20', concat('8', leftPad(toString(code), 19, '0')), code_raw) AS code_raw,
    scheme,
    if(scheme = 'cn20', substring(concat('8', leftPad(toString(code), 19, '0')), 1, 7), other_product) AS product,
    event_id,
    kind,
    time,
    org,
    region,
    drug,
    lot,
    split,
    quantity,
    person,
    codes,
    digest,
    code,
    code_text,
    scheme = 'cn20' OR code_text != '' AS item,
    toFloat64(ifNull(quantity, 0)) / greatest(codes, 1) AS share
FROM move_rows
FINAL
WHERE stands;
