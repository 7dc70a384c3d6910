# `make demo` and `make test` need python3 (3.11 or later, with venv) and nothing else.

PYTHON ?= python3
PROCESSES ?= 2
MINUTES ?= 10
SEED ?= $(shell date +%s)

BIN := .venv/bin
CHECKED := src tests migrations
# -qq: errors only; a home that the caller may not write is no reason to warn.
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq install
LOCK := $(BIN)/uv pip compile -q $(LOCK_FLAGS) pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header

# MODEL=provider:name, given to make: a variable of that name in the environment means something else.
DEMO_MODEL := $(if $(and $(findstring command,$(origin MODEL)),$(MODEL)),--model '$(MODEL)')

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check fuzz format reference lock clean

help: ## Show these commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null

demo: .venv/base ## Run an agent, kill its worker half-way, watch another one take over
	@$(BIN)/chargehand demo $(DEMO_MODEL)

test: .venv/dev ## Run every test, on a PostgreSQL of its own or on DATABASE_URL
	@$(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal

fuzz: .venv/dev ## Send what nobody would to a running service, for MINUTES (10) with SEED (random)
	@FUZZ_MINUTES=$(MINUTES) FUZZ_SEED=$(SEED) $(BIN)/python -m pytest -o faulthandler_timeout=0 tests/acceptance/test_fuzzed_api.py

check: .venv/dev ## Check format, lint, types, imports and dependencies; run the unit tests
	@echo "[1/6] format" && $(BIN)/ruff format --check $(CHECKED)
	@echo "[2/6] lint" && $(BIN)/ruff check --quiet $(CHECKED)
	@echo "[3/6] types" && $(BIN)/basedpyright --pythonpath $(BIN)/python
	@echo "[4/6] imports" && PYTHONPATH=src $(BIN)/lint-imports --no-logo
	@echo "[5/6] dependencies" && $(BIN)/deptry src
	@echo "[6/6] unit tests" && $(BIN)/python -m pytest tests/unit

format: .venv/dev ## Format the sources and repair what the linter can
	@$(BIN)/ruff check --quiet --fix --exit-zero $(CHECKED)
	@$(BIN)/ruff format $(CHECKED)

reference: .venv/dev ## Write docs/reference anew from the code
	@$(BIN)/python -m tests.shape.write_reference

lock: .venv/dev ## Write requirements/*.txt anew from pyproject.toml
	@$(LOCK) --extra build --extra redis -o requirements/base.txt
	@$(LOCK) --extra build --extra redis --extra dev -c requirements/base.txt -o requirements/dev.txt
	@$(subst pyproject.toml,requirements/openapi-client.in,$(LOCK)) -o requirements/openapi-client.txt

clean: ## Remove the virtual environment and all caches
	@rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	@find src tests migrations -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "$(PYTHON) is missing or older than Python 3.11. Install a newer one, or name it:" >&2; \
		echo "  make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu:" >&2; \
		echo "  apt install python3-venv" >&2; exit 1; }
	@echo "[1/3] Making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear .venv || { rm -rf .venv; exit 1; }

# dev holds all that base holds, so it stands for both.
.venv/base: requirements/base.txt pyproject.toml | .venv/bin/python
	@$(call install,base)
	@touch $@

.venv/dev: requirements/dev.txt requirements/openapi-client.txt pyproject.toml | .venv/bin/python
	@$(call install,dev)
	@$(PIP) --no-deps --require-hashes --upgrade --target .venv/openapi-client -r requirements/openapi-client.txt
	@touch .venv/base $@

# Without dependencies: the lock holds them all, and pip would look for newer ones of some.
define install
	echo "[2/3] Installing $$(grep -c == requirements/$(1).txt) locked packages"; \
	$(PIP) --no-deps --require-hashes -r requirements/$(1).txt || exit 1; \
	echo "[3/3] Installing Chargehand from src"; \
	$(PIP) --no-deps --no-build-isolation -e .
endef
