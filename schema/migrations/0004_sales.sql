-- The words of the trade, once: what is voided, what is one sale, what is
-- undone, what is effective. Detectors, check and analysts all read these.

-- What voids name, each with the voids that name it as (sent, time).
CREATE VIEW IF NOT EXISTS void_targets
AS SELECT
    org AS of_org,
    target.1 AS how,
    target.2 AS name,
    target.3 AS of_kind,
    groupArray((sent, time)) AS reached
FROM voids
FINAL
ARRAY JOIN arrayFilter(
    t -> t.2 != '',
    arrayConcat(
        [('event', reverses, '')],
        arrayMap(k -> ('settlement', settlement, k), void_kind),
        arrayMap(k -> ('batch', batch_no, k), void_kind))) AS target
WHERE NOT clock
GROUP BY
    of_org,
    how,
    name,
    of_kind;

-- Hashes of what voids name: a number is looked up ten times faster than a
-- join is made, and a collision only sends a row the slow way.
CREATE VIEW IF NOT EXISTS void_keys
AS SELECT cityHash64(of_org, how, name) AS void_key
FROM void_targets;

-- Scans with a clock to be trusted that no void names.
CREATE VIEW IF NOT EXISTS unnamed_scans
AS SELECT
    *,
    toDateTime64(0, 3, 'Asia/Shanghai') AS void_at
FROM scans
WHERE kind != 'void'
    AND NOT has(flags, 'clock')
    AND cityHash64(org, 'event', event_id) NOT IN (SELECT void_key FROM void_keys)
    AND (settlement = '' OR cityHash64(org, 'settlement', settlement) NOT IN (SELECT void_key FROM void_keys))
    AND (batch_no = '' OR cityHash64(org, 'batch', batch_no) NOT IN (SELECT void_key FROM void_keys));

-- Scans with a clock to be trusted that a void may name. void_at: the earliest
-- void that names it and was not sent before it; 1970 for none.
CREATE VIEW IF NOT EXISTS named_scans
AS SELECT
    s.*,
    arrayMin(arrayMap(
        v -> v.2,
        arrayFilter(v -> v.1 >= s.sent, arrayConcat(e.reached, n.reached, b.reached)))) AS void_at
FROM
(
    SELECT *
    FROM scans
    WHERE kind != 'void'
        AND NOT has(flags, 'clock')
        AND (cityHash64(org, 'event', event_id) IN (SELECT void_key FROM void_keys)
            OR (settlement != '' AND cityHash64(org, 'settlement', settlement) IN (SELECT void_key FROM void_keys))
            OR (batch_no != '' AND cityHash64(org, 'batch', batch_no) IN (SELECT void_key FROM void_keys)))
) AS s
LEFT JOIN (SELECT * FROM void_targets WHERE how = 'event') AS e ON e.of_org = s.org AND e.name = s.event_id
LEFT JOIN (SELECT * FROM void_targets WHERE how = 'settlement') AS n ON n.of_org = s.org AND n.name = s.settlement AND n.of_kind = toString(s.kind)
LEFT JOIN (SELECT * FROM void_targets WHERE how = 'batch') AS b ON b.of_org = s.org AND b.name = s.batch_no AND b.of_kind = toString(s.kind);

-- Every scan but voids, with a clock to be trusted.
CREATE VIEW IF NOT EXISTS timed_scans
AS SELECT
    *,
    false AS void_hit
FROM unnamed_scans
UNION ALL
SELECT
    *,
    void_at > toDateTime64(0, 3, 'Asia/Shanghai') AS void_hit
FROM named_scans;

-- Goods in, goods out and stock lists that no void took back.
CREATE VIEW IF NOT EXISTS stock_moves
AS SELECT * EXCEPT (void_at, void_hit)
FROM timed_scans
WHERE kind NOT IN ('sale', 'sale_return') AND NOT void_hit;

