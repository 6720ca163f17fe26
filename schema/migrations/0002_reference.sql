-- Reference data. Each load is kept; the views show the newest load of a key.
-- For orgs the key is the org: its newest load is its whole history.
CREATE TABLE IF NOT EXISTS reference_orgs
(
    org String COMMENT '定点医药机构编号 · designated institution (fixmedins_code)',
    name String COMMENT '机构名称 · name (fixmedins_name)',
    region String COMMENT '县级区划 · county (fixmedins_admdvs)',
    type LowCardinality(String) COMMENT '机构类型:pharmacy 药店,hospital 医院,clinic 诊所,village 村卫生室,wholesaler 批发 · type (fixmedins_type)',
    level String COMMENT '医院等级 · level (hosp_lv)',
    lat Nullable(Float64) COMMENT '纬度,度 · latitude, degrees (yaosu)',
    lon Nullable(Float64) COMMENT '经度,度 · longitude, degrees (yaosu)',
    status LowCardinality(String) COMMENT '状态:active 正常,suspended 暂停,ended 终止 · status (yaosu)',
    status_from Nullable(Date32) COMMENT '状态起日,空为不限 · first day of the status, empty for open (begntime)',
    status_to Nullable(Date32) COMMENT '状态止日,空为不限 · last day of the status, empty for open (endtime)',
    loaded DateTime64(6, 'Asia/Shanghai') COMMENT '装载时间 · when it was loaded (yaosu)'
)
ENGINE = ReplacingMergeTree
ORDER BY (org, loaded, status, ifNull(status_from, toDate32('1900-01-01')), ifNull(status_to, toDate32('2299-12-31')))
COMMENT '机构资料装载历史,请查询 orgs · loads of institutions; query orgs';

CREATE VIEW IF NOT EXISTS orgs
(
    org String COMMENT '定点医药机构编号 · designated institution (fixmedins_code)',
    name String COMMENT '机构名称 · name (fixmedins_name)',
    region String COMMENT '县级区划 · county (fixmedins_admdvs)',
    type LowCardinality(String) COMMENT '机构类型 · pharmacy, hospital, clinic, village, wholesaler (fixmedins_type)',
    level String COMMENT '医院等级 · level (hosp_lv)',
    lat Nullable(Float64) COMMENT '纬度,度 · latitude, degrees (yaosu)',
    lon Nullable(Float64) COMMENT '经度,度 · longitude, degrees (yaosu)',
    status LowCardinality(String) COMMENT '状态 · active, suspended, ended (yaosu)',
    status_from Nullable(Date32) COMMENT '状态起日 · first day of the status, empty for open (begntime)',
    status_to Nullable(Date32) COMMENT '状态止日 · last day of the status, empty for open (endtime)',
    loaded DateTime64(6, 'Asia/Shanghai') COMMENT '装载时间 · when it was loaded (yaosu)'
)
COMMENT '定点医药机构,一机构多行为其状态历史 · institutions; several rows of one are its history'
AS SELECT *
FROM reference_orgs
FINAL
WHERE (org, loaded) IN
(
    SELECT
        org,
        max(loaded)
    FROM reference_orgs
    GROUP BY org
);

CREATE TABLE IF NOT EXISTS reference_drugs
(
    product String COMMENT '药品标识码(7位)或 GTIN-14 · product and pack level (drug_trac_codg)',
    drug String COMMENT '医疗目录编码 · national catalogue code (med_list_codg)',
    name String COMMENT '药品名称 · name (fixmedins_hilist_name)',
    generic String COMMENT '通用名 · generic name (drug_genname)',
    pack_units Nullable(Float64) COMMENT '最小包装内最小单位数,或大包装内最小包装数 · units in a smallest pack, or smallest packs in a larger one (pkg_amount)',
    pack_level UInt8 COMMENT '包装级别,1 为最小销售包装,0 未知 · pack level, 1 is the smallest sale pack, 0 unknown (packLayer)',
    max_price Nullable(Float64) COMMENT '最高限价,元每包装 · highest price, yuan a pack (pric_uplmt_amt)',
    max_days Nullable(Float64) COMMENT '最多用药天数 · most days of supply (prd_days)',
    trace_exempt Bool COMMENT '免扫码 · exempt from tracing (yaosu)',
    loaded DateTime64(6, 'Asia/Shanghai') COMMENT '装载时间 · when it was loaded (yaosu)'
)
ENGINE = ReplacingMergeTree(loaded)
ORDER BY product
COMMENT '药品资料装载,请查询 drugs · loads of drugs; query drugs';

