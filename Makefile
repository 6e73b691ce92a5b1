# `make help` lists what there is. Every target that needs Python makes .venv first, and again when pyproject.toml changed.

PYTHON := .venv/bin/python
INSTALLED := .venv/installed
# Name an interpreter here to use it instead of the first suitable one: make BASE_PYTHON=/opt/python3.12/bin/python3
BASE_PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3 python,$(shell \
	$(name) -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
STORE := runs/mlflow.db

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install quickstart smoke test test-quick check ui clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 14

install: $(INSTALLED)  ## make .venv and install the project with what its tests need

quickstart: $(INSTALLED)  ## run the whole method on the built-in corpus; the same command goes on where it stopped
	$(PYTHON) launch/pipeline.py --config recipes/quickstart/pipeline.yaml

smoke: $(INSTALLED)  ## run every stage of the quickstart for a few steps, to see that all of it works
	$(PYTHON) launch/pipeline.py --config recipes/smoke/pipeline.yaml

test: $(INSTALLED)  ## run every test
	$(PYTHON) -m pytest

test-quick: $(INSTALLED)  ## run the tests that take seconds
	$(PYTHON) -m pytest -m "not slow"

check: $(INSTALLED)  ## check format, lint and types
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

ui: $(INSTALLED)  ## show the runs in MLflow at http://127.0.0.1:5000
	@test -f $(STORE) || { echo "$(STORE): no runs yet; start with: make quickstart" >&2; exit 1; }
	MLFLOW_DISABLE_TELEMETRY=true $(PYTHON) -m mlflow ui --host 127.0.0.1 --port 5000 \
		--backend-store-uri sqlite:///$(STORE) --default-artifact-root runs/mlartifacts

clean:  ## remove the quickstart's and the smoke run's results, caches and build leftovers; .venv and other runs stay
	rm -rf runs/quickstart runs/smoke build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

$(INSTALLED): pyproject.toml
	@test -n "$(BASE_PYTHON)" || { echo "no Python 3.11 or newer with the venv module was found;" \
		"install one (Debian, Ubuntu: apt install python3 python3-venv) or name it:" \
		"make BASE_PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || $(BASE_PYTHON) -m venv --clear .venv
	$(PYTHON) -m pip install --disable-pip-version-check -e '.[dev]'
	@touch $@
