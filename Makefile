# Two commands do everything on a fresh machine with Python 3.11: `make demo` and `make test`.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test quick golden settings check format lint types clean

help:
	@echo "make demo    set up, then learn, mine and fuse the embedded data set and write a report"
	@echo "make test    set up, then every test"
	@echo "make quick   the tests that are not marked slow"
	@echo "make golden  record what each stage gives on tiny input, where its VERSION was raised"
	@echo "make settings  write docs/settings.md from the settings classes"
	@echo "make check   format, lint, strict types, tests"

$(READY): pyproject.toml requirements.lock
	@command -v $(PYTHON) >/dev/null || { echo "smelt needs Python 3.11 or newer: make PYTHON=/your/python $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	@touch $@

setup: $(READY)

demo: $(READY)
	$(BIN)/smelt demo

test: $(READY)
	$(BIN)/python -m pytest

quick: $(READY)
	$(BIN)/python -m pytest -m "not slow"

golden: $(READY)
	$(BIN)/python tests/golden_cases.py --write

settings: $(READY)
	$(BIN)/python -m smelt.verbs.settings_page > docs/settings.md.new
	mv docs/settings.md.new docs/settings.md

check: format lint types test

format: $(READY)
	$(BIN)/ruff format --check src tests benchmarks

lint: $(READY)
	$(BIN)/ruff check src tests benchmarks

types: $(READY)
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
