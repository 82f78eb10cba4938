# Everything here needs only Python 3.11 (with venv and pip) and make. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

# Another environment that happens to be active must not decide what is tested.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# A stamp carries the hash of what it was installed from: when a lock file changes, the next run installs again.
stamp = $(VENV)/.$(1)-$(shell cat $(2) pyproject.toml | cksum | tr ' ' '-')
RUN_STAMP := $(call stamp,run,requirements.lock)
DEV_STAMP := $(call stamp,dev,requirements-dev.lock)
SLOW := crash or browser or slow

define install
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11")'
		echo "Making $(VENV) once; later runs start in seconds."
		$(PYTHON) -m venv --clear $(VENV)
	fi
	$(BIN)/python -m pip install --quiet --require-hashes -r $(1)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
endef

.PHONY: help demo run test test-slow test-all lint bench docs lock clean

help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

$(RUN_STAMP):
	@$(call install,requirements.lock)
	rm -f $(VENV)/.run-*
	touch $@

$(DEV_STAMP):
	@$(call install,requirements-dev.lock)
	rm -f $(VENV)/.run-* $(VENV)/.dev-*
	touch $@ $(RUN_STAMP)

demo: $(RUN_STAMP) ## Send a civil registry's day through the hub, run a benefit cycle, and settle the accounts.
	@$(BIN)/hub demo $(ARGS)

run: $(RUN_STAMP) ## Start a hub on this machine: its own database, keys and sandboxes.
	@$(BIN)/hub serve $(ARGS)

# Processes that share the tests, quick ones file by file; each has its own database server and broker where none is running.
AT_ONCE ?= 2
test: $(DEV_STAMP) ## Run all tests but those that kill processes, drive a browser or take long.
	@$(BIN)/python -m pytest -m "not ($(SLOW))" -n $(AT_ONCE) --dist loadfile $(ARGS)

test-slow: $(DEV_STAMP) ## Run the tests that kill processes, drive a browser or take long.
	@$(BIN)/python -m pytest -m "$(SLOW)" -n $(AT_ONCE) --dist load $(ARGS)

test-all: $(DEV_STAMP) ## Run every test.
	@$(BIN)/python -m pytest $(ARGS)

lint: $(DEV_STAMP) ## Check style, types and the floors.
	@$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

NAME ?= path
bench: $(RUN_STAMP) ## Measure the hub beside the raw limits of its parts: make bench NAME=path.
	@$(BIN)/hub bench $(NAME) $(ARGS)

docs: $(DEV_STAMP) ## Write the generated parts of the pages anew: settings, metrics, commands.
	@$(BIN)/python tests/documents.py

lock: $(RUN_STAMP) ## Write the lock files anew from pyproject.toml.
	@$(BIN)/python -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet uv
	compile() { $(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade pyproject.toml "$$@"; }
	compile --extra build --extra demo -o requirements.lock
	compile --extra build --extra demo --extra dev -c requirements.lock -o requirements-dev.lock

clean: ## Remove the virtual environment, caches and build outputs; data in .hub/ stays.
	@rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
