# Two words for a fresh machine: `make demo` runs the whole line once, `make test` installs everything and tests it.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
TRITON := .venv-triton
PIP := $(BIN)/pip --disable-pip-version-check

.PHONY: demo test test-full fuzz check bench bench-train clean help
SECONDS ?= 600

help:                       ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

# A stamp per extra: installed again only when the pins or the declared dependencies change.
$(VENV)/.installed-%: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing downstream[$*] into $(VENV) (pins: constraints.txt); the first time takes minutes"
	$(PIP) install --progress-bar off -q -c constraints.txt -e '.[$*]'
	@touch $@

# A real Triton server to compare with, in an environment of its own; where it cannot be had, one line says why.
$(TRITON)/.installed: constraints-triton.txt tests/triton/install.py | $(VENV)/.installed-dev
	@$(BIN)/python tests/triton/install.py $(TRITON)

$(TRITON)/.perf_analyzer: $(TRITON)/.installed
	@$(BIN)/python tests/triton/install.py $(TRITON) --perf-analyzer

demo: $(VENV)/.installed-demo          ## fine-tune, export, serve, ask and load-test on generated tickets; ONCE=1 ends
	$(BIN)/downstream demo $(if $(ONCE),--once)

test: $(VENV)/.installed-dev $(TRITON)/.installed           ## all tests that fit in a few minutes
	$(BIN)/python -m pytest -m "not full"

test-full: $(VENV)/.installed-dev $(TRITON)/.perf_analyzer      ## every test
	$(BIN)/python -m pytest

fuzz: $(VENV)/.installed-dev $(VENV)/.installed-fuzz       ## the binary decoder on random bytes, for SECONDS (600)
	$(BIN)/python -m tests.fuzz -max_total_time=$(SECONDS) -print_final_stats=1

check: $(VENV)/.installed-dev          ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

# Each in an environment of its own; what cannot be installed is missing from the table, with the reason.
PEERS := mosec litserve bentoml mlserver ray
.venv-peers/%/.installed: constraints-peers.txt | $(VENV)/.installed-bench
	@$(BIN)/python -m loadtest.bench.install $*

# First of all: the installations below take minutes.
.PHONY: wrk
wrk:
	@command -v wrk > /dev/null || { echo "make bench needs wrk: apt-get install wrk (Debian, Ubuntu) or brew install wrk"; exit 2; }

bench: wrk $(VENV)/.installed-bench $(VENV)/.installed-demo $(TRITON)/.perf_analyzer $(PEERS:%=.venv-peers/%/.installed) model_repository/bench/config.pbtxt  ## rows/s and latency beside the bare session and seven other systems
	$(BIN)/python -m loadtest.bench --markdown bench-report/performance.md

# MiniLM with a head trained for a minute: what it answers does not matter here, what it computes does.
model_repository/bench/config.pbtxt: | $(VENV)/.installed-demo demo-data/train.csv
	$(BIN)/downstream finetune finetune/recipes/tickets.yaml output=runs/bench max_length=256 data.limit=800 training.epochs=1 --overwrite
	$(BIN)/downstream export runs/bench --name bench --precision int8 --tolerance 10 --rows 200

bench-train: $(VENV)/.installed-demo demo-data/train.csv  ## tokens/s of fine-tuning beside transformers' example and a PyTorch loop
	$(BIN)/python -m finetune.bench $(ARGS)

demo-data/train.csv: | $(VENV)/.installed-demo
	$(BIN)/python -c "from pathlib import Path; from demo.tickets import write_splits; write_splits(Path('demo-data'))"

clean:                      ## remove everything that was installed or built
	rm -rf $(VENV) $(TRITON) .venv-peers build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
