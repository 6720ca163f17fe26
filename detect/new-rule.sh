#!/usr/bin/env bash
# make rule NAME=x: starts a detector, a folder under detect/rules with a SELECT
# that loads and runs, the page for officers, and one firing and one silent case.
set -euo pipefail
cd "$(dirname "$0")"
name=${1:-}

if ! [[ $name =~ ^[a-z][a-z0-9]*(_[a-z0-9]+)*$ ]] || [ ${#name} -gt 40 ]; then
	echo "usage: make rule NAME=x, with x of small letters, digits and single _, as resold_code; at most 40" >&2
	exit 2
fi
if [ -e "rules/$name" ]; then
	echo "detect/rules/$name is there already" >&2
	exit 1
fi

# Whole or not at all: half a folder would stop every rule from loading.
draft=$(mktemp -d ./new-rule-XXXXXX)
trap 'rm -rf "$draft"' EXIT

cat >"$draft/detector.sql" <<'END'
-- version: 1
-- title: Code sold too often
-- title_zh: 待定
-- status: draft
-- severity: low
-- entity: code
-- param: sales UInt32 = 2 · effective sales of one code, at least
SELECT
    s.code_key AS entity_id,
    toFloat64(count()) AS score,
    sum(s.paid) AS amount,
    concat('追溯码 ', s.code_key, ' 有效医保结算 ', toString(count()), ' 次') AS reason,
    arraySort(groupArray((s.time, s.org, s.event_id, 'sold', s.code_key, s.person, s.region))) AS evidence
FROM effective_sales AS s
GROUP BY s.code_key
HAVING count() >= {sales:UInt32}
END

cat >"$draft/detector.md" <<END
# 待定($name)

## 表现 · What it looks like

写明查什么、典型路径、依据哪份文件。

参数:

- \`sales\`(默认 2):同一码的有效医保结算至少几次才报;写明默认值的理由。

## 正当解释 · Innocent explanations

逐条列出会造成同样现象的正常业务,每条在 cases.txtar 里有一个不报的用例。

## 怎样核查 · What to check

写明先向谁要什么单据,看什么。

## 查不出什么 · What it misses

写明换一种做法就能躲过的情形。

## 缺参考数据时 · What it loses without reference data

写明缺哪种参考数据时会怎样。
END

cat >"$draft/cases.txtar" <<'END'
In one sentence: what this rule finds.
-- what it must find, as an officer would say it --
sale 01-05T10:00 A box1
sale 03-15T10:00 B box1
want box1
-- what is honest and looks like it --
sale 01-05T10:00 A box1
sale_return 01-06T10:00 A box1
sale 03-15T10:00 B box1
want nothing
END

chmod 755 "$draft"
mv "$draft" "rules/$name"
cat <<END
detect/rules/$name: write detector.sql, detector.md and cases.txtar, then

  go test ./detect -run TestCases
  make build && ./bin/yaosu detect --once --rule $name

It stays a draft, which no pass runs unless told to, until its header says live.
END
