# Modelyard. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE := $(or $(MODELYARD_CACHE),$(HOME)/.cache/modelyard)
export MODELYARD_CACHE := $(CACHE)
export UV_CACHE_DIR := $(CACHE)/uv
export UV_SYSTEM_CERTS ?= 1
export PYTHONPATH := operator:training:hack:tests
export PYTHONDONTWRITEBYTECODE := 1

# One environment a lock, named by its content and shared by every checkout.
lock-key = $(shell sha256sum requirements/$(1).lock | cut -c1-12)
DEV := $(CACHE)/venv-dev-$(call lock-key,dev)
BENCH := $(CACHE)/venv-bench-$(call lock-key,dev)
LIGHT := $(CACHE)/venv-operator-$(call lock-key,operator)
UV := $(CACHE)/bootstrap-$(call lock-key,bootstrap)/bin/uv
PYTHON := $(DEV)/bin/python
PYTEST := $(PYTHON) -m pytest

-include hack/cluster.mk

.PHONY: help
help: ## List the targets
	@echo "make TARGET, where TARGET is one of:"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- environments

$(UV):
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Modelyard needs Python 3.11 or newer as python3." >&2; exit 1; }
	@python3 -m venv $(dir $(UV)).. && $(dir $(UV))pip install --quiet --require-hashes -r requirements/bootstrap.lock

define make-venv
	@echo "installing $(2) into $(1)"
	@rm -rf $(1).new && $(UV) venv --quiet --relocatable --python python3 $(1).new
	@$(UV) pip sync --quiet --compile-bytecode --python $(1).new/bin/python --require-hashes requirements/$(2).lock
	@rm -rf $(1) && mv $(1).new $(1)
	@ls -dt $(CACHE)/venv-$(2)-* | tail -n +6 | xargs -r rm -rf  # files are shared with the cache; older ones may still be in use
endef

$(DEV)/bin/python: | $(UV)
	$(call make-venv,$(DEV),dev)

$(LIGHT)/bin/python: | $(UV)
	$(call make-venv,$(LIGHT),operator)

# Speed is measured by the system's interpreter, as the images have it: one built for development may be a third slower.
$(BENCH)/bin/python: | $(DEV)/bin/python
	@base=$(PYTHON); tag='import sys; print(sys.implementation.cache_tag)'; \
	  if [ "$$(/usr/bin/python3 -c "$$tag" 2>&1)" = "$$($(PYTHON) -c "$$tag")" ]; then base=/usr/bin/python3; fi; \
	  $(UV) venv --quiet --clear --python $$base $(BENCH)
	@packages='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	  echo "import site; site.addsitedir('$$($(PYTHON) -c "$$packages")')" > "$$($(BENCH)/bin/python -c "$$packages")/dev.pth"

.PHONY: env
env: $(DEV)/bin/python ## Install the development environment (torch too) and print its Python
	@echo $(DEV)/bin/python

.PHONY: lock
lock: | $(UV) ## Resolve the dependencies anew
	@uv_() { $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate "$$@"; }; \
	uv_ pyproject.toml --extra dev -o requirements/dev.lock; \
	uv_ pyproject.toml --extra operator --extra loader --extra api -c requirements/dev.lock -o requirements/operator.lock; \
	uv_ pyproject.toml --extra training -c requirements/dev.lock -o requirements/trainer.lock; \
	for name in requirements build; do uv_ hack/hub/$$name.in -o hack/hub/$$name.lock; done; \
	uv_ --no-deps hack/hub/weights.in -o hack/hub/weights.lock  # wanted for its files, not for the torch that it asks for

# ---- the main job

.PHONY: demo
demo: $(LIGHT)/bin/python ## Bring up a cluster, install Modelyard, fetch, train, save and predict
	@$(LIGHT)/bin/python -m demo

# ---- code

.PHONY: generate
generate: $(DEV)/bin/python ## Write the CRDs, their copies in the chart, and the reference pages from the types
	@$(PYTHON) -m generate

.PHONY: lint
lint: $(DEV)/bin/python ## Types, style, import layers, generated files, the chart
	@$(DEV)/bin/ruff check .
	@$(DEV)/bin/ruff format --check .
	@$(DEV)/bin/mypy operator/modelyard training/modelyard_training hack
	@$(DEV)/bin/lint-imports --no-cache
	@$(PYTHON) -m generate --check

