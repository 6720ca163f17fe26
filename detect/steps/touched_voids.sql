-- Codes of what they name: how is the column that holds such names.
INSERT INTO touched
SELECT DISTINCT code
FROM {main:Identifier}.scan_rows
PREWHERE {how:Identifier} IN (SELECT name FROM void_names WHERE how = {of:String})
WHERE (toString(org), {how:Identifier}) IN (SELECT org, name FROM void_names WHERE how = {of:String})