CREATE VIEW IF NOT EXISTS drugs
(
    product String COMMENT '药品标识码(7位)或 GTIN-14 · product and pack level (drug_trac_codg)',
    drug String COMMENT '医疗目录编码 · national catalogue code (med_list_codg)',
    name String COMMENT '药品名称 · name (fixmedins_hilist_name)',
    generic String COMMENT '通用名 · generic name (drug_genname)',
    pack_units Nullable(Float64) COMMENT '最小包装内最小单位数,或大包装内最小包装数 · units in a smallest pack, or smallest packs in a larger one (pkg_amount)',
    pack_level UInt8 COMMENT '包装级别,1 为最小销售包装,0 未知 · pack level, 1 is the smallest sale pack, 0 unknown (packLayer)',
    max_price Nullable(Float64) COMMENT '最高限价,元每包装 · highest price, yuan a pack (pric_uplmt_amt)',
    max_days Nullable(Float64) COMMENT '最多用药天数 · most days of supply (prd_days)',
    trace_exempt Bool COMMENT '免扫码 · exempt from tracing (yaosu)',
    loaded DateTime64(6, 'Asia/Shanghai') COMMENT '装载时间 · when it was loaded (yaosu)'
)
COMMENT '药品与包装资料 · drugs and their packs'
AS SELECT *
FROM reference_drugs
FINAL;

CREATE TABLE IF NOT EXISTS reference_persons
(
    person String COMMENT '参保人假名 · keyed pseudonym of the insured person (psn_no)',
    region LowCardinality(String) COMMENT '参保地区划 · where the person is insured (insuplc_admdvs)',
    household String COMMENT '家庭编号 · household (yaosu)',
    died_on Nullable(Date32) COMMENT '死亡日期 · date of death (yaosu)',
    loaded DateTime64(6, 'Asia/Shanghai') COMMENT '装载时间 · when it was loaded (yaosu)'
)
ENGINE = ReplacingMergeTree(loaded)
ORDER BY person
COMMENT '参保人资料装载,请查询 persons · loads of persons; query persons';

CREATE VIEW IF NOT EXISTS persons
(
    person String COMMENT '参保人假名 · keyed pseudonym of the insured person (psn_no)',
    region LowCardinality(String) COMMENT '参保地区划 · where the person is insured (insuplc_admdvs)',
    household String COMMENT '家庭编号 · household (yaosu)',
    died_on Nullable(Date32) COMMENT '死亡日期 · date of death (yaosu)',
    loaded DateTime64(6, 'Asia/Shanghai') COMMENT '装载时间 · when it was loaded (yaosu)'
)
COMMENT '参保人资料 · insured persons'
AS SELECT *
FROM reference_persons
FINAL;

CREATE TABLE IF NOT EXISTS reference_inpatient
(
    person String COMMENT '参保人假名 · keyed pseudonym of the insured person (psn_no)',
    org String COMMENT '住院机构编号 · hospital (fixmedins_code)',
    admitted DateTime64(3, 'Asia/Shanghai') COMMENT '入院时间 · admission (adm_time)',
    discharged Nullable(DateTime64(3, 'Asia/Shanghai')) COMMENT '出院时间,空为在院 · discharge, empty while in hospital (dscg_time)',
    loaded DateTime64(6, 'Asia/Shanghai') COMMENT '装载时间 · when it was loaded (yaosu)'
)
ENGINE = ReplacingMergeTree(loaded)
ORDER BY (person, org, admitted)
COMMENT '住院记录装载,请查询 inpatient · loads of hospital stays; query inpatient';

CREATE VIEW IF NOT EXISTS inpatient
(
    person String COMMENT '参保人假名 · keyed pseudonym of the insured person (psn_no)',
    org String COMMENT '住院机构编号 · hospital (fixmedins_code)',
    admitted DateTime64(3, 'Asia/Shanghai') COMMENT '入院时间 · admission (adm_time)',
    discharged Nullable(DateTime64(3, 'Asia/Shanghai')) COMMENT '出院时间,空为在院 · discharge, empty while in hospital (dscg_time)',
    loaded DateTime64(6, 'Asia/Shanghai') COMMENT '装载时间 · when it was loaded (yaosu)'
)
COMMENT '住院记录 · hospital stays'
AS SELECT *
FROM reference_inpatient
FINAL;

CREATE TABLE IF NOT EXISTS reference_regions
(
    region String COMMENT '县级区划代码 · county (admdvs)',
    name String COMMENT '名称 · name (admdvs_name)',
    lat Nullable(Float64) COMMENT '中心纬度,度 · latitude of its centre, degrees (yaosu)',
    lon Nullable(Float64) COMMENT '中心经度,度 · longitude of its centre, degrees (yaosu)',
    loaded DateTime64(6, 'Asia/Shanghai') COMMENT '装载时间 · when it was loaded (yaosu)'
)
ENGINE = ReplacingMergeTree(loaded)
ORDER BY region
COMMENT '区划装载,请查询 regions · loads of regions; query regions';

CREATE VIEW IF NOT EXISTS regions
(
    region String COMMENT '县级区划代码 · county (admdvs)',
    name String COMMENT '名称 · name (admdvs_name)',
    lat Nullable(Float64) COMMENT '中心纬度,度 · latitude of its centre, degrees (yaosu)',
    lon Nullable(Float64) COMMENT '中心经度,度 · longitude of its centre, degrees (yaosu)',
    loaded DateTime64(6, 'Asia/Shanghai') COMMENT '装载时间 · when it was loaded (yaosu)'
)
COMMENT '县级区划 · counties'
AS SELECT *
FROM reference_regions
FINAL;

