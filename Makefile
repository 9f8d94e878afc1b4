# Two commands for everybody: `make quickstart` and `make test`. Both set up what they need.

# The first Python 3.11 that can make an environment.
PYTHON ?= $(shell for p in python3.11 python3 python; do \
  $$p -c 'import ensurepip, sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements/cpu.lock
TORCH := $(shell grep '^torch==' $(LOCK))
TORCH_INDEX := https://download.pytorch.org/whl/cpu
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.installed

.PHONY: help install quickstart check test test-fast lock clean

help: ## show the commands
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: $(STAMP) ## create .venv and install the lock and the project

# The lock is installed without its dependencies' own wishes: those would bring CUDA builds of
# torchvision and torchaudio that break the CPU build of torch. The CPU wheel of torch comes from
# wherever pip looks already, else from PyTorch's own index.
$(STAMP): $(LOCK) pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 with venv is needed: install it or set PYTHON=..." >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --no-deps $(TORCH) \
	  || $(PIP) install --quiet --no-deps --index-url $(TORCH_INDEX) $(TORCH)
	$(PIP) install --quiet --no-deps --requirement $(LOCK)
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

quickstart: install ## the main job on the bundled world: about seven minutes on two cores
	$(BIN)/medpref quickstart

check: install ## ruff, ruff format and mypy strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check ## everything that CI runs
	$(BIN)/pytest

test-fast: install ## the tests that need no server, no training and no Ray
	$(BIN)/pytest -m "not integration and not slow"

lock: ## resolve requirements/cpu.in into the lock (needs uv)
	uv pip compile requirements/cpu.in --python-version 3.11 --no-header --no-annotate \
	  --no-emit-package torchvision --no-emit-package torchaudio --no-emit-package torchcodec \
	  --index-strategy unsafe-best-match --extra-index-url $(TORCH_INDEX) --output-file $(LOCK)

clean: ## remove the environment and the caches of the tools
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
