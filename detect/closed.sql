SELECT
    concat(org, '/', event_id) AS event,
    multiIf(
        min(state) = 'undone' AND max(state) = 'undone', concat(' 已于 ', formatDateTime(max(undone_at), '%F'), ' 由 ', any(undone_event), ' 退货冲销'),
        max(state) = 'gone', ' 已撤销或并入同一结算的另一次上传',
        '') AS what
FROM sale_rows
FINAL
WHERE org IN (?) AND event_id IN (?) AND month BETWEEN ? AND ?
GROUP BY
    org,
    event_id
HAVING what != ''