-- Codes whose sales need working out: uploaded more than once, or returned.
-- Repeats count too; a code too many here costs time, not truth.
CREATE VIEW IF NOT EXISTS busy_codes
AS SELECT code
FROM scan_rows
WHERE kind IN ('sale', 'sale_return')
GROUP BY code
HAVING count() > 1 OR max(kind) = 'sale_return';

-- What became of each upload of a sale or return of a busy code:
--   voided    a void took it back
--   merged    an earlier upload of the same sale or return speaks for it
--   stands    a sale that counts           undone   a sale that a return took back
--   undoes    a return that took one back   idle     a return that took nothing back
-- Uploads of one org with one settlement and one code are one sale, or one
-- return; the earliest speaks for it. Returns that name a sale go first, then
-- each other one takes the latest sale not yet undone and not after it, of the
-- same person when both name one. A void or return is too late when another org
-- uploaded a sale of the box after the sale and before the reversal.
-- partner: the return of an undone sale, the sale of a return that undoes.
CREATE VIEW IF NOT EXISTS fates
AS WITH
    uploads AS
    (
        SELECT
            code,
            code_text,
            org,
            arraySort(groupArray((
                time,
                event_id,
                digest,
                kind = 'sale_return' AS back,
                if(settlement != '', concat('s', settlement), concat('e', toString(digest), event_id)) AS line,
                person,
                reverses,
                void_hit,
                void_at))) AS rows
        FROM timed_scans
        WHERE kind IN ('sale', 'sale_return') AND code IN (SELECT code FROM busy_codes)
        GROUP BY
            code,
            code_text,
            org
    ),
    sold AS
    (
        SELECT
            code,
            code_text,
            arraySort(groupArray((time, org))) AS uploads
        FROM scans
        WHERE kind = 'sale'
            AND item
            AND NOT has(flags, 'clock')
            AND code IN (SELECT code FROM busy_codes)
        GROUP BY
            code,
            code_text
        HAVING uniq(org) > 1
    ),
    -- Each step is a query of its own: an alias used in an alias is copied into
    -- it, and eight steps of that take the engine a second to plan.
    placed AS
    (
        SELECT
            code,
            code_text,
            org,
            rows,
            arrayMap(u -> u.1, arrayFilter(u -> u.2 != org, sold.uploads)) AS elsewhere
        FROM uploads
        LEFT JOIN sold ON sold.code = uploads.code AND sold.code_text = uploads.code_text
    ),
    struck AS
    (
        SELECT
            *,
            arrayFilter(
                r -> r.4 OR NOT arrayExists(t -> t > r.1 AND t < r.9, elsewhere),
                arrayFilter(r -> r.8, rows)) AS voided
        FROM placed
    ),
    lasting AS
    (
        SELECT
            * EXCEPT rows,
            if(empty(voided), rows, arrayFilter(r -> NOT (r.8 AND has(voided, r)), rows)) AS live
        FROM struck
    ),
    counted AS
    (
        SELECT
            *,
            arrayEnumerateUniq(arrayMap(r -> r.4, live), arrayMap(r -> r.5, live)) AS nth
        FROM lasting
    ),
    parted AS
    (
        SELECT
            *,
            arrayFilter((r, n) -> n > 1, live, nth) AS merged,
            arrayFilter((r, n) -> n = 1 AND NOT r.4, live, nth) AS sales,
            arrayFilter((r, n) -> n = 1 AND r.4, live, nth) AS returns
        FROM counted
    ),
    -- Placeholders make lives of many thousand sales, and what a lambda takes from
    -- outside is copied for each element: so the sale a return names is found by
    -- sorting, and the folds carry what they need.
    -- numbered: sale uploads as (event_id, 0, number of their sale) and names that
    -- returns give as (name, 1, number of the return), in order.
    numbered AS
    (
        SELECT
            *,
            arrayFilter(r -> NOT r.4, live) AS sold,
            arraySort(arrayConcat(
                arrayMap((r, k) -> (r.2, 0, k), sold, arrayEnumerateDense(arrayMap(r -> r.5, sold))),
                arrayMap((r, i) -> (r.7, 1, i), returns, arrayEnumerate(returns)))) AS names
        FROM parted
    ),
    -- The first of each name, where it is an upload, says which sale is named.
    naming AS
    (
        SELECT
            * EXCEPT (live, nth, sold, names),
            arrayMap(x -> x.2, arraySort(arrayMap(
                (x, sale) -> (x.3, if(x.1 = '', 0, sale)),
                arrayFilter(x -> x.2 = 1, names),
                arrayFilter(
                    (sale, x) -> x.2 = 1,
                    arrayFill(
                        (sale, first) -> first = 1,
                        arrayMap(x -> if(x.2 = 0, x.3, 0), names),
                        arrayEnumerateUniq(arrayMap(x -> x.1, names))),
                    names)))) AS named
        FROM numbered
    ),
    -- by_name: for each sale the number of the return that names and undoes it, 0
    -- for none. unnamed: the returns that go on to the second round.
    first_round AS
    (
        SELECT
            *,
            arrayFold(
                (acc, at, n, i, who) -> (
                    if(n = 0 OR acc.1[n] != 0 OR arrayExists(t -> t > acc.2[n] AND t < at, acc.3),
                        acc.1,
                        arrayMap((b, k) -> if(k = n, i, b), acc.1, arrayEnumerate(acc.1))),
                    acc.2,
                    acc.3,
                    if(n = 0 OR acc.1[n] != 0, arrayPushBack(acc.4, (i, at, who)), acc.4)),
                arrayMap(r -> r.1, returns),
                named,
                arrayEnumerate(returns),
                arrayMap(r -> r.6, returns),
                (
                    arrayMap(s -> toUInt32(0), sales),
                    arrayMap(s -> s.1, sales),
                    elsewhere,
                    arrayResize([(toUInt32(0), toDateTime64(0, 3, 'Asia/Shanghai'), '')], 0))) AS round,
            round.1 AS by_name,
            round.4 AS unnamed
        FROM naming
    ),
    second_round AS
    (
        SELECT
            * EXCEPT (named, round, by_name, unnamed, elsewhere),
            arrayFold(
                (acc, r) -> (
                    if(
                        (arrayLastIndex((b, t, p) -> b = 0 AND t <= r.2 AND (p = '' OR r.3 = '' OR r.3 = p), acc.1, acc.2, acc.3) AS latest) = 0
                            OR arrayExists(t -> t > acc.2[latest] AND t < r.2, acc.4),
                        acc.1,
                        arrayMap((b, k) -> if(k = latest, r.1, b), acc.1, arrayEnumerate(acc.1))),
                    acc.2,
                    acc.3,
                    acc.4),
                unnamed,
                (by_name, arrayMap(s -> s.1, sales), arrayMap(s -> s.6, sales), elsewhere)).1 AS undone_by
        FROM first_round
    ),
    -- undone and undoing are in the order of the returns' numbers, so that each
    -- stands beside the other.
    paired AS
    (
        SELECT
            * EXCEPT (sales, returns, undone_by),
            arrayFilter((s, b) -> b = 0, sales, undone_by) AS stands,
            arraySort(arrayFilter(b -> b != 0, undone_by)) AS numbers,
            arraySort(x -> x.1, arrayFilter(x -> x.1 != 0, arrayMap((s, b) -> (b, s.2, s.3, s.1), sales, undone_by))) AS undone,
            arrayFilter((r, i) -> has(numbers, i), returns, arrayEnumerate(returns)) AS undoing,
            arrayFilter((r, i) -> NOT has(numbers, i), returns, arrayEnumerate(returns)) AS idle
        FROM second_round
    )
