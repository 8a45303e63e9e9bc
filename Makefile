# `make demo` shows the whole way on the example data; `make test` is what continuous integration runs.
# Needs Python 3.11 or newer: make demo PYTHON=python3.12

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt
# Two workers: conftest.py gives each one thread, so on two cores they do not wait for each other.
PYTEST_FLAGS ?= -n 2 --dist worksteal

DEMO_DATA   := examples/data/customer_service_en.csv
DEMO_RECIPE := examples/customer_service_en.yaml
DEMO_RUN    := runs/customer_service_en
DEMO_TEXT   := where is my parcel? it should have come on Monday

.PHONY: help demo test test-fast lint format install install-dev clean

help:
	@echo "make demo       install, then check, train, report and predict on the example data"
	@echo "make test       install, then everything that has to hold: lint, types, imports, all tests"
	@echo "make test-fast  the tests without those on real models and data"
	@echo "make lint       ruff, import-linter, pyright"
	@echo "make format     let ruff repair what it can"
	@echo "make clean      remove the environment, caches and the demo's run"

# --- environment: a stamp for each step, so that nothing is installed twice ---

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "weitiao needs Python 3.11 or newer; try: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch alone and first, from the pin, so that nothing after it can draw in another build.
$(VENV)/.torch: $(VENV)/.python constraints.txt
	$(PIP) torch
	@touch $@

$(VENV)/.models: $(VENV)/.torch pyproject.toml
	$(PIP) -e ".[models]"
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(PIP) -e ".[models,dev]"
	@touch $@ $(VENV)/.models

install: $(VENV)/.models
install-dev: $(VENV)/.dev

# --- demo ---

demo: $(VENV)/.models
	@rm -rf $(DEMO_RUN)
	$(BIN)/weitiao check $(DEMO_DATA)
	$(BIN)/weitiao run $(DEMO_RECIPE)
	$(BIN)/weitiao report $(DEMO_RUN)/bundle
	$(BIN)/weitiao predict $(DEMO_RUN)/bundle "$(DEMO_TEXT)"
	@echo
	@echo "The report for people: $(DEMO_RUN)/bundle/report.html"

# --- quality ---

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint
	$(BIN)/pytest $(PYTEST_FLAGS)

test-fast: $(VENV)/.dev
	$(BIN)/pytest $(PYTEST_FLAGS) -m "not slow"

clean:
	rm -rf $(VENV) $(DEMO_RUN) build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
