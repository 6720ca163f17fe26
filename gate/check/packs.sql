SELECT
    product,
    drug,
    NOT smallest AS larger,
    toFloat64(holds),
    toFloat64(units)
FROM pack_sizes
