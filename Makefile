# The project's tasks. `make run` and `make test` need only Python 3.11, 3.12 or 3.13, git and make;
# the first of them makes .venv (see .ci/setup), and nothing has to be activated.
# Kept to what GNU make 3.81 and BSD's tools have, since macOS comes with these.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup run calibrate calibrate-fleets scaling scale-out test test-slow test-cluster test-browser test-spark lint format lab docs bench bench-paths bench-audit bench-defects bench-pipeline bench-reconcile bench-run bench-sweep bench-kills golden documents reference lock clean

# Optional extras of pyproject.toml, separated by commas: make setup EXTRAS=cluster,lab
EXTRAS ?=
# More arguments for pytest: make test ARGS="-k streams"
ARGS ?=
# The Python to make .venv with, instead of the newest found: make setup PYTHON=python3.11
ifneq ($(origin PYTHON),command line)
PYTHON :=
endif

# A Python's settings made for another environment must not reach ours.
unexport PYTHONHOME PYTHONPATH
# Images of containers often set it. Each process that a test starts would compile all it imports.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
# Folders whose tests have a target of their own: the others are not to load them.
OTHERS := --ignore=tests/browser --ignore=tests/cluster --ignore=tests/spark
NOTEBOOKS = $(wildcard notebooks/*.ipynb)

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

setup: ## Make .venv from requirements.lock (EXTRAS=cluster,lab adds optional extras)
	@sh .ci/setup '$(EXTRAS)' '$(PYTHON)'

run: setup ## Run experiment 001; print its verdicts and where the report lies
	@$(BIN)/fleetsim run 001-baseline

# Not part of `make test`, which calibrates on a few fixed seeds: this takes minutes, and ends in a
# report to read, not in red or green; up to 3 fault-free calibrations in 100 fail by chance.
calibrate: setup ## Test the tests: experiment 003, 10,000 fault-free seeds and every control (minutes)
	@$(BIN)/fleetsim run 003-calibration
	@$(BIN)/python -m benchmarks.calibration power

calibrate-fleets: setup ## Hold the tests to fault-free data of odd fleets, and write docs/statistics.md (an hour)
	@$(BIN)/python -m benchmarks.calibration fleets $(ARGS)

# Its verdicts are about this machine, and want it for themselves.
scaling: setup ## Time and memory from 10^3 to 10^8 events: experiment 005 (a quarter of an hour, 27 GB)
	@$(BIN)/fleetsim run 005-scaling

scale-out: ## What workers, tasks and a scheduler cost: experiment 020 (20 minutes or more, 13 GB)
	@sh .ci/setup 'cluster,$(EXTRAS)' '$(PYTHON)'
	@$(BIN)/fleetsim run 020-scale-out

test: setup ## Run the tests that need no browser and no cluster (ARGS="-k name" for some of them)
	@$(BIN)/python -m pytest -m "not slow and not browser and not cluster and not spark" $(OTHERS) -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: setup ## Run the longer ones: whole runs, kills, calibration of the tests, all examples of properties
	@FLEETSIM_EXAMPLES=all $(BIN)/python -m pytest -m "(slow or hypothesis) and not browser and not cluster and not spark" $(OTHERS) -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

test-cluster: ## Run the tests with Dask's processes and an S3 server on loopback
	@sh .ci/setup 'cluster,cluster-tests,$(EXTRAS)' '$(PYTHON)'
	@$(BIN)/python -m pytest -m cluster -n 2 --dist loadfile $(ARGS)

test-browser: ## Run the tests that drive JupyterLab and reports in Chromium
	@sh .ci/setup 'browser,lab,$(EXTRAS)' '$(PYTHON)'
	@$(BIN)/python -m pytest -m browser $(ARGS)

test-spark: ## Put Spark under test for real: experiment 032 (needs Java 17 or newer; some minutes)
	@sh .ci/setup 'spark,$(EXTRAS)' '$(PYTHON)'
	@$(BIN)/python -m pytest -m spark $(ARGS)

lint: setup ## Check style, types, and that notebooks carry no outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(if $(NOTEBOOKS),$(BIN)/nbstripout --verify --keep-id $(NOTEBOOKS))

format: setup ## Put code and notebooks into the form that lint wants
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(if $(NOTEBOOKS),$(BIN)/nbstripout --keep-id $(NOTEBOOKS))

# By the settings in .ci/jupyter JupyterLab neither asks whether to show news nor looks for any.
lab: ## Open JupyterLab on copies of the notebooks (127.0.0.1 only, with its token)
	@sh .ci/setup 'lab,$(EXTRAS)' '$(PYTHON)'
	@sh .ci/copies
	@JUPYTER_CONFIG_PATH="$$PWD/.ci/jupyter$${JUPYTER_CONFIG_PATH:+:$$JUPYTER_CONFIG_PATH}" \
	  $(BIN)/jupyter-lab --ServerApp.ip=127.0.0.1 --ServerApp.root_dir="$$PWD" \
	  --LabApp.default_url=/lab/tree/notebooks/copies \
	  $$([ "$$(id -u)" -ne 0 ] || echo --allow-root) $(ARGS)

docs: ## Build the documentation as static HTML: docs/_build/index.html
	@sh .ci/setup 'docs,$(EXTRAS)' '$(PYTHON)'
	@rm -rf docs/_build # or pages that are gone would stay, and old docstrings on others
	@$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build
	@echo "docs/_build/index.html"

bench: ## Speed of the generator beside other libraries (a quarter of an hour; ARGS=--write: docs)
	@sh .ci/setup 'bench,$(EXTRAS)' '$(PYTHON)'
	@$(BIN)/python -m benchmarks.generate $(ARGS)

bench-paths: setup ## The NumPy path and the kernel by size: CPU, time, memory, start (some minutes)
	@$(BIN)/python -m benchmarks.paths $(ARGS)

bench-audit: setup ## Time and memory of audit on 10 million events, beside DuckDB (some minutes)
	@$(BIN)/python benchmarks/audit.py

bench-defects: setup ## What injected defects cost to make and to audit, and how many there are (minutes)
	@$(BIN)/python -m benchmarks.defects $(ARGS)

bench-pipeline: setup ## What the kit adds to the time of a pipeline that it runs (a minute)
	@$(BIN)/python -m benchmarks.pipeline $(ARGS)

bench-reconcile: setup ## What a reconciliation of 1 and 10 million lines costs, beside DuckDB (some minutes)
	@$(BIN)/python benchmarks/reconcile.py $(ARGS)

bench-run: setup ## What a run of the baseline takes beyond its cold runs, and where (minutes)
	@$(BIN)/python -m benchmarks.run $(ARGS)

bench-sweep: setup ## What a sweep costs beyond its kernels, and its memory (some 15 minutes)
	@$(BIN)/python benchmarks/sweep.py

bench-kills: setup ## A sweep of 40 points killed 20 times, and one left alone (some 20 minutes)
	@$(BIN)/python benchmarks/sweep_kills.py $(ARGS)

golden: setup ## Make the golden files of the tests anew (a change of generated bytes)
	$(BIN)/python tests/generate/make_golden.py

documents: setup ## Write experiments' documents, and the parameters in notebooks and docs
	$(BIN)/fleetsim document --all

reference: setup ## Make results/001-baseline/reference anew
	$(BIN)/python tests/make_reference.py

lock: ## Make requirements.lock anew from pyproject.toml (ARGS=--upgrade for newer versions)
	@[ -x $(BIN)/uv ] || sh .ci/setup
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --all-extras \
	  --python-version 3.11 --custom-compile-command "make lock" $(ARGS) \
	  --output-file requirements.lock pyproject.toml

clean: ## Remove .venv and caches; results and data stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
