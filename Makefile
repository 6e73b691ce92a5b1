# `make help` lists what there is. Every target that needs Python makes .venv first, and again when pyproject.toml or the
# lock changed.

PYTHON := .venv/bin/python
INSTALLED := .venv/installed
# Name an interpreter here to use it instead of the first suitable one: make BASE_PYTHON=/opt/python3.12/bin/python3
# Where none is suitable, any Python will do to say so.
BASE_PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3 python; do \
	$$name -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$name && exit; done; command -v python3 || command -v python)
ENVIRONMENT = @test -n "$(BASE_PYTHON)" || { echo "error: no Python was found; install Python 3.11, 3.12 or 3.13" \
	"(Debian, Ubuntu: apt install python3 python3-venv)" >&2; exit 2; }; $(BASE_PYTHON) -I launch/environment.py
STORE := runs/mlflow.db

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install quickstart smoke test test-quick test-cluster test-oldest test-newest check docs lock evidence ui clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 14

install: $(INSTALLED)  ## make .venv and install the project, with the versions of requirements.lock

quickstart: $(INSTALLED)  ## run the whole method on the built-in corpus; the same command goes on where it stopped
	$(PYTHON) launch/pipeline.py --config recipes/quickstart/pipeline.yaml

smoke: $(INSTALLED)  ## run every stage of the quickstart for a few steps, to see that all of it works
	$(PYTHON) launch/pipeline.py --config recipes/smoke/pipeline.yaml

test: $(INSTALLED)  ## run every test
	$(PYTHON) -m pytest

test-quick: $(INSTALLED)  ## run the tests that take seconds
	$(PYTHON) -m pytest -m "not slow"

test-cluster: $(INSTALLED)  ## run the tests of clusters: a real Slurm of two nodes on this machine (as root, with slurm-wlm and munge)
	$(PYTHON) -m pytest tests/slurm tests/distributed

# In environments of their own, which stay: remove .venv-oldest and .venv-newest by hand.
test-oldest: .venv-oldest/installed  ## smoke run and tests with the lowest versions that pyproject.toml admits
	rm -rf runs/smoke
	.venv-oldest/bin/python launch/pipeline.py --config recipes/smoke/pipeline.yaml
	.venv-oldest/bin/python -m pytest

test-newest:  ## smoke run and tests with the newest versions that pyproject.toml admits today
	$(ENVIRONMENT) newest
	rm -rf runs/smoke
	.venv-newest/bin/python launch/pipeline.py --config recipes/smoke/pipeline.yaml
	.venv-newest/bin/python -m pytest

docs: .venv-docs/installed  ## build the pages and an API reference as a site: site/index.html
	.venv-docs/bin/python -I docs/site/build.py

lock:  ## resolve pyproject.toml anew and write the lock files
	$(ENVIRONMENT) lock

evidence: $(INSTALLED)  ## compare EPO with its control on real text and voices, over seeds: hours; goes on where it stopped
	$(PYTHON) benchmarks/evidence.py --run runs/laptop

check: $(INSTALLED)  ## check format, lint and types
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

ui: $(INSTALLED)  ## show the runs in MLflow at http://127.0.0.1:5000
	@test -f $(STORE) || { echo "$(STORE): no runs yet; start with: make quickstart" >&2; exit 1; }
	MLFLOW_DISABLE_TELEMETRY=true $(PYTHON) -m mlflow ui --host 127.0.0.1 --port 5000 \
		--backend-store-uri sqlite:///$(STORE) --default-artifact-root runs/mlartifacts

clean:  ## remove the quickstart's and the smoke run's results, caches and build leftovers; .venv* and other runs stay
	rm -rf runs/quickstart runs/smoke site build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -path './.venv*' -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

$(INSTALLED): pyproject.toml requirements.lock requirements-cuda.lock
	$(ENVIRONMENT) locked

.venv-docs/installed: requirements-docs.lock
	$(ENVIRONMENT) docs

.venv-oldest/installed: pyproject.toml
	$(ENVIRONMENT) oldest
