# make demo   register and segment two real brains
# make test   the test suite
# make check  what pre-commit and continuous integration check: ruff, mypy
# Each makes what it needs in .venv; nothing outside this folder is touched but the user's cache folder.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help demo test check format clean
.DELETE_ON_ERROR:

help:
	@sed -n '1,4s/^# //p' Makefile

demo: $(VENV)/.ready
	@$(BIN)/uresnet demo --output demo --overwrite

test: $(VENV)/.ready-test
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.ready-test
	@$(BIN)/ruff check src tests
	@$(BIN)/mypy

format: $(VENV)/.ready-test
	@$(BIN)/ruff format src tests
	@$(BIN)/ruff check --fix src tests

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("uresnet needs Python 3.11 or newer; this is %d.%d. Try: make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)

# torch goes first and alone: the pinned version then satisfies everything that follows.
$(VENV)/.ready: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing uresnet into $(VENV) (once; a few minutes)"
	@$(PIP) install -c constraints.txt torch
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	@echo "Installing what the tests need into $(VENV) (once)"
	@$(PIP) install -c constraints.txt -e '.[train,test,dev]'
	@touch $@