CREATE TABLE IF NOT EXISTS reference_packs
(
    child String COMMENT '小包装码键 · code key of the smaller pack (curCode)',
    parent String COMMENT '大包装码键 · code key of the larger pack that holds it (parentCode)',
    loaded DateTime64(6, 'Asia/Shanghai') COMMENT '装载时间 · when it was loaded (yaosu)'
)
ENGINE = ReplacingMergeTree(loaded)
ORDER BY child
COMMENT '包装关联装载,请查询 packs · loads of pack relations; query packs';

CREATE VIEW IF NOT EXISTS packs
(
    child String COMMENT '小包装码键 · code key of the smaller pack (curCode)',
    parent String COMMENT '大包装码键 · code key of the larger pack that holds it (parentCode)',
    loaded DateTime64(6, 'Asia/Shanghai') COMMENT '装载时间 · when it was loaded (yaosu)'
)
COMMENT '包装关联关系 · what a larger pack holds'
AS SELECT *
FROM reference_packs
FINAL;

CREATE TABLE IF NOT EXISTS reference_exemptions
(
    detector LowCardinality(String) COMMENT '规则编号,空为全部 · detector, empty for all (yaosu)',
    entity_kind LowCardinality(String) COMMENT '对象类型 · code, person, org, device, lot or group (yaosu)',
    entity_id String COMMENT '对象编号 · entity (yaosu)',
    from Nullable(Date32) COMMENT '起日,空为不限 · first day, empty for open (yaosu)',
    to Nullable(Date32) COMMENT '止日,空为不限 · last day, empty for open (yaosu)',
    author String COMMENT '批准人 · who granted it (yaosu)',
    reason String COMMENT '理由 · why (yaosu)',
    loaded DateTime64(6, 'Asia/Shanghai') COMMENT '装载时间 · when it was loaded (yaosu)'
)
ENGINE = ReplacingMergeTree(loaded)
ORDER BY (detector, entity_kind, entity_id, ifNull(from, toDate32('1900-01-01')))
COMMENT '豁免装载,请查询 exemptions · loads of exemptions; query exemptions';

CREATE VIEW IF NOT EXISTS exemptions
(
    detector LowCardinality(String) COMMENT '规则编号,空为全部 · detector, empty for all (yaosu)',
    entity_kind LowCardinality(String) COMMENT '对象类型 · code, person, org, device, lot or group (yaosu)',
    entity_id String COMMENT '对象编号 · entity (yaosu)',
    from Nullable(Date32) COMMENT '起日,空为不限 · first day, empty for open (yaosu)',
    to Nullable(Date32) COMMENT '止日,空为不限 · last day, empty for open (yaosu)',
    author String COMMENT '批准人 · who granted it (yaosu)',
    reason String COMMENT '理由 · why (yaosu)',
    loaded DateTime64(6, 'Asia/Shanghai') COMMENT '装载时间 · when it was loaded (yaosu)'
)
COMMENT '豁免 · exemptions, with author and reason'
AS SELECT *
FROM reference_exemptions
FINAL;

-- Strings that stand for "no code", besides the built-in ones.
CREATE TABLE IF NOT EXISTS placeholders
(
    text String COMMENT '占位码文本 · text that stands for no code (drug_trac_codg)',
    note String COMMENT '说明 · note (yaosu)'
)
ENGINE = ReplacingMergeTree
ORDER BY text
COMMENT '占位码表,可增补 · placeholder codes, users may add rows';

-- One row per institution: its newest name, type and place.
CREATE VIEW IF NOT EXISTS org_facts
AS SELECT
    org,
    argMax(name, (ifNull(status_from, toDate32('1900-01-01')), name)) AS name,
    argMax(type, (ifNull(status_from, toDate32('1900-01-01')), type)) AS type,
    argMaxIf(
        (assumeNotNull(lat), assumeNotNull(lon)),
        (ifNull(status_from, toDate32('1900-01-01')), assumeNotNull(lat), assumeNotNull(lon)),
        isNotNull(lat) AND isNotNull(lon)) AS place,
    countIf(isNotNull(lat) AND isNotNull(lon)) > 0 AS placed
FROM orgs
GROUP BY org;

-- What a code of a product can hold; level 0 and unknown products count as the
-- smallest pack. holds: smallest packs in a larger pack. units: tablets in one
-- smallest pack, for a larger pack those of its drug's roomiest smallest pack
-- (the doubt is the shop's). 0 when unknown.
CREATE VIEW IF NOT EXISTS pack_sizes
AS SELECT
    d.product AS product,
    d.drug AS drug,
    d.pack_level <= 1 AS smallest,
    if(smallest, 0, ifNull(d.pack_units, 0)) AS holds,
    if(smallest, ifNull(d.pack_units, 0), s.units) AS units
FROM drugs AS d
LEFT JOIN
(
    SELECT
        drug,
        max(ifNull(pack_units, 0)) AS units
    FROM drugs
    WHERE pack_level <= 1
    GROUP BY drug
) AS s ON s.drug = d.drug;
