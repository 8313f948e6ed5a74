# Two commands do everything on a fresh machine with Python 3.11: `make demo` and `make test`.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/pip --disable-pip-version-check

# lock: the torch of requirements-torch.lock. any: the one that your package index serves, a CPU build for one;
# TORCH_INDEX is another index to take it from. An environment keeps to what it was made with.
TORCH ?= $(or $(shell cat $(READY) 2>/dev/null),lock)
TORCH_INDEX ?=

UV := uv==0.13.9
# processes that run tests: each starts several of its own, and needs some 3 GiB
TEST_JOBS ?= 2

LOCKING := build/lock
UPGRADE ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test quick golden settings check format lint types lock clean

help:
	@echo "make setup   make .venv and install what the locks name, by their hashes"
	@echo "make demo    set up, then learn, mine and fuse the embedded data set and write a report"
	@echo "make test    set up, then every test"
	@echo "make quick   the tests that are not marked slow"
	@echo "make golden  record what each stage gives on tiny input, where its version was raised"
	@echo "make settings  write docs/settings.md from the settings classes"
	@echo "make check   format, lint, strict types, tests"
	@echo "make lock    write the two locks anew from pyproject.toml; UPGRADE=1 takes newer releases"
	@echo "TORCH=any    beside any of them: torch from your package index (or TORCH_INDEX=URL), not from the lock"

$(READY): pyproject.toml requirements.lock requirements-torch.lock
	@case "$(TORCH)" in lock|any) ;; *) echo "TORCH is lock or any, not $(TORCH)"; exit 2;; esac
	@command -v $(PYTHON) >/dev/null && $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' \
	  || { echo "smelt needs Python 3.11 to 3.14: make PYTHON=/your/python $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --require-hashes --no-deps -r requirements.lock
ifeq ($(TORCH),any)
	@echo "TORCH=any: torch and torchvision come from your package index; no lock, no hash speaks for them"
	$(PIP) install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) 'torch>=2.10' 'torchvision>=0.25'
else
	$(PIP) install --quiet --require-hashes --no-deps -r requirements-torch.lock
endif
	$(PIP) install --quiet --no-build-isolation --no-deps -e .
	$(PIP) check
	@echo $(TORCH) > $@

setup: $(READY)
	@[ "$$(cat $(READY))" = "$(TORCH)" ] || { echo "$(VENV) was made with TORCH=$$(cat $(READY)): make clean first"; exit 2; }

demo: $(READY)
	$(BIN)/smelt demo

# a file of tests stays in one process: what its tests share is made once
test: $(READY)
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile

quick: $(READY)
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile -m "not slow"

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

# Both locks come of one resolution; pins that still fit stay unless UPGRADE is given.
lock:
	mkdir -p $(LOCKING)
	cat requirements.lock requirements-torch.lock > $(LOCKING)/all.lock
	$(PYTHON) -m venv $(LOCKING)/venv
	$(LOCKING)/venv/bin/pip --disable-pip-version-check install --quiet $(UV)
	$(LOCKING)/venv/bin/uv pip compile pyproject.toml --quiet --extra dev --group build \
	  --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url $(if $(UPGRADE),--upgrade) -o $(LOCKING)/all.lock
	@for name in requirements requirements-torch; do \
	  echo "# Made by \`make lock\` from pyproject.toml; pip install --require-hashes --no-deps -r $$name.lock" \
	    > $$name.lock; done
	awk '/^[a-z]/ { name = /^(torch|torchvision|triton|nvidia-[^=]*|cuda-[^=]*)==/ ? "requirements-torch" : "requirements" } \
	  name { print >> (name ".lock") }' $(LOCKING)/all.lock

clean:
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
