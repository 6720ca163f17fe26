#!/usr/bin/env bash
# make test: all tests, with the time each suite took. Fails when a suite was
# skipped or had nothing to run.
set -euo pipefail
cd "$(dirname "$0")/.."
began=$SECONDS
# Suites share two cores and each starts engines of its own: two at a time.
out=$(mktemp)
trap 'rm -f "$out"' EXIT
status=0
go test -count=1 -p 2 -timeout 15m -v ./... >"$out" 2>&1 || status=$?
grep -E '^(ok|FAIL|\?|---? FAIL|panic:)' "$out" | grep -v 'no test files' || true
if [ "$status" -ne 0 ]; then
	echo "--- what failed"
	grep -E -A 40 '^ *--- FAIL|^panic:|^# |\[build failed\]' "$out" | head -n 400 || true
	exit "$status"
fi
if grep -E '^ *--- SKIP' "$out"; then
	echo "a test was skipped"
	exit 1
fi
passed=$(grep -cE '^--- PASS' "$out")
echo "$passed passed, 0 failed"
echo "all suites: $((SECONDS - began)) s"
