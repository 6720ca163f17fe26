-- version: 1
-- title: Person whose boxes come back
-- title_zh: 回流药来源人员
-- status: live
-- severity: high
-- entity: person
-- param: codes UInt32 = 3 · different codes of theirs that came back
-- param: clone_days UInt32 = 3 · shorter gaps are cloned_code and no resale
WITH
    came_back AS
    (
        SELECT
            first_person AS person,
            code_key,
            first_time AS sale_time,
            first_org AS sale_org,
            first_event AS sale_event,
            first_region AS sale_region,
            'sold_again' AS how,
            second_time AS time,
            second_org AS org,
            second_event AS event_id,
            second_person AS other,
            second_region AS region,
            second_paid AS paid
        FROM sale_pairs
        WHERE first_person != '' AND gap_hours > {clone_days:UInt32} * 24
        UNION ALL
        SELECT
            sale_person,
            code_key,
            sale_time,
            sale_org,
            sale_event,
            sale_region,
            'restocked',
            time,
            org,
            event_id,
            person,
            region,
            0.
        FROM restocks
        WHERE sale_person != ''
    ),
    sources AS
    (
        SELECT
            c.person AS entity_id,
            uniqExact(c.code_key) AS codes,
            uniqExactIf(c.code_key, c.how = 'sold_again') AS sold_again,
            uniqExactIf(c.code_key, c.how = 'restocked') AS restocked,
            uniqExact(c.sale_org) AS shops,
            min(c.sale_time) AS since,
            max(c.sale_time) AS until,
            sum(c.paid) AS amount,
            groupUniqArray((if(o.name != '', o.name, c.org), c.code_key)) AS went,
            arraySort(groupUniqArrayArray([
                (c.sale_time, c.sale_org, c.sale_event, 'sold_first', c.code_key, c.person, c.sale_region),
                (c.time, c.org, c.event_id, c.how, c.code_key, c.other, c.region)])) AS evidence
        FROM came_back AS c
        LEFT JOIN org_facts AS o ON o.org = c.org
        GROUP BY c.person
        HAVING codes >= {codes:UInt32}
    ),
    -- Where the boxes went, most of them first.
    counted AS
    (
        SELECT
            *,
            arraySort(x -> (-toInt64(x.2), x.1), arrayMap(
                name -> (name, arrayCount(w -> w.1 = name, went)),
                arrayDistinct(arrayMap(w -> w.1, went)))) AS buyers
        FROM sources
    )
SELECT
    entity_id,
    toFloat64(codes) AS score,
    amount,
    concat(
        '参保人 ', entity_id, ' 于 ', formatDateTime(since, '%F'), ' 至 ', formatDateTime(until, '%F'),
        ' 在 ', toString(shops), ' 家机构医保结算的药品中，有 ', toString(codes), ' 个追溯码后来出现在别家（',
        arrayStringConcat(
            arrayConcat(
                if(sold_again > 0, [concat('再次医保结算 ', toString(sold_again), ' 个')], []),
                if(restocked > 0, [concat('入库或盘存 ', toString(restocked), ' 个')], [])),
            '、'),
        '），去向为 ',
        arrayStringConcat(arrayMap(b -> concat(b.1, ' ', toString(b.2), ' 个'), arraySlice(buyers, 1, 3)), '、'),
        if(length(buyers) > 3, concat(' 等 ', toString(length(buyers)), ' 家'), '')) AS reason,
    evidence
FROM counted
