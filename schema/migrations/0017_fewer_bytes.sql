-- Scans in fewer bytes. An event id that is a UUID as it is usually written takes 17
-- bytes in the place of 36: a zero byte, with which no id begins, and its 16 bytes.
-- Sequences are rounded down to multiples of 65,536, as all they are asked for is
-- about when a row came in. Codecs are those that measured best.
-- The table is copied as a whole and takes the other's place at once. If we die
-- before that, the copy is begun again; after it, the new table is copied once more,
-- which changes nothing in its rows.
-- What reads the table comes first: it reads rows in either form.
CREATE OR REPLACE VIEW scans
(
    code_key String COMMENT '追溯码键,空为不可比 · key used to compare, empty when never compared (drug_trac_codg)',
    code_raw String COMMENT '扫描原文 · as the scanner read it (drug_trac_codg)',
    scheme Enum8('' = 0, 'placeholder' = 1, 'cn20' = 2, 'gs1' = 3, 'ma' = 4, 'product' = 5, 'own' = 6, 'invalid' = 7) COMMENT '追溯码编码方案,空为无码行 · form of the code (drug_trac_codg)',
    product LowCardinality(String) COMMENT '药品标识码(前7位)或 GTIN-14 · product and pack level (drug_trac_codg)',
    event_id String COMMENT '机构内事件号 · the sender''s key within its org (yaosu)',
    kind Enum8('sale' = 1, 'sale_return' = 2, 'purchase' = 3, 'purchase_return' = 4, 'stock_in' = 5, 'stock_out' = 6, 'stock_take' = 7, 'void' = 8) COMMENT '业务类型 · what happened (infno)',
    time DateTime64(3, 'Asia/Shanghai') COMMENT '业务发生时间 · when it happened at the counter (sel_retn_time, purc_retn_stoin_time, inv_chg_time, invdate)',
    sent DateTime64(3, 'Asia/Shanghai') COMMENT '上传时间 · when the sender uploaded it (inf_time)',
    org LowCardinality(String) COMMENT '定点医药机构编号 · designated institution (fixmedins_code)',
    region LowCardinality(String) COMMENT '机构所在县级区划 · county of the institution (fixmedins_admdvs)',
    device LowCardinality(String) COMMENT '终端设备编号 · POS or scanner (dev_no)',
    operator LowCardinality(String) COMMENT '经办人 · operator (sel_retn_opter_name)',
    drug LowCardinality(String) COMMENT '医疗目录编码 · national catalogue code that was billed (med_list_codg)',
    lot LowCardinality(String) COMMENT '生产批号 · lot (manu_lotnum)',
    made Nullable(Date32) COMMENT '生产日期 · date of manufacture (manu_date)',
    expires Nullable(Date32) COMMENT '有效期止 · expiry (expy_end)',
    split Bool COMMENT '拆零标志 · part of a pack was dispensed (trdn_flag)',
    quantity Nullable(Decimal(18, 6)) COMMENT '整个事件的数量:最小销售包装数,拆零时为最小单位数 · quantity of the whole event: smallest sale packs, units when split (sel_retn_cnt, purc_retn_cnt, cnt)',
    price Nullable(Decimal(18, 6)) COMMENT '实际交易单价,元 · yuan per unit of quantity (finl_trns_pric)',
    days Nullable(Decimal(18, 6)) COMMENT '用药天数 · days of supply (prd_days)',
    pay Enum8('insured' = 1, 'self' = 2) COMMENT '医保或自费 · insured or self-paid (mdtrt_setl_type, hi_feesetl_type)',
    settlement String COMMENT '结算ID · settlement within its org (setl_id)',
    fund_pay Nullable(Decimal(18, 6)) COMMENT '整个事件的基金支付金额,元 · what the fund paid for the whole event, yuan (fund_pay_sumamt)',
    visit String COMMENT '就医流水号 · visit (mdtrt_sn)',
    person String COMMENT '参保人假名(HMAC) · keyed pseudonym of the insured person (psn_no)',
    person_region LowCardinality(String) COMMENT '参保地区划 · where the person is insured (insuplc_admdvs)',
    credential Enum8('' = 0, 'ecard' = 1, 'idcard' = 2, 'sscard' = 3) COMMENT '就诊凭证类型 · how the person was identified (mdtrt_cert_type)',
    setting Enum8('pharmacy' = 1, 'outpatient' = 2, 'inpatient' = 3, 'other' = 4) COMMENT '就医场景 · setting (yaosu)',
    doctor LowCardinality(String) COMMENT '开方医师姓名 · prescriber''s name (prsc_dr_name)',
    doctor_id LowCardinality(String) COMMENT '开方医师证件号 · prescriber''s number (prsc_dr_certno)',
    pharmacist LowCardinality(String) COMMENT '药师姓名 · pharmacist''s name (phar_name)',
    pharmacist_id LowCardinality(String) COMMENT '药师资格证号 · pharmacist''s licence (phar_prac_cert_no)',
    rx String COMMENT '处方号 · prescription number (rxno)',
    doc String COMMENT '零售单据号或随货单号 · receipt or delivery note (rtal_docno, dynt_no)',
    batch_no String COMMENT '机构批次流水号 · the institution''s upload number (fixmedins_bchno)',
    supplier LowCardinality(String) COMMENT '供应商名称 · supplier (spler_name)',
    reverses String COMMENT '被冲销的事件号 · event_id that is taken back (medins_prod_sel_no)',
    void_kind Array(LowCardinality(String)) COMMENT '撤销针对的业务类型 · kinds a void deletes (inv_data_type)',
    flags Array(LowCardinality(String)) COMMENT '标记 · marks: clock, no_person, no_settlement, scanner faults (yaosu)',
    received DateTime64(3, 'Asia/Shanghai') COMMENT '接收时间:最晚一次上传的首次接收,精确到秒 · first receipt of the upload that was sent last, to the second (yaosu)',
    seq UInt64 COMMENT '消息流序号,舍至65536的倍数 · sequence in stream SCANS, rounded down to a multiple of 65,536 (yaosu)',
    codes UInt16 COMMENT '该事件的码行数 · rows of this event that carry a code (drugtracinfo)',
    digest UInt32 COMMENT '事件内容摘要 · digest of the event''s content (yaosu)',
    code UInt64 COMMENT '码键数值,连接与分组比 code_key 快 · numeric code key, faster than code_key to join and group by (drug_trac_codg)',
    code_text String COMMENT '非20位追溯码的码键全文 · full key of item codes that are not 20 digits (drug_trac_codg)',
    item Bool COMMENT '是否单品码 · whether the code is an item code (drug_trac_codg)',
    share Float64 COMMENT '本码分得的数量 · this code''s even share of quantity (sel_retn_cnt, purc_retn_cnt, cnt)',
    paid Float64 COMMENT '本码分得的基金支付(缺时为单价乘数量),元 · this code''s share of fund_pay, else of price × quantity, yuan (fund_pay_sumamt)'
)
COMMENT '扫码明细,每个事件与码一行,重复上传只见一次 · scans, one row per event and code, repeats seen once'
AS SELECT
    if(scheme = 'cn20', concat('8', leftPad(toString(code), 19, '0')), code_text) AS code_key,
    if(scheme = 'cn20' AND code_raw = '', concat('8', leftPad(toString(code), 19, '0')), code_raw) AS code_raw,
    scheme,
    product,
    if(startsWith(event_id, '\0'), UUIDNumToString(toFixedString(substring(event_id, 2, 16), 16)), event_id) AS event_id,
    kind,
    time,
    time + toIntervalMillisecond((toInt64(intDiv(promptness + 8589934592, 17179869184)) - 64) * 1000 + sent_lag) AS sent,
    org,
    region,
    device,
    operator,
    drug,
    lot,
    made,
    expires,
    split,
    quantity,
    price,
    days,
    pay,
    settlement,
    fund_pay,
    visit,
    person,
    person_region,
    credential,
    setting,
    doctor,
    doctor_id,
    pharmacist,
    pharmacist_id,
    rx,
    doc,
    batch_no,
    supplier,
    reverses,
    void_kind,
    flags,
    toStartOfSecond(time - toIntervalSecond(toInt64(bitAnd(promptness + 8589934592, 17179869183)) - 8589934592)) AS received,
    seq,
    codes,
    digest,
    code,
    code_text,
    scheme = 'cn20' OR code_text != '' AS item,
    toFloat64(ifNull(quantity, 0)) / greatest(codes, 1) AS share,
    coalesce(toFloat64(fund_pay), toFloat64(price) * toFloat64(quantity), 0) / greatest(codes, 1) AS paid
