-- version: 1
-- title: Another product than the one billed
-- title_zh: 疑似串换(码与药品不符)
-- status: live
-- severity: medium
-- entity: code
-- same: 码上药品、结算药品 = 属于(.+?)，却于 .*按(.+?)医保结算
WITH
    swapped AS
    (
        SELECT
            s.code_key AS code_key,
            s.product AS product,
            s.time AS time,
            s.org AS org,
            s.event_id AS event_id,
            s.drug AS billed,
            s.person AS person,
            s.region AS region,
            if(s.undone, 0, s.paid) AS paid,
            s.undone AS undone,
            d.drug AS scanned,
            d.name AS scanned_name
        FROM sales AS s
        INNER JOIN drugs AS d ON d.product = s.product
        WHERE s.pay = 'insured'
            AND s.item
            AND s.product != ''
            AND s.drug != ''
            AND d.drug != ''
            AND d.drug != s.drug
    ),
    labels AS
    (
        SELECT
            drug,
            argMin(name, (pack_level, product)) AS label
        FROM drugs
        GROUP BY drug
    )
SELECT
    s.code_key AS entity_id,
    toFloat64(count()) AS score,
    sum(s.paid) AS amount,
    concat(
        '追溯码 ', s.code_key, ' 属于', if(any(s.scanned_name) != '', concat(any(s.scanned_name), '（', any(s.scanned), '）'), concat('药品 ', any(s.scanned))),
        '，却于 ', formatDateTime(min(s.time), '%F'), ' 在', argMin(if(o.name != '', o.name, s.org), (s.time, s.org, s.event_id)), '按',
        argMin(if(n.label != '', concat(n.label, '（', s.billed, '）'), concat('药品 ', s.billed)), (s.time, s.org, s.event_id)), '医保结算',
        if(count() > 1, concat('；此类结算共 ', toString(count()), ' 次'), ''),
        if(countIf(s.undone) > 0, concat('，其中 ', toString(countIf(s.undone)), ' 次已退货'), '')) AS reason,
    arraySort(groupArray((s.time, s.org, s.event_id, 'substituted', s.code_key, s.person, s.region))) AS evidence
FROM swapped AS s
LEFT JOIN labels AS n ON n.drug = s.billed
LEFT JOIN org_facts AS o ON o.org = s.org
GROUP BY s.code_key
