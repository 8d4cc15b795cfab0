# The loop: `make demo` to see it, `make test` before you push. Everything happens inside .venv.
# pip follows your own configuration (PIP_*, pip.conf); nothing here names a package index.

SHELL := /bin/sh
.DEFAULT_GOAL := help

# The first Python of the supported range, python3 first; say PYTHON=... to choose another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2])' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DEMO_ARGS ?=
PYTEST_ARGS ?=
# Test processes side by side: most tests wait for servers. 0 runs all in one. Who is idle takes tests from who is not.
PYTEST_WORKERS ?= 2
MAJORS ?= 14 15 16 17 18
ORACLE_SEEDS ?= 0:300
FUZZ_INPUTS ?= 1000000
FUZZ_SEED ?= 1

.PHONY: help
help: ## What there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "wallaby needs Python 3.11 or newer; none was found. Say PYTHON=/path/to/python3." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) comes without the venv module. On Debian and Ubuntu: apt-get install python3-venv. Then run make again." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Stamps: installed again only when pyproject.toml changed. What the developers have includes what the demo needs.
$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	@echo "installing wallaby and what the demo needs into $(VENV) …"
	$(PIP) install -e ".[demo]"
	@echo "compiling the decoder …"
	-@$(BIN)/python -m wallaby.pgtypes.warm
	@touch $@

$(VENV)/.tools: pyproject.toml | $(VENV)/bin/python
	@echo "installing wallaby and the developers' tools into $(VENV) …"
	$(PIP) install -e ".[dev]"
	@touch $@

$(VENV)/.dev: $(VENV)/.tools
	@echo "compiling the decoder …"
	-@$(BIN)/python -m wallaby.pgtypes.warm
	@touch $(VENV)/.demo $@

.PHONY: demo
demo: $(VENV)/.demo ## Show it: a shop in PostgreSQL, three destinations, equality proven (DEMO_ARGS="--chaos --keep")
	$(BIN)/wallaby demo $(DEMO_ARGS)

.PHONY: test
test: ## Lint, types and all tests but the long ones
	$(MAKE) -j2 lint types $(VENV)/.dev
	$(MAKE) tests

.PHONY: tests
tests: $(VENV)/.dev ## The tests alone (PYTEST_ARGS="tests/wallaby -k name")
	$(BIN)/python -m pytest -m "not chaos and not long" -n $(PYTEST_WORKERS) --dist worksteal $(PYTEST_ARGS)

.PHONY: check
check: lint types ## Before every commit: lint, types and the quick tests
	$(BIN)/python -m pytest -q -m "not chaos and not long and not ray" -x $(PYTEST_ARGS)

.PHONY: lint
lint: $(VENV)/.tools ## Style, format and the import law
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

.PHONY: fmt
fmt: $(VENV)/.dev ## Format, and repair what can be repaired
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: types
types: $(VENV)/.tools ## mypy, strict
	$(BIN)/mypy

.PHONY: chaos
chaos: $(VENV)/.dev ## The long tests that kill processes and servers (WALLABY_CHAOS_SEED=1 WALLABY_CHAOS_FAULTS=36)
	$(BIN)/python -m pytest -m chaos --timeout 1800 tests/chaos tests/sinks tests/cluster/test_job.py $(PYTEST_ARGS)

.PHONY: long
long: $(VENV)/.dev ## All tests of destinations and flows, with what `make test` leaves out for time
	WALLABY_CONTRACT_SEEDS=5 $(BIN)/python -m pytest -m "not chaos" -n $(PYTEST_WORKERS) --dist worksteal tests/sinks $(PYTEST_ARGS)
	$(BIN)/python -m pytest -m long tests/cluster $(PYTEST_ARGS)

.PHONY: fleet
fleet: $(VENV)/.dev ## The long test of many flows: 200 stored, more than 20 running (some 8 GB and minutes)
	$(BIN)/python -m pytest -m "chaos or long" --timeout 3600 tests/cluster/test_fleet.py $(PYTEST_ARGS)

.PHONY: test-majors
test-majors: $(VENV)/.dev ## All tests against each supported PostgreSQL (MAJORS="14 15 16 17 18")
	@set -e; for major in $(MAJORS); do \
		echo "PostgreSQL $$major"; WALLABY_TEST_MAJOR=$$major $(BIN)/python -m pytest -q -m "not chaos" $(PYTEST_ARGS); done

.PHONY: oracle
oracle: $(VENV)/.dev ## Random tables and changes against the server's own text (ORACLE_SEEDS=0:300 MAJORS="14 18")
	$(BIN)/python -m tests.oracle --seeds $(ORACLE_SEEDS) --majors $(MAJORS)

.PHONY: fuzz
fuzz: $(VENV)/.dev ## Damaged streams for the decoders (FUZZ_INPUTS=10000000 FUZZ_SEED=1)
	$(BIN)/python -m tests.fuzz.decoder --inputs $(FUZZ_INPUTS) --seed $(FUZZ_SEED)

.PHONY: bounds
bounds: $(VENV)/.dev ## The decoder's tests with kernels that check every index
	NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=.pytest_cache/bounds \
		$(BIN)/python -m pytest -q --timeout 900 tests/wallaby/pgtypes tests/wallaby/pgoutput

.PHONY: warm
warm: $(VENV)/.demo ## Compile the decoder for this machine, so that no start has to
	$(BIN)/python -m wallaby.pgtypes.warm

.PHONY: benchmark
benchmark: $(VENV)/.dev ## The table of speeds and memory, as ratios measured in one run
	$(BIN)/python -m benchmarks

.PHONY: proto
proto: $(VENV)/bin/python ## Generate wallaby/v1 from proto/
	PYTHON=$(BIN)/python sh proto/generate.sh

# Also against the first commit with a contract: nothing a client ever relied on may go.
AGAINST ?= HEAD $$(git log --diff-filter=A --format=%h --reverse -- proto/buf.yaml proto/wallaby | head -1)

.PHONY: proto-lint
proto-lint: $(VENV)/.tools ## buf lint over proto/
	$(BIN)/buf lint proto

.PHONY: proto-breaking
proto-breaking: $(VENV)/.dev ## buf breaking: proto/ against HEAD and the first contract (AGAINST=COMMIT)
	@set -e; for commit in $(AGAINST); do \
		echo "proto/ against $$commit"; \
		rm -rf build/proto-against && mkdir -p build/proto-against; \
		git archive $$commit proto | tar -x -C build/proto-against; \
		$(BIN)/buf breaking proto --against build/proto-against/proto; done

.PHONY: schema
schema: $(VENV)/.dev ## Write docs/flow.schema.json, the JSON Schema of flow files
	$(BIN)/wallaby schema > docs/flow.schema.json

.PHONY: clean
clean: ## Remove the environment, caches and what the demo left
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .wallaby demo-data
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
