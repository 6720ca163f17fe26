-- version: 1
-- title: Ring of orgs that pass paid boxes on
-- title_zh: 回流药团伙
-- status: live
-- severity: high
-- entity: group
-- refine: ring
-- param: edges UInt32 = 3 · different codes that make a link of two orgs
-- param: clone_days UInt32 = 3 · shorter gaps are cloned_code and no link
WITH
    passages AS
    (
        SELECT
            code_key,
            first_org AS from_org,
            first_event AS from_event,
            first_person AS from_person,
            first_region AS from_region,
            first_time AS from_time,
            second_org AS to_org,
            second_event AS to_event,
            second_person AS to_person,
            second_region AS to_region,
            second_time AS to_time,
            'sold_again' AS how,
            second_paid AS paid
        FROM sale_pairs
        WHERE gap_hours > {clone_days:UInt32} * 24
        UNION ALL
        SELECT
            code_key,
            sale_org,
            sale_event,
            sale_person,
            sale_region,
            sale_time,
            org,
            event_id,
            person,
            region,
            time,
            'restocked',
            0.
        FROM restocks
    ),
    -- Most boxes that turn up elsewhere are the only one between two orgs.
    counted AS
    (
        SELECT
            *,
            uniqExact(code_key) OVER (PARTITION BY least(from_org, to_org), greatest(from_org, to_org)) AS codes
        FROM passages
    )
SELECT
    c.code_key AS code_key,
    c.how AS how,
    c.from_org AS from_org,
    a.name AS from_name,
    c.from_region AS from_region,
    c.from_event AS from_event,
    c.from_person AS from_person,
    c.from_time AS from_time,
    c.to_org AS to_org,
    b.name AS to_name,
    c.to_region AS to_region,
    c.to_event AS to_event,
    c.to_person AS to_person,
    c.to_time AS to_time,
    c.paid AS paid
FROM counted AS c
LEFT JOIN org_facts AS a ON a.org = c.from_org
LEFT JOIN org_facts AS b ON b.org = c.to_org
WHERE c.codes >= {edges:UInt32}