SELECT
    code,
    code_text,
    org,
    upload.1 AS event_id,
    upload.2 AS digest,
    upload.3 AS fate,
    upload.4 AS partner,
    upload.5 AS partner_time
FROM paired
ARRAY JOIN arrayConcat(
    arrayMap(r -> (r.2, r.3, 'voided', '', r.9), voided),
    arrayMap(r -> (r.2, r.3, 'merged', '', r.1), merged),
    arrayMap(s -> (s.2, s.3, 'stands', '', toDateTime64(0, 3, 'Asia/Shanghai')), stands),
    arrayMap((s, r) -> (s.2, s.3, 'undone', r.2, r.1), undone, undoing),
    arrayMap((r, s) -> (r.2, r.3, 'undoes', s.2, s.4), undoing, undone),
    arrayMap(r -> (r.2, r.3, 'idle', '', toDateTime64(0, 3, 'Asia/Shanghai')), idle)) AS upload;

-- Sales of busy codes, one row per sale and code.
CREATE VIEW IF NOT EXISTS busy_sales
AS SELECT
    s.*,
    f.fate = 'undone' AS undone,
    f.partner AS undone_event,
    f.partner_time AS undone_at
FROM scans AS s
INNER JOIN fates AS f USING (code, code_text, org, event_id, digest)
WHERE s.kind = 'sale'
    AND s.code IN (SELECT code FROM busy_codes)
    AND f.fate IN ('stands', 'undone');

