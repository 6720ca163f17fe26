-- When an event was sent is no part of what makes two uploads one event: a retry is
-- sent later and is the same. Of its uploads the one sent last stays, so that a row
-- uploaded again after a void stands; promptness says which that is, and when it was
-- received in its remainder by 2^34, as before.
ALTER TABLE scan_rows
    COMMENT COLUMN promptness '留用次序:(上传减发生秒数)×2^34 + 2^40 − (接收减发生秒数),最晚上传、其次最早接收的一行保留 · seconds from time to upload times 2^34, plus 2^40, minus seconds from time to receipt; the largest stays (yaosu)';

-- What promptness says need not be said twice.
ALTER TABLE scan_rows
    COMMENT COLUMN sent_lag '上传时间减发生时间,毫秒,不含 promptness 所记整秒 · milliseconds from time to upload, beyond the whole seconds that promptness holds (inf_time)';

-- Sequences of neighbours in a table sorted by code have their upper bits in common.
ALTER TABLE scan_rows
    MODIFY COLUMN seq UInt64 CODEC(T64, ZSTD);

ALTER TABLE voids
    COMMENT COLUMN promptness '留用次序:(上传减发生秒数)×2^34 + 2^40 − (接收减发生秒数),最晚上传、其次最早接收的一行保留 · seconds from time to upload times 2^34, plus 2^40, minus seconds from time to receipt; the largest stays (yaosu)';

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
    seq UInt64 COMMENT '消息流序号 · sequence in stream SCANS (yaosu)',
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
    event_id,
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
