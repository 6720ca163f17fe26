# yaosu (药溯). `make help` lists the targets.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

export CGO_ENABLED ?= 0
DATA ?= yaosu-data

# Of make chaos: how long, and which sequence of faults (0: a new one).
TIME ?= 10m
SEED ?= 0

# Of make bench-detect: what is stored, and what comes in afterwards.
SCANS ?= 100000000
NEW ?= 1000000

# Of make bench-filter: how many codes are settled.
CODES ?= 10000000

.PHONY: help build engine demo up test faults durability chaos chaos-agent check alarms generate bench bench-detect bench-filter rule fuzz vuln clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 18

engine: node_modules/.package-lock.json ## install the embedded ClickHouse (npm)

node_modules/.package-lock.json: package.json package-lock.json
	npm ci --no-audit --no-fund
	@touch $@

build: ## build bin/yaosu
	go build -trimpath -o bin/yaosu ./cmd/yaosu

demo: engine build ## start everything, feed it a town of scans, print the suspects
	./deploy/demo.sh

up: engine build ## run the whole system on this machine, data in $(DATA)
	./bin/yaosu up --data $(DATA)

test: engine ## run all tests against the real engines
	./deploy/test.sh

faults: engine ## kill and break every server at every step, and count what is left
	./deploy/test.sh ./ingest/faults

durability: ## watch by syscalls that what must be on disk is, before it is acknowledged (strace)
	./deploy/test.sh ./scanner/durability

chaos: engine ## kill at random for TIME=10m with SEED=0 (a new one), then audit
	go test ./ingest/faults -count=1 -v -run TestChaos -timeout 24h -chaos $(TIME) -seed $(SEED)

chaos-agent: engine ## let a shop sell through its agent while all of it is killed, for TIME=10m
	go test ./cmd/yaosu -count=1 -v -run TestAShopSells -timeout 24h -agent-chaos $(TIME)

check: engine ## vet, staticcheck, format, generated files, tidy
	go vet ./...
	go tool staticcheck ./...
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
		if [ -n "$$unformatted" ]; then echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; fi
	go mod tidy -diff
	go test -count=1 -run 'TestSchemaSQLIsTheSumOfTheMigrations' ./schema

generate: engine ## rebuild schema/schema.sql from the migrations
	YAOSU_GENERATE=1 go test -count=1 -run 'TestSchemaSQLIsTheSumOfTheMigrations' ./schema

alarms: ## how often the detectors' words accuse honest life, by detector, per million honest scans
	go test -v ./internal/plain -run '^$$' -bench Alarms -benchtime 1x -timeout 30m

rule: ## make rule NAME=x starts a new detector
	@./detect/new-rule.sh "$(NAME)"

bench: engine ## measure: publish to table, as ratios to what the engine alone can do
	go test ./loadtest/bench -run '^$$' -bench Drain -benchtime 1x -v -timeout 60m

bench-detect: engine ## measure over SCANS=100000000, or FIRST of them: bytes a scan, passes, NEW=1000000 more; KEEP=DIR keeps them
	go test -v ./detect -run '^$$' -bench Scale -benchtime 1x -timeout 24h -scans $(SCANS) -new $(NEW) $(if $(FIRST),-first $(FIRST)) $(if $(KEEP),-data $(abspath $(KEEP)))

bench-filter: ## measure the filter for agents over CODES=10000000: making it, finding in it, and beside checks
	go test ./gate/filter -run '^$$' -bench . -benchtime 2s -timeout 60m -codes $(CODES)
	go test ./gate/check -run '^$$' -bench Filter -benchtime 1x -timeout 60m -boxes $(CODES)

fuzz: engine ## fuzz what outsiders send, a minute each
	for target in FuzzClassify FuzzDecodeJSON FuzzEvents FuzzArrow FuzzScrubPerson FuzzReadCSV; do \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime 60s ./schema; done
	go test -run '^$$' -fuzz '^FuzzTranslate$$' -fuzztime 60s ./schema/nhsa
	go test -run '^$$' -fuzz '^FuzzDecode$$' -fuzztime 60s ./gate/check
	for target in FuzzScans FuzzNHSA; do \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime 60s ./gate; done

vuln: ## look for known faults in what we depend on (asks a database on the network)
	go tool govulncheck ./...

clean: ## remove what make built
	rm -rf bin node_modules
