# make demo   register and segment two real brains
# make test   the test suite, on all cores
# make check  what pre-commit and continuous integration check: ruff, import contracts, mypy
# make docs   the documentation, as a website in build/site
# make dist   wheel and sdist, checked and tried, in dist
# Each makes what it needs in .venv; nothing outside this folder is touched but the user's cache folder.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CODE := src tests benchmarks

.PHONY: help demo test fuzz fuzz-guided check compat format kills docs messages dist lock clean
.DELETE_ON_ERROR:

help:
	@sed -n '1,6s/^# //p' Makefile

demo: $(VENV)/.ready
	@$(BIN)/uresnet demo --output demo --overwrite

# One process a core, each with one thread. `make test PYTEST_ARGS="tests/unit -x"` runs a part.
# Python keeps what it compiles, whatever the environment says: hundreds of test files and many processes load it again.
test: $(VENV)/.ready-test
	@PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal $(PYTEST_ARGS)

# 20,000 damaged files through every reader; FUZZ="--files 1000 --only points" tries a part.
fuzz: $(VENV)/.ready-test
	@PYTHONPATH=src:tests $(BIN)/python -m fuzz.campaign --page docs/reliability.md $(FUZZ)

fuzz-guided: $(VENV)/.ready-test
	@$(PIP) install -c constraints.txt -e '.[fuzz]'
	@PYTHONPATH=src:tests $(BIN)/python -m fuzz.coverage_guided "$(READER)" $(FUZZ)

check: $(VENV)/.ready-test
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy

format: $(VENV)/.ready-test
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

# 100 kills of running commands, and 50 of a cohort and its workers, at random moments: nothing may be lost.
kills: $(VENV)/.ready-test
	@$(BIN)/python tests/faults/kills.py --page docs/reliability.md $(KILLS_ARGS)
	@$(BIN)/python tests/faults/cohort_kills.py

# Wheel and sdist in read-only environments of the oldest and the newest dependencies. Needs uv; some gigabytes.
compat: $(VENV)/.ready-test
	@PYTHONPATH=src:tests $(BIN)/python -m compat.compat --page docs/reliability.md $(COMPAT)

docs: $(VENV)/.ready-docs
	@$(BIN)/zensical build --strict --clean
	@echo "Open build/site/index.html; its search needs a server: python3 -m http.server -d build/site"

# The list of all messages in docs/messages.md.
messages: $(VENV)/.ready
	@$(BIN)/python docs/list_messages.py

# Wheel and sdist in dist/, checked by twine; the wheel is installed into an environment of its own and tried there,
# where nothing of the repository is. Needs uv. `make compat` does so for every Python and both ends of the dependencies.
dist: $(VENV)/.ready-test
	@rm -rf dist
	@uv build --quiet --out-dir dist .
	@uvx --quiet twine check --strict dist/*
	@du -k dist/* | awk '{printf "%s %.1f MB\n", $$2, $$1 / 1024}'
	@PYTHONPATH=src:tests $(BIN)/python -m compat.compat --built dist --folder build/dist

# The versions in constraints.txt stay where they still fit; `make lock UPGRADE=--upgrade` looks for newer ones. Needs uv.
lock:
	@uv pip compile --quiet --universal --all-extras --python-version 3.11 --no-annotate $(UPGRADE) \
		--custom-compile-command 'make lock' pyproject.toml --output-file constraints.txt

clean:
	rm -rf $(VENV) demo build dist .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

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
	@$(PIP) install -c constraints.txt -e '.[train,view,figures,formats,test,dev]'
	@touch $@

$(VENV)/.ready-docs: $(VENV)/.ready
	@echo "Installing what the documentation needs into $(VENV) (once)"
	@$(PIP) install -c constraints.txt -e '.[docs]'
	@touch $@
