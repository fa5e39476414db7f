# `make demo` and `make test` set up everything that they need; nothing has to be installed before but python3, venv and make.

PYTHON ?= python3
BIN := .venv/bin
RUNTIME := .venv/.runtime
DEV := .venv/.dev
PIP := PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: help demo test crash faults sim explore chaos fuzz bench bench-peers bench-smoke ci lint format types floors \
	generate generated proto clean

help:
	@echo 'make demo         run the samples with real processes; KEEP=1 keeps them running'
	@echo 'make test         run all tests'
	@echo 'make crash        kill a coordinator at every boundary; TIMES=1: only the first time that each is reached; UNARY=1: unary calls'
	@echo 'make faults       the journal on a failing disk; EXAMPLES=n'
	@echo 'make sim          simulated systems with faults; SEEDS=n'
	@echo 'make explore      every future of every small definition; STEPS=n'
	@echo 'make chaos        money transfers while processes and connections fail; MINUTES=n SEED=n'
	@echo 'make fuzz         hostile input to every RPC; MINUTES=n EXAMPLES=n SEED=n'
	@echo 'make bench        speed, beside a floor and other systems; ROUNDS=n SECONDS=n PEERS=folder'
	@echo 'make bench-peers  install those systems'
	@echo 'make bench-smoke  the benchmarks made small: that they run'
	@echo 'make ci           lint, format check, types, architecture, contract and tests, as CI does'
	@echo 'make generate     generate the Python of the .proto files'
	@echo 'make format       format the code'

$(RUNTIME): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --editable '.[uvloop]'
	@touch $@

$(DEV): $(RUNTIME)
	$(PIP) --editable '.[uvloop,dev]'
	@touch $@

demo: $(RUNTIME)
	@$(BIN)/python -m sample_services.demo $(if $(KEEP),--keep)

# Beside each other, because those of processes often wait; a few at most, because the processes want cores too. The tests
# of one file stay together, because they may share processes; tests/conftest.py says which files begin.
test: $(DEV)
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# --- Proof: docs/reliability.md says what each shows. A bounded form of each is among the tests. ---

crash: $(DEV)
	$(BIN)/python -m tests.crash $(if $(TIMES),--times $(TIMES)) $(if $(UNARY),--unary)

faults: $(DEV)
	SAGA_PROPERTY_EXAMPLES=$(or $(EXAMPLES),100) $(BIN)/pytest tests/coordinator/journal/test_faulty_disk.py \
		tests/coordinator/journal/test_faulty_disk_power.py tests/coordinator/engine/test_faulty_journal.py \
		tests/e2e/test_faulty_disk.py

sim: $(DEV)
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),10000)

explore: $(DEV)
	$(BIN)/python -m tests.coordinator.explore --steps $(or $(STEPS),4) --jobs 2

chaos: $(DEV)
	$(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),2) $(if $(SEED),--seed $(SEED))

fuzz: $(DEV)
	$(BIN)/python -m tests.fuzz $(if $(MINUTES),--minutes $(MINUTES)) $(if $(EXAMPLES),--examples $(EXAMPLES)) $(if $(SEED),--seed $(SEED))

# --- Speed: docs/performance.md says how it is measured. ---

PEERS ?= .bench/peers

bench: $(DEV)
	$(BIN)/python -m benchmarks --peers $(PEERS) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS))

bench-peers: $(DEV)
	$(BIN)/python -m benchmarks.peers $(PEERS)

# `make test` runs it too.
bench-smoke: $(DEV)
	$(BIN)/pytest tests/benchmarks/test_benchmarks.py

# --- What CI runs ---

# The tests do not keep all cores busy: the types are checked beside them.
ci: lint floors generated proto
	$(MAKE) --jobs=2 test types

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(DEV)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(DEV)
	$(BIN)/mypy

floors: $(DEV)
	$(BIN)/lint-imports

generate: $(DEV)
	$(BIN)/python protos/generate.py

generated: $(DEV)
	$(BIN)/python protos/generate.py --check

# On main itself there is only its own past to compare with.
proto: $(DEV)
	$(BIN)/buf lint
	@if git rev-parse --quiet --verify HEAD~1 >/dev/null 2>&1; then \
		base=$$(git merge-base HEAD main 2>/dev/null || git rev-parse HEAD~1); \
		[ "$$base" != "$$(git rev-parse HEAD)" ] || base=$$(git rev-parse HEAD~1); \
		echo "$(BIN)/buf breaking --against .git#ref=$$base"; \
		$(BIN)/buf breaking --against ".git#ref=$$base"; \
	fi

clean:
	rm -rf .venv .demo .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