FROM scan_rows
FINAL;

-- Same org and event_id, other content.
CREATE OR REPLACE VIEW id_conflicts
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
        if(startsWith(event_id, '\0'), UUIDNumToString(toFixedString(substring(event_id, 2, 16), 16)), event_id)
    FROM scan_rows
    GROUP BY org, event_id
    HAVING min(digest) != max(digest)
)
GROUP BY org, event_id
HAVING contents > 1;

CREATE OR REPLACE VIEW reversed_codes
AS SELECT code
FROM scan_rows
WHERE kind = 'sale'
    AND code IN
    (
        SELECT code
        FROM scan_rows
        WHERE kind = 'sale_return'
            OR (kind = 'sale'
                AND (cityHash64(org, 'event', if(startsWith(event_id, '\0'), UUIDNumToString(toFixedString(substring(event_id, 2, 16), 16)), event_id)) IN (SELECT void_key FROM void_keys)
                    OR (settlement != '' AND cityHash64(org, 'settlement', settlement) IN (SELECT void_key FROM void_keys))
                    OR (batch_no != '' AND cityHash64(org, 'batch', batch_no) IN (SELECT void_key FROM void_keys))))
    )
GROUP BY code
HAVING min(org) != max(org);

DROP TABLE IF EXISTS scan_rows_next SYNC
SETTINGS max_table_size_to_drop = 0;

