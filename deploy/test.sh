#!/usr/bin/env bash
# make test: all tests, with the time each suite took. Fails when a suite was
# skipped or had nothing to run. With packages as arguments, as make faults gives
# them, those alone.
set -euo pipefail
cd "$(dirname "$0")/.."
began=$SECONDS
# What breaks servers on purpose, or needs a tool beside Go, is a stage of its own.
stages='/ingest/faults$|/scanner/durability$'
packages=("$@")
if [ ${#packages[@]} -eq 0 ]; then
	mapfile -t packages < <(go list ./... | grep -vE "$stages")
fi
# Suites share two cores and each starts engines of its own: two at a time.
out=$(mktemp)
trap 'rm -f "$out"' EXIT
status=0
go test -count=1 -p 2 -timeout 15m -v "${packages[@]}" >"$out" 2>&1 || status=$?
grep -aE '^(ok|FAIL|\?|---? FAIL|panic:)' "$out" | grep -v 'no test files' || true
grep -aE '^time=.* level=ERROR msg="the engine died' "$out" || true
if [ "$status" -ne 0 ]; then
	echo "--- what failed"
	grep -aE -A 40 '^ *--- FAIL|^panic:|^# |\[build failed\]' "$out" | head -n 400 || true
	exit "$status"
fi
if [ $# -gt 0 ]; then
	grep -aE '^ *--- PASS' "$out" # each case with its time
fi
if grep -aE '^ *--- SKIP' "$out"; then
	echo "a test was skipped"
	exit 1
fi
passed=$(grep -acE '^--- PASS' "$out")
echo "$passed passed, 0 failed"
echo "all suites: $((SECONDS - began)) s"