-- Sales, one row per sale and code, insured or not, with what undid them.
CREATE VIEW IF NOT EXISTS sales
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
    received DateTime64(3, 'Asia/Shanghai') COMMENT '首次接收时间,精确到秒 · first receipt, to the second (yaosu)',
    seq UInt64 COMMENT '消息流序号 · sequence in stream SCANS (yaosu)',
    codes UInt16 COMMENT '该事件的码行数 · rows of this event that carry a code (drugtracinfo)',
    digest UInt32 COMMENT '事件内容摘要 · digest of the event''s content (yaosu)',
    code UInt64 COMMENT '码键数值,连接与分组比 code_key 快 · numeric code key, faster than code_key to join and group by (drug_trac_codg)',
    code_text String COMMENT '非20位追溯码的码键全文 · full key of item codes that are not 20 digits (drug_trac_codg)',
    item Bool COMMENT '是否单品码 · whether the code is an item code (drug_trac_codg)',
    share Float64 COMMENT '本码分得的数量 · this code''s even share of quantity (sel_retn_cnt, purc_retn_cnt, cnt)',
    paid Float64 COMMENT '本码分得的基金支付(缺时为单价乘数量),元 · this code''s share of fund_pay, else of price × quantity, yuan (fund_pay_sumamt)',
    undone Bool COMMENT '是否已被退货冲销 · whether a return took it back (yaosu)',
    undone_event String COMMENT '冲销它的退货事件号 · event_id of that return (yaosu)',
    undone_at DateTime64(3, 'Asia/Shanghai') COMMENT '退货时间,1970 为未退货 · when, 1970 for never (sel_retn_time)'
)
COMMENT '销售,每笔销售与码一行,已剔除撤销与重复上传 · sales, one row per sale and code, without voided and repeated uploads'
AS SELECT
    * EXCEPT (void_at, void_hit),
    false AS undone,
    '' AS undone_event,
    toDateTime64(0, 3, 'Asia/Shanghai') AS undone_at
FROM timed_scans
WHERE kind = 'sale'
    AND NOT void_hit
    AND code NOT IN (SELECT code FROM busy_codes)
UNION ALL
SELECT *
FROM busy_sales;

