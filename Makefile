# Everything a checkout needs; each target sets up what it lacks. See CONTRIBUTING.md.

# The newest Python that can make a virtual environment; Debian leaves ensurepip out until python3-venv is there.
PYTHON := $(shell for python in python3.14 python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test lint format bench clean

run: $(READY)  ## set up and start the server on the sample functions
	@$(BIN)/fnsync serve

test: $(READY)  ## set up and pass the tests
	@$(BIN)/python -m pytest -n 4 --dist worksteal $(TESTS)

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY)  ## measure; prints a table and writes benchmarks/results.json
	@$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .fnsync

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { \
		echo "fnsync needs Python 3.11 or newer with its venv module, and found none on the PATH." >&2; \
		echo "On Debian and Ubuntu: apt-get install python3 python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable '.[dev]'
	@touch $@
