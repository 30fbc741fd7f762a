# `make` lists the targets.
PYTHON ?= python3
VENV ?= .venv
# Another build of torch: make setup TORCH_INDEX=<URL of a package index that offers it>
TORCH_INDEX ?=
BIN = $(VENV)/bin
UV = UV_FIND_LINKS="$(PIP_FIND_LINKS)" VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet -c constraints.txt
STAMP = $(VENV)/.installed
# Workers keep a module's tests together; what Python compiles is kept for the next processes.
JOBS ?= 2
TESTED = PYTHONDONTWRITEBYTECODE= $(BIN)/python
PYTEST = $(TESTED) -m pytest -n $(JOBS) --dist loadfile --durations=10
SLOW = processes or server or browser or compile or notebook or slow

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-all faults mutants coverage audit lint docs cluster doctor clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: $(STAMP)  ## make the virtual environment and install the four packages with what they need

$(STAMP): pyproject.toml constraints.txt $(wildcard packages/*/pyproject.toml)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(if $(TORCH_INDEX),$(UV) --index-url $(TORCH_INDEX) torch)
	$(UV) -e '.[dev]'
	@touch $@

quickstart: $(STAMP)  ## train, generate Ag6O3 in p(3x3), relax, compare with random search (minutes)
	$(BIN)/surfdiff quickstart

test: $(STAMP)  ## the tests that start no processes, servers, browsers or compilers (minutes)
	$(PYTEST) -m "not ($(SLOW))"

test-all: $(STAMP)  ## every test (half an hour on two cores)
	$(PYTEST)

FAULTS ?= 5000
KILLS ?= 20
SEED ?= 0
faults: $(STAMP)  ## damage FAULTS files, kill each command KILLS times, and count what becomes of them
	$(TESTED) -m tests.integration.faults.trial $(FAULTS) $(SEED)
	$(TESTED) -m tests.system.kill.trial $(KILLS) $(SEED)

MUTANTS ?= 200
mutants: $(STAMP)  ## mutate the core, and count how many of MUTANTS mutants the unit tests kill
	$(UV) -e '.[mutants]'
	mkdir -p build/mutants/src
	cp -r packages/*/src/* build/mutants/src/
	cp -r tests pyproject.toml build/mutants/
	cd build/mutants && OMP_NUM_THREADS=1 $(abspath $(BIN))/python tests/mutants.py $(MUTANTS) $(SEED)

PACKAGES = sdedata painnx vpsde guidance
coverage: $(STAMP)  ## count the lines of the four packages that the unit tests run
	$(UV) -e '.[coverage]'
	$(TESTED) -m pytest tests/unit -m "not ($(SLOW))" $(PACKAGES:%=--cov=%)

audit: $(STAMP)  ## look for known vulnerabilities of the installed versions (needs PyPI)
	$(UV) -e '.[audit]'
	mkdir -p build
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip freeze --exclude-editable | sed 's/+.*//' > build/installed.txt
	$(BIN)/pip-audit --strict --disable-pip --no-deps -r build/installed.txt

lint: $(STAMP)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)  ## build the documentation into site/, without network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

cluster: $(STAMP)  ## build torch-cluster, the optional neighbour backend (needs a C++ compiler)
	$(UV) ninja setuptools wheel
	PATH="$(abspath $(BIN)):$$PATH" $(UV) --no-build-isolation 'torch-cluster==1.6.3'

doctor: $(STAMP)  ## versions, device, neighbour backend, W&B key
	$(BIN)/surfdiff doctor

clean:  ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) site .pytest_cache .ruff_cache .mypy_cache .hypothesis
