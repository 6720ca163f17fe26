-- Returns and voids that came too late: another org had uploaded a sale of the
-- box by then, so they take nothing back.

-- Codes that a return names or whose sales a void may name, sold at more than one
-- org: candidates, looked at without regard to time. Few codes are returned or
-- voided, so these come first and the whole table is only looked through for them.
CREATE VIEW IF NOT EXISTS reversed_codes
AS SELECT code
FROM scan_rows
WHERE kind = 'sale'
    AND code IN
    (
        SELECT code
        FROM scan_rows
        WHERE kind = 'sale_return'
            OR (kind = 'sale'
                AND (cityHash64(org, 'event', event_id) IN (SELECT void_key FROM void_keys)
                    OR (settlement != '' AND cityHash64(org, 'settlement', settlement) IN (SELECT void_key FROM void_keys))
                    OR (batch_no != '' AND cityHash64(org, 'batch', batch_no) IN (SELECT void_key FROM void_keys))))
    )
GROUP BY code
HAVING min(org) != max(org);

-- What a return would have taken back is read from what became of all others (view
-- fates), which keeps silent on it. A return that names a sale stops there, unless
-- another return that names it undid that sale. Each other one wants the latest sale
-- not yet undone and not after it. Where that one is out of reach it stays so for
-- every later return as well: so it is the latest of those that stand in the end.
-- A void is held against each upload it names, and each void that is too late for a
-- code counts, whatever other voids did.
CREATE VIEW IF NOT EXISTS late_reversals
(
    code_key String COMMENT '追溯码键 · key used to compare (drug_trac_codg)',
    code UInt64 COMMENT '码键数值 · numeric code key (drug_trac_codg)',
    code_text String COMMENT '非20位追溯码的码键全文 · full key of item codes that are not 20 digits (drug_trac_codg)',
    org LowCardinality(String) COMMENT '退货或撤销的机构 · institution of the return or void (fixmedins_code)',
    event_id String COMMENT '退货或撤销的事件号 · event_id of the return or void (yaosu)',
    digest UInt32 COMMENT '该事件内容摘要 · digest of its content (yaosu)',
    kind Enum8('sale_return' = 2, 'void' = 8) COMMENT '退货或撤销 · return or void (infno)',
    time DateTime64(3, 'Asia/Shanghai') COMMENT '退货或撤销发生时间 · when it happened (sel_retn_time, inf_time)',
    region LowCardinality(String) COMMENT '所属县级区划,撤销取被撤销销售的 · county of the return; for a void that of the sale (fixmedins_admdvs)',
    sale_event String COMMENT '本应冲销的销售的事件号 · event_id of the sale it would have taken back (medins_prod_sel_no)',
    sale_time DateTime64(3, 'Asia/Shanghai') COMMENT '该销售的时间 · when that was sold (sel_retn_time)',
    sale_person String COMMENT '该销售的参保人假名 · pseudonym of the person it was sold to (psn_no)',
    elsewhere_org LowCardinality(String) COMMENT '其间最先上传该码销售的另一机构 · other institution that first sold the code in between (fixmedins_code)',
    elsewhere_time DateTime64(3, 'Asia/Shanghai') COMMENT '另一机构的销售时间 · when that one sold it (sel_retn_time)',
    elsewhere_event String COMMENT '另一机构的销售的事件号 · event_id of that sale (yaosu)',
    elsewhere_region LowCardinality(String) COMMENT '另一机构所在县级区划 · county of the other institution (fixmedins_admdvs)'
)
COMMENT '为时已晚的退货与撤销:其间另一机构已上传该码的销售,每个事件与码一行 · returns and voids that came too late, one row per event and code'
AS WITH
    -- sale: the upload that speaks for the sale. name: what a return may name.
    uploads AS
    (
        SELECT
            s.code AS code,
            s.code_text AS code_text,
            s.code_key AS code_key,
            s.org AS org,
            s.event_id AS event_id,
            s.digest AS digest,
            s.kind AS kind,
            s.time AS time,
            s.region AS region,
            s.person AS person,
            f.fate AS fate,
            f.partner AS partner,
            f.partner_time AS partner_time,
            if(s.kind = 'sale', s.event_id, s.reverses) AS name,
            if(s.settlement != '', concat('s', s.settlement), concat('e', toString(s.digest), s.event_id)) AS line,
            min((s.time, s.event_id, s.digest, s.person)) OVER (PARTITION BY code, code_text, org, kind, line) AS sale
        FROM scans AS s
        INNER JOIN fates AS f USING (code, code_text, org, event_id, digest)
        WHERE s.kind IN ('sale', 'sale_return')
            AND s.item
            AND f.fate != 'voided'
            AND s.code IN (SELECT code FROM reversed_codes)
    ),
    -- named_sale: of several sales with an upload of that name the earliest. latest:
    -- of the sales that stand, not after this row, to anybody, to nobody named and
    -- to this person; 1970 for none.
    named AS
    (
        SELECT
            *,
            countIf(kind = 'sale') OVER (PARTITION BY code, code_text, org, name) > 0 AS names_one,
            minIf(sale, kind = 'sale') OVER (PARTITION BY code, code_text, org, name) AS named_sale,
            maxIf(sale, fate = 'stands') OVER (PARTITION BY code, code_text, org ORDER BY time, kind ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS latest,
            maxIf(sale, fate = 'stands' AND person = '') OVER (PARTITION BY code, code_text, org ORDER BY time, kind ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS latest_to_nobody,
            maxIf(sale, fate = 'stands') OVER (PARTITION BY code, code_text, org, person ORDER BY time, kind ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS latest_to_same
        FROM uploads
    ),
    returns AS
    (
        SELECT
            *,
            max(fate = 'undoes' AND partner = named_sale.2 AND partner_time = named_sale.1) OVER (PARTITION BY code, code_text, org, named_sale) AS taken
        FROM named
        WHERE kind = 'sale_return' AND fate IN ('undoes', 'idle')
    ),
    naming_voids AS
    (
        SELECT
            org,
            event_id,
            digest,
            time,
            sent,
            arrayJoin(arrayFilter(
                t -> t.2 != '',
                arrayConcat(
                    [('event', reverses)],
                    if(has(void_kind, 'sale'), [('settlement', settlement), ('batch', batch_no)], [])))) AS target
        FROM voids
        FINAL
        WHERE NOT clock
    ),
    named_uploads AS
    (
        SELECT
            code,
            code_text,
            code_key,
            org,
            region,
            sent,
            (time, event_id, digest, person) AS sale,
            arrayJoin([('event', event_id), ('settlement', settlement), ('batch', batch_no)]) AS target
        FROM scans
        WHERE kind = 'sale'
            AND item
            AND NOT has(flags, 'clock')
            AND code IN (SELECT code FROM reversed_codes)
    ),
    reversals AS
    (
        SELECT
            code,
            code_text,
            code_key,
            org,
            event_id,
            digest,
            'sale_return' AS kind,
            time,
            region,
            multiIf(
                names_one AND NOT taken, named_sale,
                person = '', latest,
                latest_to_nobody > latest_to_same, latest_to_nobody,
                latest_to_same) AS wanted
        FROM returns
        WHERE fate = 'idle' AND wanted.2 != ''
        UNION ALL
        SELECT
            u.code,
            u.code_text,
            u.code_key,
            u.org,
            v.event_id,
            v.digest,
            'void' AS kind,
            v.time,
            u.region,
            u.sale AS wanted
        FROM named_uploads AS u
        INNER JOIN naming_voids AS v ON v.org = u.org AND v.target = u.target
        WHERE u.sent <= v.sent AND u.sale.1 < v.time
    ),
    sold AS
    (
        SELECT
            code,
            code_text,
            org,
            time,
            event_id,
            region
        FROM scans
        WHERE kind = 'sale'
            AND item
            AND NOT has(flags, 'clock')
            AND code IN (SELECT code FROM reversed_codes)
    )
SELECT
    r.code_key AS code_key,
    r.code AS code,
    r.code_text AS code_text,
    r.org AS org,
    r.event_id AS event_id,
    r.digest AS digest,
    CAST(r.kind, 'Enum8(\'sale_return\' = 2, \'void\' = 8)') AS kind,
    r.time AS time,
    argMin(r.region, (r.wanted, e.time, e.org, e.event_id, e.region)) AS region,
    min(r.wanted).2 AS sale_event,
    min(r.wanted).1 AS sale_time,
    min(r.wanted).4 AS sale_person,
    argMin(e.org, (r.wanted, e.time, e.org, e.event_id, e.region)) AS elsewhere_org,
    argMin(e.time, (r.wanted, e.time, e.org, e.event_id, e.region)) AS elsewhere_time,
    argMin(e.event_id, (r.wanted, e.time, e.org, e.event_id, e.region)) AS elsewhere_event,
    argMin(e.region, (r.wanted, e.time, e.org, e.event_id, e.region)) AS elsewhere_region
FROM reversals AS r
INNER JOIN sold AS e ON e.code = r.code AND e.code_text = r.code_text
WHERE e.org != r.org
    AND e.time > r.wanted.1
    AND e.time < r.time
GROUP BY
    r.code_key,
    r.code,
    r.code_text,
    r.org,
    r.event_id,
    r.digest,
    r.kind,
    r.time;