.PHONY: format
format: $(DEV)/bin/python ## Format the code and mend what can be mended by itself
	@$(DEV)/bin/ruff check --fix-only --quiet .
	@$(DEV)/bin/ruff format --quiet .

# ---- tests

.PHONY: test-unit
test-unit: $(DEV)/bin/python ## Pure code: seconds, no root
	@$(PYTEST) -n auto tests/unit

.PHONY: test-localcluster
test-localcluster: $(DEV)/bin/python ## The cluster launcher: up, killed, recovered, down without a trace
	@$(PYTEST) tests/localcluster

.PHONY: test-loader
test-loader: $(DEV)/bin/python ## The loader against real servers on loopback
	@$(PYTEST) tests/loader

.PHONY: test-agent
test-agent: $(DEV)/bin/python ## The agent with real child processes
	@$(PYTEST) tests/agent

.PHONY: test-collector
test-collector: $(DEV)/bin/python ## The collector's store on SQLite and on a PostgreSQL server that the test starts
	@$(PYTEST) tests/collector

.PHONY: test-training
test-training: $(DEV)/bin/python ## The trainer on the CPU: quality, kill and resume, bad input
	@OMP_NUM_THREADS=1 $(PYTEST) -n auto --dist worksteal tests/training

.PHONY: test-cluster
test-cluster: $(DEV)/bin/python ## The operator against a real control plane
	@$(PYTEST) --timeout 1200 tests/cluster

.PHONY: test-faults
test-faults: $(DEV)/bin/python ## The operator killed at every write, one side each (MODELYARD_FAULTS=all: both sides); a run killed 50 times
	@MODELYARD_FAULT_SEEDS=$${MODELYARD_FAULT_SEEDS:-1,2,3} $(PYTEST) tests/faults
	@MODELYARD_KILLS=50 $(PYTEST) tests/training/test_core_kills.py

.PHONY: test-faults-some
test-faults-some: $(DEV)/bin/python ## Some scenarios, with an API server between that makes all kinds of trouble
	@MODELYARD_FAULT_SCENARIOS=some $(PYTEST) tests/faults/test_faults_mixed.py

.PHONY: test-e2e
test-e2e: $(DEV)/bin/python ## The chart on a real node: pods really run
	@$(PYTEST) --timeout 1800 tests/e2e

.PHONY: test
test: lint test-unit test-localcluster test-loader test-agent test-collector test-training test-cluster test-e2e ## Everything

.PHONY: clean
clean: ## Remove what the tests and the linters left in the checkout
	@rm -rf build .pytest_cache .hypothesis .ruff_cache .mypy_cache

.PHONY: bench-api
bench-api: $(BENCH)/bin/python ## The status API under load, with the API server beside it; figures in build/bench/api.json
	@$(BENCH)/bin/python tests/bench/api.py

.PHONY: bench-operator
bench-operator: $(BENCH)/bin/python ## 1,000 to 10,000 Models, beside modelfs (MODELYARD_MODELFS, MODELYARD_DATASET_CRD) and a raw client
	@$(BENCH)/bin/python tests/bench/models.py

.PHONY: bench-collector
bench-collector: $(BENCH)/bin/python ## 1,000 trainings that report every 5 s, on SQLite and PostgreSQL; figures in build/bench/trainings-collector.json
	@$(BENCH)/bin/python tests/bench/collector.py

.PHONY: bench-load
bench-load: $(BENCH)/bin/python ## The loader beside hf download, rclone and aria2c; figures in build/bench/load.json
	@$(BENCH)/bin/python tests/bench/load.py

.PHONY: bench-trainings
bench-trainings: $(BENCH)/bin/python ## From 1,000 Trainings to their Jobs, beside a raw client
	@$(BENCH)/bin/python tests/bench/trainings.py

.PHONY: bench-train
bench-train: $(DEV)/bin/python ## The trainer beside HF Trainer, TRL, diffusers' example and a plain loop; build/bench/train.json
	@OMP_NUM_THREADS=1 $(PYTHON) tests/bench/train.py

.PHONY: bench-train-gpu
bench-train-gpu: $(DEV)/bin/python ## One GPU: tokens/s, s/image and MFU for models of the real shapes with random weights
	@$(PYTHON) tests/bench/train_gpu.py
