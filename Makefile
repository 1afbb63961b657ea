# make demo    data, training, export and pictures, end to end
# make test    lint and the whole test suite
# make help    the rest

PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The stamp has the extras that it was made for. Where none are named, those are kept.
INSTALLED := $(shell grep -s . $(STAMP) || echo train,dev)
EXTRAS ?= $(INSTALLED)
DEMO_FLAGS ?=
# A process for each of two cores; tests of a file share one, and what they made.
TEST_FLAGS ?= -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint format clean other-extras

help:
	@echo "make demo    draw with the model that ships, then train a small one and export it (minutes; DEMO_FLAGS=...)"
	@echo "make test    lint, then the tests (TEST_FLAGS=... goes to pytest)"
	@echo "make lint    style, formatting and import rules"
	@echo "make format  rewrite the code in the project's style"
	@echo "make venv    only create $(VENV) and install what is pinned (EXTRAS=gpu,dev for NVIDIA GPUs)"
	@echo "make clean   remove $(VENV) and caches"

venv: $(STAMP)

# Installed again only when the dependencies change, or other extras are named.
ifneq ($(EXTRAS),$(INSTALLED))
$(STAMP): other-extras
endif
$(STAMP): setup.cfg constraints.txt
	@# A $(VENV) that somebody else made may be another Python's.
	@for python in $(PYTHON) $(wildcard $(BIN)/python); do \
	  $$python -c 'import sys; v = sys.version_info; v[:2] == (3, 11) or sys.exit( \
	  f"constraints.txt pins Python 3.11, {sys.executable} is {v[0]}.{v[1]}: " \
	  "make clean, then make PYTHON=python3.11")' || exit 1; done
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Install Python's venv module first: apt-get install python3-venv"; exit 1; }
	@echo 'Installing the pinned dependencies into $(VENV) (about 1 GB, a minute or more) ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@# Tests read one network of torch-fidelity and one of OpenCLIP; the rest of them needs torchvision,
	@# whose builds from PyPI do not go with PyTorch's build for CPUs.
	@case ',$(EXTRAS),' in *,dev,*) $(BIN)/python -m pip install --quiet --no-deps \
	  --disable-pip-version-check --constraint constraints.txt torch-fidelity open_clip_torch;; esac
	@echo '$(EXTRAS)' > $@

demo: venv
	$(BIN)/python tools/demo.py $(DEMO_FLAGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

# Lint is part of the recipe, not a prerequisite, so that pytest's total is always printed last.
test: venv
	@$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest $(TEST_FLAGS)

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
