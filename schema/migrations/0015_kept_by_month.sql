-- What passes keep, by month. New scans concern this month and the last ones: with a
-- part of the table for each month, a pass that looks at those need not open the years
-- before, and its FINAL has nothing to merge there. Blocks of these tables need not be
-- atomic: a pass that dies is made again.
-- What is asked of the years before is few rows each of many places: so granules are
-- small.
-- What is kept can be made anew from the scans, so the tables are too: the next pass
-- begins from the beginning.
DROP VIEW IF EXISTS kept_sales;

DROP VIEW IF EXISTS kept_moves;

DROP TABLE IF EXISTS sale_rows SYNC SETTINGS max_table_size_to_drop = 0;

DROP TABLE IF EXISTS move_rows SYNC SETTINGS max_table_size_to_drop = 0;

DROP TABLE IF EXISTS supply_rows SYNC;

TRUNCATE TABLE device_days;

TRUNCATE TABLE pass_marks;

CREATE TABLE IF NOT EXISTS sale_rows
(
    org LowCardinality(String) COMMENT '定点医药机构编号 · designated institution (fixmedins_code)' CODEC(ZSTD),
    device LowCardinality(String) COMMENT '终端设备编号 · POS or scanner (dev_no)' CODEC(ZSTD),
    time DateTime64(3, 'Asia/Shanghai') COMMENT '销售时间 · when it was sold (sel_retn_time)' CODEC(Delta, ZSTD),
    code UInt64 COMMENT '码键数值 · numeric code key (drug_trac_codg)' CODEC(ZSTD),
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
    undone_at DateTime64(3, 'Asia/Shanghai') COMMENT '退货时间,1970 为未退货 · when, 1970 for never (sel_retn_time)' CODEC(ZSTD),
    month UInt32 MATERIALIZED toYYYYMM(least(greatest(time, toDateTime64('2015-01-01 00:00:00', 3, 'Asia/Shanghai')), toDateTime64('2045-01-01 00:00:00', 3, 'Asia/Shanghai'))) COMMENT '发生月份,YYYYMM,早于2015年或晚于2045年的按首尾月 · month, kept within 2015 to 2045 (yaosu)' CODEC(ZSTD),
    INDEX of_person person TYPE bloom_filter(0.002) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(pass)
PARTITION BY month
PRIMARY KEY (org, device, time)
ORDER BY (org, device, time, code, code_text, event_id, digest)
SETTINGS index_granularity = 1024
COMMENT '各轮检测留存的销售,请查询 sales · sales as passes keep them; query sales';

CREATE TABLE IF NOT EXISTS move_rows
(
    org LowCardinality(String) COMMENT '定点医药机构编号 · designated institution (fixmedins_code)' CODEC(ZSTD),
    drug LowCardinality(String) COMMENT '医疗目录编码 · national catalogue code (med_list_codg)' CODEC(ZSTD),
    lot LowCardinality(String) COMMENT '生产批号 · lot (manu_lotnum)' CODEC(ZSTD),
    time DateTime64(3, 'Asia/Shanghai') COMMENT '发生时间 · when it happened (purc_retn_stoin_time, inv_chg_time, invdate)' CODEC(Delta, ZSTD),
    code UInt64 COMMENT '码键数值 · numeric code key (drug_trac_codg)' CODEC(ZSTD),
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
    person String COMMENT '参保人假名,通常为空 · person, empty as a rule (psn_no)' CODEC(ZSTD),
    month UInt32 MATERIALIZED toYYYYMM(least(greatest(time, toDateTime64('2015-01-01 00:00:00', 3, 'Asia/Shanghai')), toDateTime64('2045-01-01 00:00:00', 3, 'Asia/Shanghai'))) COMMENT '发生月份,YYYYMM,早于2015年或晚于2045年的按首尾月 · month, kept within 2015 to 2045 (yaosu)' CODEC(ZSTD)
)
ENGINE = ReplacingMergeTree(pass)
PARTITION BY month
PRIMARY KEY (org, drug, lot)
ORDER BY (org, drug, lot, time, code, code_text, event_id, digest)
SETTINGS index_granularity = 1024
COMMENT '各轮检测留存的出入库与盘存,请查询 scans · goods moves as passes keep them; query scans';

-- What a person has on hand of a drug after the last sale. Only candidates come
-- from it; it may be too high, never too low.
CREATE TABLE IF NOT EXISTS supply_rows
(
    key UInt64 COMMENT '参保人与药品的哈希 cityHash64(person, drug) · hash of person and drug (psn_no, med_list_codg)',
    last_time DateTime64(3, 'Asia/Shanghai') COMMENT '最近一次购药 · last sale (sel_retn_time)' CODEC(ZSTD),
    stock Float64 COMMENT '其后手中结余,天,只高不低 · days of supply just after it, at least (prd_days)' CODEC(ZSTD),
    high Float64 COMMENT '历次最高结余,天,只高不低 · the most there ever was, at least (prd_days)' CODEC(ZSTD),
    pass UInt64 COMMENT '写入它的轮次的两倍,由全部销售算得时加一 · twice the pass that wrote it, and one where all sales were looked at (yaosu)' CODEC(ZSTD)
)
ENGINE = ReplacingMergeTree(pass)
ORDER BY key
COMMENT '参保人药品结余,供挑选待核对象 · supply on hand, to choose whom to judge';

-- Packs sold and delivered of a lot in a month, as far as units are known. Only
-- candidates come from it.
CREATE TABLE IF NOT EXISTS lot_months
(
    key UInt64 COMMENT '机构、药品、批号的哈希 cityHash64(org, drug, lot) · hash of institution, drug and lot (fixmedins_code, med_list_codg, manu_lotnum)',
    month UInt32 COMMENT '月份,YYYYMM · month (yaosu)' CODEC(ZSTD),
    beyond Float64 COMMENT '售出减净入库,盒,只高不低 · packs sold beyond those delivered, at least (sel_retn_cnt, purc_retn_cnt)' CODEC(ZSTD),
    bought Bool COMMENT '当月有采购 · whether any of it was bought in the month (yaosu)' CODEC(ZSTD),
    pass UInt64 COMMENT '写入它的轮次 · pass that wrote it (yaosu)' CODEC(ZSTD)
)
ENGINE = ReplacingMergeTree(pass)
ORDER BY (key, month)
COMMENT '各批号每月进销差,供挑选待核对象 · goods of a lot by month, to choose whom to judge';

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
    sourced,
    month
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
    toFloat64(ifNull(quantity, 0)) / greatest(codes, 1) AS share,
    month
FROM move_rows
FINAL
WHERE stands;

-- Persons in the 5-minute slots of each device and date in which an insured sale was
-- made: what is usual there.
CREATE VIEW IF NOT EXISTS device_slots
AS SELECT
    org,
    device,
    date,
    groupArray(toUInt16(least(persons, 65535))) AS slots
FROM
(
    SELECT
        org,
        device,
        toDate32(time) AS date,
        uniqExactIf(person, person != '') AS persons
    FROM sales
    WHERE pay = 'insured' AND device != ''
    GROUP BY
        org,
        device,
        date,
        intDiv(toUnixTimestamp64Milli(time), 300000)
)
GROUP BY
    org,
    device,
    date;
