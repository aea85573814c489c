# make demo | demo-breach | test | test-fast | lint | locks | clean. Everything made lies in .venv/ and .lab/.
# Packages come from where pip is configured to look (pip.conf, PIP_*). Another Python: make setup PYTHON=python3.12

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.crossfade-setup
LOCK := deployments/environments/crossfade.lock.txt
TOOLS := vllm llmcompressor
# A process for each core; a file's tests stay together, for they share what they start, and the whole stack is started in one of them only.
AT_ONCE := -n auto --maxprocesses 4 --dist loadfile
ENGINES_AT_ONCE := -n 2 --dist loadfile
# Real engines on a crowded machine starve now and then. What fails is asked once more, alone, and both answers are shown: twice is broken.
ONCE_MORE = { test $$? -eq 1 && echo "test: what failed is asked once more, alone" && $(BIN)/pytest --last-failed --last-failed-no-failures none; }

export CROSSFADE_ENVIRONMENTS := $(CURDIR)/.lab/environments
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup environments demo demo-breach test test-fast chaos lint locks clean

help:
	@echo 'make demo          a whole migration on this machine, real engines (first time: about 8 min and 6 GB, then about 4 min)'
	@echo 'make demo-breach   the same, broken half way: shows the rollback'
	@echo 'make test          everything that is checked (about 22 min; the first time 3 more)'
	@echo 'make test-fast     the checks that need no engines (about 1 min)'
	@echo 'make chaos         kills every process at the boundaries of a tick; writes docs/chaos.md (about 15 min)'
	@echo 'make lint          style, types and the direction of imports'
	@echo 'make locks         resolve the pinned dependencies of every environment anew'
	@echo 'make clean         remove .venv/ and .lab/'

setup: $(STAMP)

# Another Python asked for by name makes .venv anew; otherwise the one that is there is kept.
ifneq ($(origin PYTHON),file)
ifneq ($(shell $(PYTHON) -V 2>&1),$(shell $(BIN)/python -V 2>&1))
ANEW := yes
.PHONY: $(STAMP)
endif
endif

# A stamp beside what it vouches for: a removed or half made .venv is made again.
$(STAMP): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is missing or older than 3.11; try: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	  || { echo "$(PYTHON) has no venv module; on Debian or Ubuntu: apt-get install $$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2; exit 1; }
	@echo "setup: installing Crossfade and its tools into $(VENV) (150 MB to download, 760 MB on disk, about a minute)"
	@test -z "$(ANEW)" && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --no-deps "$$(grep '^uv==' $(LOCK))"
	@$(BIN)/python deployments/environments/install.py
	@touch $@
	@echo "setup: done"

environments: setup
	@$(BIN)/crossfade environment $(TOOLS)

demo: setup
	@$(BIN)/crossfade demo

demo-breach: setup
	@$(BIN)/crossfade demo --breach

test: environments lint
	@echo "test: running everything (about 22 minutes on 2 cores)"
	@$(BIN)/pytest -m "not slow" $(AT_ONCE) || $(ONCE_MORE)
	@$(BIN)/pytest -m slow $(ENGINES_AT_ONCE) || $(ONCE_MORE)

test-fast: setup
	@$(BIN)/pytest -m "not slow" $(AT_ONCE)

chaos: setup
	@$(BIN)/crossfade environment vllm
	@$(BIN)/python tests/chaos/matrix.py --write docs/chaos.md

lint: setup
	@echo "lint: ruff, mypy, import-linter"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@PYTHONPATH=$(CURDIR) $(BIN)/lint-imports

locks: setup
	@$(BIN)/python deployments/environments/lock.py

clean:
	@echo "clean: stopping a lab that runs, then removing .venv and .lab"
	@test ! -x $(BIN)/crossfade || $(BIN)/crossfade down || true
	@rm -rf $(VENV) .lab .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
