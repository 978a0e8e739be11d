# Needs Python 3.11 or newer, git and make; everything else goes into a virtual environment under .venv/.
#
#   make demo [ARGS=--no-serve]     a small volume from nothing to a served, versioned repo
#   make test [PYTHON=python3.12]   the test suite in an environment of that interpreter
#   make help                       all targets

PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2] if sys.version_info >= (3, 11) else "")')
VENV := .venv/$(VERSION)
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n 2 --durations=25 --durations-min=1
ARGS ?=

ifeq ($(VERSION),)
$(error vzarr needs Python 3.11 or newer, and "$(PYTHON)" is none: choose one with PYTHON=...)
endif

# Real FIB-SEM data, where they lie beside the checkout; the tests that need them are skipped by name elsewhere.
ifneq ($(wildcard ../shared/data),)
export VZARR_TEST_DATA ?= $(abspath ../shared/data)
endif

# Debian's PostgreSQL where it is installed; else one from a wheel.
ifeq ($(wildcard /usr/lib/postgresql/*/bin/initdb),)
POSTGRES := $(VENV)/.pgserver
endif

.NOTPARALLEL:
.PHONY: help demo test test-all lint format bench coverage constraints clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/.viewer  ## synthesise a volume, version it, proofread it and serve it
	$(BIN)/vzarr demo $(ARGS)

test: $(VENV)/.test  ## what every change must pass
	$(PYTEST) -m "not exhaustive and not s3 and not postgres and not browser and not kafka" $(ARGS)

test-all: $(VENV)/.test $(VENV)/.browser $(POSTGRES)  ## also what takes long or needs a browser, an S3 server, PostgreSQL or Kafka
	HYPOTHESIS_PROFILE=thorough $(PYTEST) $(ARGS)

lint: $(VENV)/.lint  ## style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.lint  ## mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench  ## the workloads against other libraries, interleaved
	$(BIN)/python benchmarks/overlay.py $(ARGS)

coverage: $(VENV)/.test  ## write docs/coverage.md from docs/endpoints.toml
	$(BIN)/python -m tests.coverage

constraints:  ## write constraints.txt anew: pins for every supported Python, no addresses (needs uv)
	uv pip compile --universal --python-version 3.11 --all-extras --upgrade --no-header --no-annotate \
	    --no-emit-index-url --no-emit-find-links pyproject.toml -o constraints.txt

clean:  ## remove environments, caches and the demo's folder
	rm -rf .venv build dist vzarr-demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# One stamp per extra, so that a second call installs nothing.
$(VENV)/.%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[$*]" --constraint constraints.txt
	@touch $@
