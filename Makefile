# `make demo` and `make test` are all that a newcomer needs; each sets up what it lacks.
PYTHON ?= python3
BIN := .venv/bin
# Tests wait for brokers and processes more than they reckon.
TESTERS ?= $(shell expr 2 \* $$(nproc))
DOCTOR := $(BIN)/python -m loopai.cli.main sandbox doctor
SCRIPTS := loopai/sandbox/inside/javascript/*.js clients/javascript/src clients/javascript/test clients/javascript/usage.ts

.PHONY: setup demo dev test coverage check docs protos bench lock format
.DEFAULT_GOAL := setup

setup: .venv/.installed
	@$(DOCTOR) --quiet || { sh tools/install.sh bwrap bubblewrap 'the sandbox' && $(DOCTOR); }

demo: setup
	$(BIN)/loopai demo

dev: setup
	$(BIN)/loopai dev

test: setup
	@sh tools/install.sh redis-server redis-server 'the suite'
	$(BIN)/pytest -n $(TESTERS) --dist loadgroup $(MEASURED)

coverage: MEASURED = --cov --cov-report=term:skip-covered
coverage: test

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deno fmt --check --quiet --line-width 100 $(SCRIPTS)
	$(BIN)/deno lint --quiet $(SCRIPTS)

# What of docs/reference/ the code says itself; a test fails where it is stale.
docs: setup
	$(BIN)/python -m tools.reference

# The messages of protos/, where they are used; a test fails where they are stale.
protos: setup
	$(BIN)/python -m tools.protos

# About half an hour; what it needs from the system: apt-get install redis-server wrk.
bench: setup .venv-bench/.installed
	$(BIN)/python -m bench --write

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/deno fmt --quiet --line-width 100 $(SCRIPTS)

# Pins every dependency with its hashes; run after changing pyproject.toml.
lock:
	$(BIN)/pip install -q uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --generate-hashes --no-emit-index-url --no-emit-find-links --universal --python-version 3.11 \
	  --custom-compile-command "make lock" -q -o requirements.lock
	grep -oE '^(httptools|msgspec|nats-py|starlette|uvicorn|uvloop)==[0-9.]+' requirements.lock > .venv/shared.txt
	$(BIN)/uv pip compile bench/requirements.in --constraint .venv/shared.txt --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --universal --python-version 3.11 --custom-compile-command "make lock" -q -o bench/requirements.lock

.venv/.installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Loopai needs Python 3.11 or later: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --require-hashes -r requirements.lock
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $@

.venv-bench/.installed: bench/requirements.lock
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install -q --require-hashes -r bench/requirements.lock
	@touch $@
