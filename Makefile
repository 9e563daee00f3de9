# Every habit of the project. `make` alone lists them.
PYTHON ?= python3
VENV ?= .venv
RUNS ?= runs
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo install test test-engines check docs bench release clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/demo.installed ## install what the demo needs, run it on real purchases, write the report
	$(BIN)/recascade bench demo --output $(RUNS)/demo
	test -d $(RUNS)/demo-departments || $(BIN)/recascade data domains completejourney department \
		--keep MEAT --keep MEAT-PCKGD --keep DELI --keep PASTRY --output $(RUNS)/demo-departments
	$(BIN)/recascade bench demo-domains --data $(RUNS)/demo-departments --output $(RUNS)/demo
	$(BIN)/recascade report $(RUNS)/demo --output $(RUNS)/demo/report.html
	@echo "The leaderboard: file://$(abspath $(RUNS))/demo/report.html"

install: $(VENV)/development.installed ## install everything for development (editable), tools included

test: $(VENV)/development.installed $(VENV)-stores/stores.installed ## run the tests and the examples in docstrings
	MOTO_SERVER=$(abspath $(VENV)-stores)/bin/moto_server $(BIN)/python -m pytest --numprocesses auto --dist loadfile

test-engines: $(VENV)-engines/engines.installed ## run ReCast's tests under TRL and verl, in an environment of their own
	HF_HUB_OFFLINE=1 TRL_EXPERIMENTAL_SILENCE=1 $(VENV)-engines/bin/python -m pytest tests/recast/test_trl.py tests/recast/test_verl.py

check: $(VENV)/development.installed ## formatting, lint, types, arrows between packages, installed versions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pip check

docs: $(VENV)/docs.installed ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "The documentation: file://$(CURDIR)/site/index.html"

bench: $(VENV)/development.installed ## measure speed and memory beside RecTools and RePlay (long; own environments)
	$(BIN)/python benchmarks/peers/compare.py --venv-dir $(VENV)-peers $(ARGS)

release: $(VENV)/development.installed ## build every distribution into dist/, with version pins between them
	$(BIN)/python scripts/release_build.py dist

clean: ## remove environments and build outputs; keep runs and data
	rm -rf $(VENV) $(VENV)-peers $(VENV)-engines $(VENV)-stores dist site

# torch comes first, alone: the constraint fixes its version before anything else asks for "some torch".
$(VENV)/torch.installed: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(PIP) torch
	@touch $@

$(VENV)/demo.installed: $(VENV)/torch.installed pyproject.toml shared/pyproject.toml $(wildcard packages/*/pyproject.toml)
	$(PIP) ".[demo]"
	@touch $@

$(VENV)/development.installed: $(VENV)/torch.installed pyproject.toml shared/pyproject.toml $(wildcard packages/*/pyproject.toml)
	$(PIP) --group dev ".[all]"
	$(PIP) --no-deps --editable shared $(addprefix --editable ,$(wildcard packages/*))
	@touch $@

# The engines bound versions that the library does not, so that they cannot live beside it; only torch is the same.
$(VENV)-engines/engines.installed: constraints.txt shared/pyproject.toml packages/recast/pyproject.toml
	$(PYTHON) -m venv $(VENV)-engines
	$(VENV)-engines/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(VENV)-engines/bin/python -m pip install --quiet "$(shell grep '^torch==' constraints.txt)"
	$(VENV)-engines/bin/python -m pip install --quiet "$(shell grep '^torch==' constraints.txt)" "verl>=0.9.1" "trl>=1.16" "hypothesis>=6.100" "pytest>=8.3"
	$(VENV)-engines/bin/python -m pip install --quiet --editable shared --editable packages/recast
	@touch $@

# An object store for the tests; what it needs is older than what the library takes.
$(VENV)-stores/stores.installed:
	$(PYTHON) -m venv $(VENV)-stores
	$(VENV)-stores/bin/python -m pip install --quiet "moto[server]>=5.2"
	@touch $@

$(VENV)/docs.installed: $(VENV)/torch.installed pyproject.toml
	$(PIP) --group docs
	@touch $@
