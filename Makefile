# Everything a newcomer needs: make demo, make test. Both make .venv first where it is missing or stale.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
JOBS ?= 2
# A torch build other than the default one for this platform: the address of a wheel index, such as PyTorch's own for
# one CUDA version or for the CPU. make setup TORCH_INDEX=...
TORCH_INDEX ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test test-slow test-gpu gate check conformance format smoke clean

setup: $(STAMP)

# torch first and alone: as a dependency of something else, another version or build of it might be chosen.
$(STAMP): pyproject.toml constraints.txt Makefile
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make PYTHON=..."'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# The main job: train, score, record and compare, and a page to look at; a second time it only shows the table.
demo: $(STAMP)
	$(BIN)/harness run suites/quickstart.yaml --jobs $(JOBS)
	$(BIN)/harness report suites/quickstart.yaml

smoke: $(STAMP)
	$(BIN)/harness run suites/quickstart.yaml --smoke --jobs $(JOBS)
	$(BIN)/harness report suites/quickstart.yaml --smoke

test: $(STAMP)
	$(BIN)/python -m compileall -q harness # here and not by each of a hundred processes, where these may not write
	$(BIN)/pytest -n $(JOBS) --dist loadgroup -m 'not slow and not gpu'

test-slow: $(STAMP)
	$(BIN)/pytest -m slow

test-gpu: $(STAMP)
	$(BIN)/pytest -m gpu

# Losses and costs of suites/ci.yaml against the baseline in git (docs/gate.md).
gate: $(STAMP)
	$(BIN)/harness gate suites/ci.yaml --layers L0,L1 --jobs $(JOBS)

# Every connection of ours and of other packages against the laws; installs the extra `peers`.
conformance: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[peers]'
	$(BIN)/harness conform --all --peers --markdown docs/conformance.md || test $$? -eq 1 # a law that a peer fails

# What pre-commit runs.
check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Results are never deleted here.
clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
