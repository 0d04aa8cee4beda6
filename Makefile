# make train           a bare clone to a trained, measured model: models/sample/
# make test            the tests
# Each target does what it needs first. DATA= and RUN= choose photos and name; ARGS= is passed on to facetl.

DATA ?= data/sample
RUN ?= sample
ARGS ?=
PORT ?= 6006

SHELL := /bin/sh
BIN := .venv/bin
INSTALLED := .venv/installed
SAMPLE := data/sample/TERMS.txt
# The embedded sample is fetched when it is what was asked for.
PHOTOS := $(if $(filter data/sample,$(DATA)),$(SAMPLE))

.PHONY: help install cache train tensorboard test fuzz check docs format bench bench-methods lock clean
.DEFAULT_GOAL := help

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile
	@echo "targets: install cache train tensorboard test fuzz check docs format bench bench-methods lock clean"

install: $(INSTALLED)

$(INSTALLED): requirements.lock setup.cfg pyproject.toml
	@python=$$(for name in $(PYTHON) python3 python3.11 python3.12 python3.13; do \
	    "$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo "$$name" && break; \
	  done); \
	if [ -z "$$python" ]; then echo "facetl needs Python 3.11, 3.12 or 3.13; give one with PYTHON=/path/to/python" >&2; exit 1; fi; \
	"$$python" -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(SAMPLE): | $(INSTALLED)
	@$(BIN)/facetl data fetch sample data/sample

cache: $(INSTALLED) $(PHOTOS)
	@$(BIN)/facetl cache "$(DATA)" $(ARGS)

train: $(INSTALLED) $(PHOTOS)
	@$(BIN)/facetl train "$(DATA)" --run "$(RUN)" $(ARGS)

tensorboard: $(INSTALLED)
	$(BIN)/tensorboard --logdir "models/$(RUN)/logs" --host 127.0.0.1 --port $(PORT)

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 $(ARGS)

# Damaged and forged files for every reader; about an hour.
INPUTS ?= 1000000
fuzz: $(INSTALLED)
	$(BIN)/python tests/fuzz/fuzz.py --inputs $(INPUTS) $(ARGS)

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# site/index.html; a link that leads nowhere is an error.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED)
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

# The ways to learn side by side, on the sample and, if FACETL_LFW_DEV names its folder, on LFW.
bench-methods: $(INSTALLED) $(SAMPLE)
	$(BIN)/python benchmarks/methods.py

# Resolves anew within setup.cfg's bounds; uv is used from a room of its own and is no dependency.
lock:
	python3 -m venv .lock && .lock/bin/pip install --quiet uv
	.lock/bin/uv pip compile setup.cfg --extra dev --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet --upgrade --output-file requirements.lock
	rm -rf .lock

clean:
	rm -rf .venv build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
