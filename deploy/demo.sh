#!/usr/bin/env bash
# make demo: starts the whole system, feeds it a town of scan events, makes one
# pass and prints the suspects. The data stays in yaosu-demo; the last lines say
# how to look around in it.
set -euo pipefail
cd "$(dirname "$0")/.."
yaosu=bin/yaosu
data=${DATA:-yaosu-demo}
began=$SECONDS

if [ -e "$data" ] && [ ! -e "$data/.demo" ]; then
	echo "demo: $data is not a demo's: move it away, or set DATA=another-directory" >&2
	exit 1
fi
if [ -e "$data/endpoints.json" ] && "$yaosu" rejects --data "$data" --limit 1 >/dev/null 2>&1; then
	echo "demo: a system is running on $data: end it first, or set DATA=another-directory" >&2
	exit 1
fi
rm -rf "$data"
mkdir -p "$data"
touch "$data/.demo"

# A town that lies beside the project, else one made from a seed.
town=$(compgen -G '../*/samples/town' | head -n 1 || true)
if [ -z "$town" ]; then
	town=$data/town
	echo "== making a town"
	go run ./loadtest/town/make --out "$town"
fi

echo "== starting NATS, ClickHouse, ingester and detectors"
"$yaosu" up --data "$data" --detect-every 1h --log-level warn >"$data/up.txt" 2>&1 &
up=$!
stop() {
	kill -TERM "$up" 2>/dev/null || true
	wait "$up" 2>/dev/null || true
}
trap stop EXIT
until [ -e "$data/endpoints.json" ]; do
	if ! kill -0 "$up" 2>/dev/null; then
		cat "$data/up.txt" >&2
		exit 1
	fi
	sleep 0.1
done

export YAOSU_DATA=$data
echo "== reference data and $(wc -l <"$town/events.ndjson") events of $town"
for kind in orgs drugs persons inpatient regions packs; do
	if [ -e "$town/$kind.csv" ]; then
		"$yaosu" reference load "$kind" "$town/$kind.csv"
	fi
done
"$yaosu" publish --wait "$town/events.ndjson"

echo "== one pass of all detectors"
"$yaosu" detect --once

echo "== 线索清单"
"$yaosu" suspects --format table

code=$("$yaosu" suspects --detector resold_code --format ndjson | sed -nE '1s/.*"entity_id":"([^"]*)".*/\1/p')
http=$(sed -nE 's/.*"clickhouse_http": *"([^"]*)".*/\1/p' "$data/endpoints.json")
native=$(sed -nE 's/.*"clickhouse": *"clickhouse:\/\/([^"/]*).*/\1/p' "$data/endpoints.json")
nats=$(sed -nE 's/.*"nats": *"([^"]*)".*/\1/p' "$data/endpoints.json")
stop
trap - EXIT

cat <<END

From make demo to this list: $((SECONDS - began)) s. Everything is kept in $data. To look around, start it again

  $yaosu up --data $data

(NATS $nats, ClickHouse native $native, HTTP $http) and in another terminal

  $yaosu trace '${code:-CODE}' --data $data
  $yaosu suspects --severity high --data $data
  curl '$http/?database=yaosu' --data-binary 'SELECT detector, count() FROM suspects GROUP BY detector FORMAT PrettyCompact'
  clickhouse-client --host ${native%:*} --port ${native##*:} --database yaosu --query 'SELECT * FROM effective_sales LIMIT 5 FORMAT Vertical'
END
