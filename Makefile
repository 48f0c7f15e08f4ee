# Every target uses .venv in this folder and creates it if it is missing.
.DEFAULT_GOAL := help
SHELL := /bin/sh

# Ignore variables that point to other installations of Python and Spark, or to another MLflow.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV
unexport MLFLOW_TRACKING_URI MLFLOW_REGISTRY_URI MLFLOW_RUN_ID MLFLOW_EXPERIMENT_ID MLFLOW_EXPERIMENT_NAME
unexport SPARK_HOME SPARK_CONF_DIR PYSPARK_PYTHON PYSPARK_DRIVER_PYTHON

# The first Python that runs and fits: a shim of a version manager may be on the PATH and fail.
fits := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10; do \
	$$p -c "$(fits)" >/dev/null 2>&1 && { echo $$p; break; }; done)

python := .venv/bin/python
pytest := $(python) -m pytest -c tests/pytest.ini tests
ruff := $(python) -m ruff

.PHONY: help demo notebooks test test-unit test-slow test-long test-cluster test-cluster-short pack lint format docs audit env clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1~\2/p' Makefile | awk -F'~' '{ printf "%-20s%s\n", $$1, $$2 }'

demo: .venv/.ready ## run features, training, registry and scoring on a small click log (INPUT=file for your log)
	$(python) jobs/demo.py $${INPUT:+--input "$$INPUT"}

notebooks: .venv/.ready ## run the notebooks and store them with their outputs
	$(python) .ci/run_notebooks.py

test: .venv/.ready ## run the fast tests
	$(pytest) -m "not slow and not long and not cluster"

test-unit: .venv/.ready ## run the tests that need no JVM and no other process (under a minute)
	$(pytest) -m unit

# Exit status 5 of pytest: no tests were collected.
test-slow: .venv/.ready ## run the tests that start Spark and Horovod workers for minutes
	$(pytest) -m "slow and not cluster" || [ $$? -eq 5 ]

test-long: .venv/.ready ## run the slow tests that .ci/run leaves out: notebooks, jobs on an object store
	$(pytest) -m "long and not cluster"

test-cluster: .venv/.ready pack ## run the tests on Spark clusters and several hosts (network namespaces: root)
	$(pytest) -m cluster

test-cluster-short: .venv/.ready pack ## run one job and one refused job on a Spark cluster
	$(pytest) -m "cluster and short"

pack: .venv/.ready ## create build/environment.tar.gz for executors (HOST_PYTHON_PREFIX=prefix of their Python)
	HOST_PYTHON_PREFIX="$(HOST_PYTHON_PREFIX)" $(python) .ci/pack.py

lint: .venv/.ready ## check rules, format and types
	$(ruff) check --config .ci/ruff.toml .
	$(ruff) format --check --config .ci/ruff.toml .
	$(python) -m mypy --config-file .ci/mypy.ini deepfm jobs benchmarks

format: .venv/.ready ## fix rules and format
	$(ruff) check --fix --config .ci/ruff.toml .
	$(ruff) format --config .ci/ruff.toml .

docs: .venv/.ready build/docs-env/.ready ## build the documentation site in build/site
	$(python) .ci/docs/reference.py build/reference
	NO_MKDOCS_2_WARNING=1 build/docs-env/bin/python -m mkdocs build --strict

audit: build/audit/.ready ## compare advisories of the pinned packages with the accepted ones (needs the network)
	build/audit/bin/python .ci/audit/audit.py

# Environments of their own: their packages are not in requirements.lock.
build/docs-env/.ready: docs/requirements.txt
	$(PYTHON) -m venv build/docs-env
	build/docs-env/bin/python -m pip install -q -r docs/requirements.txt
	@touch $@

build/audit/.ready: setup.py
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install -q pip-audit "tomli; python_version < '3.11'"
	@touch $@

env: .venv/.ready ## create the environment (PYTHON=python3.12 to choose its Python)

.venv/.ready: requirements.lock setup.py .ci/set_up.py .ci/build_horovod.py
	@test -n "$(PYTHON)" || { echo "Python 3.10, 3.11 or 3.12 is missing: apt-get install python3 python3-venv" \
		"python3-dev, or make PYTHON=/path/to/python" >&2; exit 2; }
	@$(PYTHON) .ci/set_up.py

# The rest of work/ contains runs, registered models and published scores.
clean: ## remove environment, build/, the demo's folder and caches (not runs, models and scores)
	rm -rf .venv .venv.lock .venv.unfinished build *.egg-info work/demo tests/.pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -path ./work -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
