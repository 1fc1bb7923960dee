# One command per intention; `make help` lists them. The first one that needs the environment builds it, in .venv.
# Written for GNU make 3.81 and a POSIX shell, which macOS still ships.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup train test slow gpu lint types format tensorboard lock audit clean

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Compiled on installation, the first import of torch takes half the time.
export UV_COMPILE_BYTECODE := 1
# uv takes an interpreter that is there; it fetches none.
export UV_PYTHON_DOWNLOADS := never

# What the shell tries as the interpreter, in this order; `make train PYTHON=/path/to/python3.12` names one.
PYTHONS := $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python)
# Prints the interpreter behind a shim or an environment; fails unless it is one of 3.11 to 3.13.
FIT := import sys; (3, 11) <= sys.version_info[:2] <= (3, 13) or sys.exit(1); print(sys._base_executable)
# uv from PATH, or the locked one, which is then installed into .venv first.
UV := $(if $(shell uv --version 2>/dev/null),uv,$(BIN)/uv)

# `make train model=mlp` would set a variable of make's and train the default without a word.
STRAY := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
STRAY := $(filter-out ARGS PYTHON MAKE% -*,$(STRAY))
ifneq ($(and $(STRAY),$(filter train test slow gpu tensorboard lock,$(MAKECMDGOALS))),)
$(error $(STRAY): make took this for a variable of its own; write make $(firstword $(MAKECMDGOALS)) ARGS="$(firstword $(STRAY))=...")
endif

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## build the environment, .venv, as requirements.lock has it (the others do it when they need it)

train: $(READY) ## train the default; another run: make train ARGS="model=mlp optimizer.lr=0.01"
	@$(BIN)/train $(ARGS)

# All of them in a process a core, four at most: each takes 0.7 GB. What ARGS chooses runs in one, which starts faster.
test: $(READY) ## the fast tests; one file: make test ARGS="tests/test_layout.py"
	$(BIN)/pytest $(or $(ARGS),-n auto --maxprocesses 4 --dist worksteal)

slow: $(READY) ## the slow tests: real data, minutes to hours
	$(BIN)/pytest -m slow $(ARGS)

gpu: $(READY) ## the tests that need a CUDA device
	$(BIN)/pytest -m gpu $(ARGS)

lint: $(READY) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## mypy
	$(BIN)/mypy

format: $(READY) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tensorboard: $(READY) ## look at every run in logs/
	$(BIN)/tensorboard --logdir logs $(ARGS)

# All that the tests use.
EXTRAS := $(addprefix --extra ,wandb mlflow onnx heic hf timm schedulefree cmaes dashboard dev)
lock: $(READY) ## write requirements.lock anew after an edit of pyproject.toml; newer versions: make lock ARGS=--upgrade
	$(BIN)/uv pip compile pyproject.toml $(EXTRAS) \
		--universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" -o requirements.lock --quiet $(ARGS)

audit: $(READY) ## look for known vulnerabilities of what requirements.lock names (needs the advisory database)
	$(BIN)/pip-audit --requirement requirements.lock --require-hashes --disable-pip --strict $(ARGS)

clean: ## remove caches and build leftovers; .venv, data/ and logs/ stay
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache
	find src tests scripts -name __pycache__ -prune -exec rm -rf {} +

# An environment is made anew if its Python is gone or does not fit, if no uv can fill it, or if its folder was copied or
# moved: the commands in it name the place where they were installed, and would run the project that lies there.
SOUND := $(BIN)/python -c '$(FIT)' && $(UV) --version && grep -F "$(CURDIR)/$(VENV)" $(BIN)/activate
ifeq ($(shell { $(SOUND); } >/dev/null 2>&1 && echo sound),)
.PHONY: $(BIN)/python $(READY)
endif

$(BIN)/python:
	@for name in $(PYTHONS) $(if $(PYTHON),,"$$(uv python find --system '>=3.11,<3.14' 2>/dev/null)"); do \
		python=$$("$$name" -c '$(FIT)' 2>/dev/null) && break; \
	done; \
	if [ -z "$$python" ]; then \
		echo "No Python 3.11 to 3.13 among: $(PYTHONS). Install one, or name it: make setup PYTHON=/path/to/python3.12" >&2; \
		exit 2; \
	fi; \
	echo "Making $(VENV) with $$python"; \
	rm -rf $(VENV); \
	if [ "$(UV)" = uv ]; then \
		uv venv --quiet --python "$$python" $(VENV); \
	else \
		"$$python" -m venv $(VENV) || { rm -rf $(VENV); echo "Install uv, or $$python's venv (python3-venv)." >&2; exit 2; }; \
		sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv.lock; \
		$(BIN)/python -m pip install --quiet --require-hashes --requirement $(VENV)/uv.lock; \
	fi

$(READY): requirements.lock pyproject.toml | $(BIN)/python
	@$(UV) pip sync --python $(BIN)/python --require-hashes requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