CREATE OR REPLACE TABLE scan_rows_next
(
    code UInt64 COMMENT '码键数值:20位码为去掉首位8后的19位数,其余为 xxHash64(code_text),无码可比时为机构内行键 · numeric code key: a 20-digit code without its leading 8, else xxHash64 of code_text, else a key within the org (drug_trac_codg)' CODEC(ZSTD),
    code_text String COMMENT '非20位追溯码的码键全文,20位码与不可比的码为空 · full key of item codes that are not 20 digits, else empty (drug_trac_codg)' CODEC(ZSTD),
    org LowCardinality(String) COMMENT '定点医药机构编号 · designated institution (fixmedins_code)' CODEC(ZSTD(3)),
    event_id String COMMENT '机构内事件号;小写 UUID 存为零字节加16字节,视图 scans 还原为文本 · the sender''s key within its org; a lower-case UUID is stored as a zero byte and its 16 bytes, and is text again in the view scans (yaosu)' CODEC(ZSTD(3)),
    digest UInt32 COMMENT '事件内容摘要:同号同内容即同一事件 · digest of the event''s content; same id and digest is the same event (yaosu)' CODEC(ZSTD),
    promptness UInt64 COMMENT '留用次序:(上传减发生秒数)×2^34 + 2^40 − (接收减发生秒数),最晚上传、其次最早接收的一行保留 · seconds from time to upload times 2^34, plus 2^40, minus seconds from time to receipt; the largest stays (yaosu)' CODEC(ZSTD),
    seq UInt64 COMMENT '消息流序号,舍至65536的倍数 · sequence in stream SCANS, rounded down to a multiple of 65,536 (yaosu)' CODEC(T64, ZSTD),
    scheme Enum8('' = 0, 'placeholder' = 1, 'cn20' = 2, 'gs1' = 3, 'ma' = 4, 'product' = 5, 'own' = 6, 'invalid' = 7) COMMENT '追溯码编码方案,空为无码行 · form of the code, empty for an event without codes (drug_trac_codg)' CODEC(ZSTD),
    product LowCardinality(String) COMMENT '药品标识码(前7位)或 GTIN-14 或 MA 标识 · product and pack level: first 7 digits, GTIN-14 or MA identifier (drug_trac_codg)' CODEC(ZSTD),
    code_raw String COMMENT '扫描原文,与20位码键相同时为空 · as the scanner read it, empty where it equals the 20-digit key (drug_trac_codg)' CODEC(ZSTD),
    codes UInt16 COMMENT '该事件的码行数,数量按此均分 · rows of this event that carry a code; quantity is shared evenly by them (drugtracinfo)' CODEC(ZSTD),
    kind Enum8('sale' = 1, 'sale_return' = 2, 'purchase' = 3, 'purchase_return' = 4, 'stock_in' = 5, 'stock_out' = 6, 'stock_take' = 7, 'void' = 8) COMMENT '业务类型 · what happened (infno)' CODEC(T64, ZSTD),
    time DateTime64(3, 'Asia/Shanghai') COMMENT '业务发生时间 · when it happened at the counter (sel_retn_time, purc_retn_stoin_time, inv_chg_time, invdate)' CODEC(GCD, T64('bit'), ZSTD),
    sent_lag Int64 COMMENT '上传时间减发生时间,毫秒,不含 promptness 所记整秒 · milliseconds from time to upload, beyond the whole seconds that promptness holds (inf_time)' CODEC(ZSTD),
    region LowCardinality(String) COMMENT '机构所在县级区划 · county of the institution (fixmedins_admdvs)' CODEC(ZSTD),
    device LowCardinality(String) COMMENT '终端设备编号 · POS or scanner (dev_no)' CODEC(ZSTD),
    operator LowCardinality(String) COMMENT '经办人 · operator (sel_retn_opter_name)' CODEC(ZSTD),
    drug LowCardinality(String) COMMENT '医疗目录编码 · national catalogue code that was billed (med_list_codg)' CODEC(ZSTD),
    lot LowCardinality(String) COMMENT '生产批号 · lot (manu_lotnum)' CODEC(ZSTD),
    made Nullable(Date32) COMMENT '生产日期 · date of manufacture (manu_date)' CODEC(ZSTD),
    expires Nullable(Date32) COMMENT '有效期止,缺时取 GS1 码内日期 · expiry, the event''s, else the GS1 code''s (expy_end)' CODEC(ZSTD),
    split Bool COMMENT '拆零标志 · part of a pack was dispensed (trdn_flag)' CODEC(ZSTD),
    quantity Nullable(Decimal(18, 6)) COMMENT '数量:最小销售包装数,拆零时为最小单位数 · smallest sale packs, smallest units when split (sel_retn_cnt, purc_retn_cnt, cnt)' CODEC(GCD, T64, ZSTD),
    price Nullable(Decimal(18, 6)) COMMENT '实际交易单价,元 · yuan per unit of quantity (finl_trns_pric)' CODEC(GCD, ZSTD(3)),
    days Nullable(Decimal(18, 6)) COMMENT '用药天数 · days of supply (prd_days)' CODEC(GCD, ZSTD),
    pay Enum8('insured' = 1, 'self' = 2) COMMENT '医保或自费 · insured or self-paid (mdtrt_setl_type, hi_feesetl_type)' CODEC(ZSTD),
    settlement String COMMENT '结算ID · settlement within its org (setl_id)' CODEC(ZSTD),
    fund_pay Nullable(Decimal(18, 6)) COMMENT '基金支付金额,元 · what the fund paid for this line, yuan (fund_pay_sumamt)' CODEC(GCD, ZSTD(3)),
    visit String COMMENT '就医流水号 · visit (mdtrt_sn)' CODEC(ZSTD),
    person String COMMENT '参保人假名(HMAC) · keyed pseudonym of the insured person (psn_no)' CODEC(ZSTD),
    person_region LowCardinality(String) COMMENT '参保地区划 · where the person is insured (insuplc_admdvs)' CODEC(ZSTD),
    credential Enum8('' = 0, 'ecard' = 1, 'idcard' = 2, 'sscard' = 3) COMMENT '就诊凭证类型 · how the person was identified (mdtrt_cert_type)' CODEC(T64, ZSTD),
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

-- What reads back as it was written is a UUID in its usual form.
INSERT INTO scan_rows_next
SELECT * REPLACE (
    if(UUIDNumToString(UUIDStringToNum(event_id)) = event_id, concat('\0', UUIDStringToNum(event_id)), event_id) AS event_id,
    intDiv(seq, 65536) * 65536 AS seq)
FROM scan_rows
SETTINGS max_insert_threads = 1;

-- Rows that came in meanwhile are not in the copy.
SELECT throwIf(
    (SELECT count() FROM scan_rows_next FINAL) != (SELECT count() FROM scan_rows FINAL),
    'scans came in while they were copied: stop the ingesters and all that applies the schema, then apply it again');

EXCHANGE TABLES scan_rows AND scan_rows_next;

DROP TABLE IF EXISTS scan_rows_next SYNC
SETTINGS max_table_size_to_drop = 0;

ALTER TABLE sales
    COMMENT COLUMN seq '消息流序号,舍至65536的倍数 · sequence in stream SCANS, rounded down to a multiple of 65,536 (yaosu)';

ALTER TABLE effective_sales
    COMMENT COLUMN seq '消息流序号,舍至65536的倍数 · sequence in stream SCANS, rounded down to a multiple of 65,536 (yaosu)';
