# The few commands; `make` alone lists them. What they need is installed into .venv the first time.
PYTHON ?= python3
BIN := .venv/bin
# Without this .venv/bin/python the marks in .venv say nothing.
STALE := $(shell $(BIN)/python -c '' 2>/dev/null || echo stale)
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input --root-user-action=ignore --require-hashes

.DEFAULT_GOAL := help
.PHONY: help run test test-slow demo check outdated bench db-stop requirements stale

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; do printf '  make %-14s%s\n' "$$name" "$$what"; done

run: .venv/installed ## serve: PostgreSQL (embedded, unless DATABASE_URL), web and worker, until Ctrl-C
	@$(BIN)/python -m bot_manager run

test: .venv/installed-dev ## the tests, on a real PostgreSQL; under ten minutes
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: .venv/installed-dev ## the long ones: kills, load, soak; half an hour at most
	timeout --kill-after=60 1800 $(BIN)/python -m pytest -n 2 --dist loadfile -m slow

demo: .venv/installed-dev ## one whole sale against strict fakes; FORMAT=json for a machine
	@$(BIN)/python -m tests.demo

check: .venv/installed-dev ## format, lint, types, import rules, secrets, unused requirements
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py
	$(BIN)/python tools/find_secrets.py
	$(BIN)/deptry --config tools/deptry.toml .
	@$(MAKE) --no-print-directory outdated

outdated: .venv/installed-dev ## what newer versions there are; only told, and only if the index answers
	@timeout 30 $(BIN)/python -m pip --disable-pip-version-check --retries 0 --timeout 5 list --outdated 2>/dev/null || echo "outdated requirements: not known just now"

bench: .venv/installed-dev ## the benchmarks, each beside its floor
	$(BIN)/python -m benchmarks

db-stop: .venv/installed ## stop an embedded PostgreSQL that a killed command left running
	@$(BIN)/python -m tools.db_stop

requirements: .venv/installed-dev ## pin requirements*.in anew, keeping what is pinned; ARGS=--upgrade for newer ones
	for name in requirements requirements-dev; do CUSTOM_COMPILE_COMMAND="make requirements" $(BIN)/pip-compile --quiet \
		--generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--no-emit-options $(ARGS) --output-file $$name.txt $$name.in || exit; done

.venv/made: $(STALE)
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@echo "Making .venv" >&2
	@$(PYTHON) -m venv .venv || { echo "On Debian: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

.venv/installed: requirements.txt .venv/made
	@echo "Installing requirements.txt" >&2
	@$(INSTALL) -r requirements.txt >&2
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	@echo "Installing requirements-dev.txt" >&2
	@$(INSTALL) -r requirements-dev.txt >&2
	@touch $@
