# Everything a developer or CI runs. `make help` lists it.
#
# Set-up needs Python 3.11+, Go 1.26+, make and git; the rest is installed into the cache folder
# ($XDG_CACHE_HOME/agentic-serving, or ~/.cache/agentic-serving). Nothing is written to the checkout.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/agentic-serving
VENV := $(CACHE)/venv-$(shell cat pyproject.toml constraints.txt | sha256sum | cut -c1-12)
PY := $(VENV)/bin/python
IMAGE ?= agentic-serving-operator:dev
PYTEST ?= $(PY) -m pytest -p no:cacheprovider
ARGS ?=
ENGINE ?= sim

export PYTHONPATH := $(CURDIR)/operator:$(CURDIR)
export PYTHONDONTWRITEBYTECODE := 1
export RUFF_CACHE_DIR := $(CACHE)/ruff
export MYPY_CACHE_DIR := $(CACHE)/mypy
export HYPOTHESIS_STORAGE_DIRECTORY := $(CACHE)/hypothesis
export MPLCONFIGDIR := $(CACHE)/matplotlib

##@ Start here

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup tools ## Serve the quick-start example and replay real agent sessions through it; ENGINE=vllm for real vLLM (first run: about 15 minutes of builds, then 4)
	@$(PY) -m tests.e2e.demo --engine $(ENGINE) $(ARGS)

.PHONY: test
test: setup lint unit control-plane ## Lint, types, unit tests, and the operator on a real API server (first run: about 28 minutes, then 18)

##@ Parts of test

.PHONY: unit
unit: setup ## Unit, property and golden tests (about 3 minutes)
	@echo "== unit tests: about 3 minutes"
	@$(PYTEST) tests/unit -n auto -q $(ARGS)

.PHONY: control-plane
control-plane: setup tools ## The operator on a real kube-apiserver (about 15 minutes)
	@echo "== control-plane tests: about 15 minutes; most of it is waiting, so two run at a time, each on a control plane of its own"
	@$(PYTEST) tests/e2e --ignore tests/e2e/dataplane --ignore tests/e2e/agents -p tests.e2e.listed_skips -n 2 --dist loadfile -q --durations=5 $(ARGS)

.PHONY: mutations
mutations: setup ## Put known bugs into the operator, one at a time: the tests must notice each (about 3 minutes)
	@$(PY) -m tests.mutations $(ARGS)

.PHONY: e2e
e2e: setup tools engines ## Rendered pods as processes: router, simulated engines, real vLLM and LMCache; needs root (first run: about 25 minutes, then 15)
	@echo "== engine tests: about 15 minutes; every skip is printed, and one that is not listed fails the run"
	@$(PYTEST) tests/e2e/dataplane -p tests.e2e.listed_skips -n 2 --dist loadfile -q --durations=5 $(ARGS)

.PHONY: agents
agents: setup tools ## Claude Code, Codex and OpenCode run tools and sub-agents through a stack; installs them from npm (about 6 minutes)
	@$(PYTEST) tests/e2e/agents -q -rs $(ARGS)

##@ Development

.PHONY: setup
setup: $(VENV)/ready ## Install the Python dependencies into the cache (first run: about 1 minute)

# Its name holds the hash of what it was made from, so it never becomes old.
$(VENV)/ready:
	@echo "== installing Python dependencies into $(VENV): about 1 minute"
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { apt-get update -qq && apt-get install -y -qq python3-venv; }
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	@$(PY) -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print("\n".join(p["dependencies"] + sum(p["optional-dependencies"].values(), [])))' > $(VENV)/requirements.txt
	@$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt -r $(VENV)/requirements.txt
	@# xds-protos brings old files of its own for some of these; whichever is installed last wins, and spans need the new ones.
	@$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt --no-deps --force-reinstall opentelemetry-proto
	@touch $@

.PHONY: tools
tools: setup ## Build the local cluster's binaries into the cache (first run: about 13 minutes)
	@$(PY) -m tests.e2e.localcluster tools

.PHONY: engines
engines: setup ## Install vLLM for the CPU and LMCache into the cache (first run: about 6 minutes, 6 GB)
	@$(PY) -m tests.e2e.realengines install

.PHONY: lint
lint: setup ## Ruff, mypy, import contract, yamllint
	@echo "== lint and types: about 1 minute"
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-cache --config pyproject.toml
	@$(VENV)/bin/yamllint -s templates crds examples deploy

.PHONY: fmt
fmt: setup ## Format and fix what can be fixed
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

.PHONY: generate
generate: setup ## Write what is generated: CRDs, API reference, RBAC, install.yaml, dashboard, alerts, docs/metrics.md
	@$(PY) -m agentic_serving.api.generate
	@$(PY) deploy/generate.py
	@$(PY) -m deploy.monitoring

.PHONY: verify
verify: generate lint ## Generate, check, and require a clean tree
	@git diff --exit-code -- crds docs deploy || { echo "generated files are not up to date: commit what 'make generate' wrote"; exit 1; }

.PHONY: golden
golden: setup ## Rewrite the golden manifests; review the diff
	@$(PYTEST) tests/unit/render -q --update-golden

.PHONY: constraints
constraints: setup ## Raise the pinned versions to the newest that pyproject.toml allows
	@$(PY) -m pip install -q -U -r $(VENV)/requirements.txt
	@{ echo "# Versions that CI and \`make\` install: raise them with \`make constraints\`."; $(PY) -m pip freeze; } > constraints.txt

.PHONY: bench
bench: setup tools ## Controller scale: 1 to 500 stacks on kwok (about 25 minutes)
	@$(PY) benchmarks/controller_scale.py $(ARGS)

.PHONY: cluster
cluster: setup tools ## A local control plane in the foreground, for trying things out
	@$(PY) -m tests.e2e.localcluster up $(ARGS)

.PHONY: wheel
wheel: setup ## Build the wheel into dist/
	@$(PY) -m pip wheel -q --no-deps -w dist .

.PHONY: image
image: ## Build the operator's image (needs docker or podman)
	@$$(command -v docker || command -v podman) build -f Containerfile -t $(IMAGE) .

##@ Cluster

.PHONY: install
install: ## Install CRDs and operator into the current kubectl context
	@kubectl apply --server-side -f deploy/install.yaml

.PHONY: uninstall
uninstall: ## Remove them; deletes every stack, program and policy
	@kubectl delete --ignore-not-found -f deploy/install.yaml
