-- version: 1
-- title: Price far above the limit
-- title_zh: 超最高限价医保结算
-- status: live
-- severity: medium
-- entity: org
-- amount: turnover
-- same: 药品、单价与限价 = 药品 (\S+) 单价 (\S+) 元，限价 (\S+) 元
-- param: times Float64 = 1.5 · of the highest price of the drug, more than
WITH
    limits AS
    (
        SELECT
            drug,
            max(assumeNotNull(max_price)) AS highest
        FROM drugs
        WHERE pack_level <= 1
            AND drug != ''
            AND isNotNull(max_price)
        GROUP BY drug
    ),
    dear AS
    (
        SELECT
            s.org AS org,
            formatDateTime(s.time, '%Y-%m') AS month,
            s.time AS time,
            s.event_id AS event_id,
            s.code_key AS code_key,
            s.drug AS drug,
            s.person AS person,
            s.region AS region,
            if(s.undone, 0, s.paid) AS paid,
            toFloat64(assumeNotNull(s.price)) AS price,
            l.highest AS highest,
            least(price / greatest(highest, 0.01), 9999) AS ratio
        FROM sales AS s
        INNER JOIN limits AS l ON l.drug = s.drug
        WHERE s.pay = 'insured'
            AND NOT s.split
            AND isNotNull(s.price)
            -- Prices have six decimals; less is the float's, not the shop's.
            AND toFloat64(assumeNotNull(s.price)) > {times:Float64} * l.highest + 1e-9
    )
SELECT
    s.org AS entity_id,
    s.month AS period,
    toFloat64(max(s.ratio)) AS score,
    sum(s.paid) AS amount,
    concat(
        if(any(o.name) != '', any(o.name), s.org), ' ', s.month, ' 有 ', toString(uniqExact(s.event_id)), ' 笔医保结算单价超过最高限价的 ', toString({times:Float64}),
        ' 倍，涉及 ', toString(uniqExact(s.drug)), ' 种药；最高一笔在 ', formatDateTime(argMax(s.time, (s.ratio, s.time, s.event_id)), '%F'), '，药品 ',
        argMax(s.drug, (s.ratio, s.time, s.event_id)), ' 单价 ', toString(round(argMax(s.price, (s.ratio, s.time, s.event_id)), 2)), ' 元，限价 ',
        toString(round(argMax(s.highest, (s.ratio, s.time, s.event_id)), 2)), ' 元') AS reason,
    arraySort(groupUniqArray((s.time, s.org, s.event_id, 'overpriced', s.code_key, s.person, s.region))) AS evidence
FROM dear AS s
LEFT JOIN org_facts AS o ON o.org = s.org
GROUP BY
    s.org,
    s.month
