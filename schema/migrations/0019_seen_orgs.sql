-- What passes saw of institutions. An institution that is loaded again as it was
-- concerns nothing, and of one that is another its own codes are looked at again.
CREATE TABLE IF NOT EXISTS seen_orgs
(
    org String COMMENT '定点医药机构编号 · designated institution (fixmedins_code)',
    digest UInt64 COMMENT '所见机构资料的摘要,0 为不确定 · digest of what was seen of it, 0 for unknown (yaosu)',
    pass UInt64 COMMENT '写入它的轮次 · pass that wrote it (yaosu)'
)
ENGINE = MergeTree
ORDER BY org
COMMENT '检测轮次所见的机构资料 · what passes saw of institutions';
