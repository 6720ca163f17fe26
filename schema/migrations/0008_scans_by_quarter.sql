-- Scans by the quarter they happened in, then by code. New scans and what they
-- concern lie together then, in a tenth of the table, and a look at the lives of a
-- million codes need not read all years. An event sent again has the same time and
-- so the same place; there is still no PARTITION BY.
-- The engine keeps of each row which insert it came with, so that a pass finds what
-- came in since the last one.
-- Each statement may run again: a crash between any two leaves one of the tables
-- whole, and the next run goes on from it.
DROP TABLE IF EXISTS scan_rows_before;

CREATE TABLE IF NOT EXISTS scan_rows_next
(
    code UInt64 COMMENT '码键数值:20位码为去掉首位8后的19位数,其余为 xxHash64(code_text),无码可比时为机构内行键 · numeric code key: a 20-digit code without its leading 8, else xxHash64 of code_text, else a key within the org (drug_trac_codg)' CODEC(Delta, ZSTD),
    code_text String COMMENT '非20位追溯码的码键全文,20位码与不可比的码为空 · full key of item codes that are not 20 digits, else empty (drug_trac_codg)' CODEC(ZSTD),
    org LowCardinality(String) COMMENT '定点医药机构编号 · designated institution (fixmedins_code)' CODEC(ZSTD),
    event_id String COMMENT '机构内事件号 · the sender''s key within its org (yaosu)' CODEC(ZSTD),
    digest UInt32 COMMENT '事件内容摘要:同号同内容即同一事件 · digest of the event''s content; same id and digest is the same event (yaosu)' CODEC(ZSTD),
    promptness UInt64 COMMENT '2^40 减去从发生到首次接收的秒数,最早接收的一行保留 · 2^40 minus seconds from time to receipt; the largest stays (yaosu)' CODEC(ZSTD),
    seq UInt64 COMMENT '消息流序号 · sequence in stream SCANS (yaosu)' CODEC(ZSTD),
    scheme Enum8('' = 0, 'placeholder' = 1, 'cn20' = 2, 'gs1' = 3, 'ma' = 4, 'product' = 5, 'own' = 6, 'invalid' = 7) COMMENT '追溯码编码方案,空为无码行 · form of the code, empty for an event without codes (drug_trac_codg)' CODEC(ZSTD),
    product LowCardinality(String) COMMENT '药品标识码(前7位)或 GTIN-14 或 MA 标识 · product and pack level: first 7 digits, GTIN-14 or MA identifier (drug_trac_codg)' CODEC(ZSTD),
    code_raw String COMMENT '扫描原文,与20位码键相同时为空 · as the scanner read it, empty where it equals the 20-digit key (drug_trac_codg)' CODEC(ZSTD),
    codes UInt16 COMMENT '该事件的码行数,数量按此均分 · rows of this event that carry a code; quantity is shared evenly by them (drugtracinfo)' CODEC(ZSTD),
    kind Enum8('sale' = 1, 'sale_return' = 2, 'purchase' = 3, 'purchase_return' = 4, 'stock_in' = 5, 'stock_out' = 6, 'stock_take' = 7, 'void' = 8) COMMENT '业务类型 · what happened (infno)' CODEC(ZSTD),
    time DateTime64(3, 'Asia/Shanghai') COMMENT '业务发生时间 · when it happened at the counter (sel_retn_time, purc_retn_stoin_time, inv_chg_time, invdate)' CODEC(GCD, ZSTD),
    sent_lag Int64 COMMENT '上传时间减发生时间,毫秒 · milliseconds from time to upload (inf_time)' CODEC(ZSTD),
    region LowCardinality(String) COMMENT '机构所在县级区划 · county of the institution (fixmedins_admdvs)' CODEC(ZSTD),
    device LowCardinality(String) COMMENT '终端设备编号 · POS or scanner (dev_no)' CODEC(ZSTD),
    operator LowCardinality(String) COMMENT '经办人 · operator (sel_retn_opter_name)' CODEC(ZSTD),
    drug LowCardinality(String) COMMENT '医疗目录编码 · national catalogue code that was billed (med_list_codg)' CODEC(ZSTD),
    lot LowCardinality(String) COMMENT '生产批号 · lot (manu_lotnum)' CODEC(ZSTD),
    made Nullable(Date32) COMMENT '生产日期 · date of manufacture (manu_date)' CODEC(ZSTD),
    expires Nullable(Date32) COMMENT '有效期止,缺时取 GS1 码内日期 · expiry, the event''s, else the GS1 code''s (expy_end)' CODEC(ZSTD),
    split Bool COMMENT '拆零标志 · part of a pack was dispensed (trdn_flag)' CODEC(ZSTD),
    quantity Nullable(Decimal(18, 6)) COMMENT '数量:最小销售包装数,拆零时为最小单位数 · smallest sale packs, smallest units when split (sel_retn_cnt, purc_retn_cnt, cnt)' CODEC(ZSTD),
    price Nullable(Decimal(18, 6)) COMMENT '实际交易单价,元 · yuan per unit of quantity (finl_trns_pric)' CODEC(ZSTD),
    days Nullable(Decimal(18, 6)) COMMENT '用药天数 · days of supply (prd_days)' CODEC(ZSTD),
    pay Enum8('insured' = 1, 'self' = 2) COMMENT '医保或自费 · insured or self-paid (mdtrt_setl_type, hi_feesetl_type)' CODEC(ZSTD),
    settlement String COMMENT '结算ID · settlement within its org (setl_id)' CODEC(ZSTD),
    fund_pay Nullable(Decimal(18, 6)) COMMENT '基金支付金额,元 · what the fund paid for this line, yuan (fund_pay_sumamt)' CODEC(ZSTD),
    visit String COMMENT '就医流水号 · visit (mdtrt_sn)' CODEC(ZSTD),
    person String COMMENT '参保人假名(HMAC) · keyed pseudonym of the insured person (psn_no)' CODEC(ZSTD),
    person_region LowCardinality(String) COMMENT '参保地区划 · where the person is insured (insuplc_admdvs)' CODEC(ZSTD),
    credential Enum8('' = 0, 'ecard' = 1, 'idcard' = 2, 'sscard' = 3) COMMENT '就诊凭证类型 · how the person was identified (mdtrt_cert_type)' CODEC(ZSTD),
    setting Enum8('pharmacy' = 1, 'outpatient' = 2, 'inpatient' = 3, 'other' = 4) COMMENT '就医场景 · setting (yaosu)' CODEC(ZSTD),
    doctor LowCardinality(String) COMMENT '开方医师姓名 · prescriber''s name (prsc_dr_name)' CODEC(ZSTD),
    doctor_id LowCardinality(String) COMMENT '开方医师证件号 · prescriber''s number (prsc_dr_certno)' CODEC(ZSTD),
    pharmacist LowCardinality(String) COMMENT '药师姓名 · pharmacist''s name (phar_name)' CODEC(ZSTD),
    pharmacist_id LowCardinality(String) COMMENT '药师资格证号 · pharmacist''s licence (phar_prac_cert_no)' CODEC(ZSTD),
    rx String COMMENT '处方号 · prescription number (rxno)' CODEC(ZSTD),
    doc String COMMENT '零售单据号或随货单号 · receipt or delivery note (rtal_docno, dynt_no)' CODEC(ZSTD),
    batch_no String COMMENT '机构批次流水号 · the institution''s upload number (fixmedins_bchno)' CODEC(ZSTD),
    supplier LowCardinality(String) COMMENT '供应商名称 · supplier (spler_name)' CODEC(ZSTD),
    reverses String COMMENT '被冲销的事件号 · event_id that is taken back (medins_prod_sel_no)' CODEC(ZSTD),
    void_kind Array(LowCardinality(String)) COMMENT '撤销针对的业务类型 · kinds a void deletes (inv_data_type)' CODEC(ZSTD),
    flags Array(LowCardinality(String)) COMMENT '标记:时钟异常、缺人员、扫描故障等 · marks: clock, no_person, no_settlement, scanner faults (yaosu)' CODEC(ZSTD),
    INDEX by_code_key if(scheme = 'cn20', concat('8', leftPad(toString(code), 19, '0')), code_text) TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(promptness)
PRIMARY KEY (toRelativeQuarterNum(time), code)
ORDER BY (toRelativeQuarterNum(time), code, code_text, org, event_id, digest)
SETTINGS index_granularity = 8192, non_replicated_deduplication_window = 10000, enable_block_number_column = 1, fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, min_level_for_wide_part = 1
COMMENT '扫码明细存储表,请查询视图 scans · storage of scans; query the view scans';

INSERT INTO scan_rows_next
SELECT *
FROM scan_rows
SETTINGS max_insert_threads = 1;

RENAME TABLE scan_rows TO scan_rows_before, scan_rows_next TO scan_rows;

DROP TABLE scan_rows_before;

ALTER TABLE voids
    MODIFY SETTING enable_block_number_column = 1;

-- What came in, with the insert it came with. In a cluster block counts for each
-- server by itself.
CREATE VIEW IF NOT EXISTS arrivals
AS SELECT
    *,
    _block_number AS block,
    toUInt64(splitByChar('_', _part)[3]) AS part_block
FROM scan_rows;

CREATE VIEW IF NOT EXISTS void_arrivals
AS SELECT
    *,
    _block_number AS block,
    toUInt64(splitByChar('_', _part)[3]) AS part_block
FROM voids;