-- An insured sale of an item code that is not undone.
CREATE VIEW IF NOT EXISTS effective_sales
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
    received DateTime64(3, 'Asia/Shanghai') COMMENT '首次接收时间,精确到秒 · first receipt, to the second (yaosu)',
    seq UInt64 COMMENT '消息流序号 · sequence in stream SCANS (yaosu)',
    codes UInt16 COMMENT '该事件的码行数 · rows of this event that carry a code (drugtracinfo)',
    digest UInt32 COMMENT '事件内容摘要 · digest of the event''s content (yaosu)',
    code UInt64 COMMENT '码键数值,连接与分组比 code_key 快 · numeric code key, faster than code_key to join and group by (drug_trac_codg)',
    code_text String COMMENT '非20位追溯码的码键全文 · full key of item codes that are not 20 digits (drug_trac_codg)',
    item Bool COMMENT '是否单品码 · whether the code is an item code (drug_trac_codg)',
    share Float64 COMMENT '本码分得的数量 · this code''s even share of quantity (sel_retn_cnt, purc_retn_cnt, cnt)',
    paid Float64 COMMENT '本码分得的基金支付(缺时为单价乘数量),元 · this code''s share of fund_pay, else of price × quantity, yuan (fund_pay_sumamt)',
    undone Bool COMMENT '是否已被退货冲销 · whether a return took it back (yaosu)',
    undone_event String COMMENT '冲销它的退货事件号 · event_id of that return (yaosu)',
    undone_at DateTime64(3, 'Asia/Shanghai') COMMENT '退货时间,1970 为未退货 · when, 1970 for never (sel_retn_time)'
)
COMMENT '有效医保销售:单品码、医保支付、未退货 · insured sales of item codes that are not undone'
AS SELECT *
FROM sales
WHERE pay = 'insured' AND item AND NOT undone;

-- Effective sales of codes that were sold more than once, with what each takes
-- of its pack. takes and holds are in packs: a whole sale takes all of a
-- smallest pack, a split sale its units; a larger pack holds smallest packs.
-- holds 0: unknown. takes 0: a split sale whose units are unknown.
CREATE VIEW IF NOT EXISTS code_uses
AS SELECT
    s.*,
    p.product = '' OR p.smallest AS smallest,
    if(p.product = '' OR p.smallest, 1, p.holds) AS holds,
    multiIf(
        s.split, if(p.units > 0, s.share / p.units, 0),
        p.product = '' OR p.smallest, 1,
        s.share) AS takes
FROM busy_sales AS s
LEFT JOIN pack_sizes AS p ON p.product = s.product
WHERE s.pay = 'insured' AND s.item AND NOT s.undone;

-- Two consecutive effective sales of one code at different orgs. Larger packs
-- count only when all orgs together took more than the pack holds.
CREATE VIEW IF NOT EXISTS sale_pairs
AS SELECT
    code_key,
    drug,
    product,
    previous.1 AS first_time,
    previous.2 AS first_org,
    previous.3 AS first_event,
    previous.4 AS first_person,
    previous.5 AS first_region,
    time AS second_time,
    org AS second_org,
    event_id AS second_event,
    person AS second_person,
    region AS second_region,
    paid AS second_paid,
    dateDiff('millisecond', first_time, second_time) / 3600000 AS gap_hours
FROM
(
    SELECT
        *,
        row_number() OVER life AS nth,
        lagInFrame((time, org, event_id, person, region)) OVER (life ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS previous,
        sum(takes) OVER (PARTITION BY code, code_text) AS taken
    FROM code_uses
    WINDOW life AS (PARTITION BY code, code_text ORDER BY time, org, event_id, digest)
)
WHERE nth > 1
    AND previous.2 != org
    AND (smallest OR (holds > 0 AND taken > holds + 1e-9));

-- Codes that were sold and also stand in a goods-in note or a stock list of
-- another org, looked at without regard to time: candidates, not findings.
CREATE VIEW IF NOT EXISTS moved_codes
AS SELECT code
FROM scan_rows
WHERE kind IN ('sale', 'purchase', 'stock_in', 'stock_take')
GROUP BY code
HAVING countIf(kind = 'sale') > 0
    AND countIf(kind != 'sale') > 0
    AND min(org) != max(org);
