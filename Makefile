# Two commands for a newcomer: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
WORKERS = $(shell $(PYTHON) -c 'import os; print(min(4, os.cpu_count() + 1))')
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check

.PHONY: demo test test-docker bench lint format proto clean

demo: .venv/demo-ready  ## an edge and a cloud, two processes on loopback, fine-tune a real model
	@rm -f .venv/port; $(BIN)/sft-cloud serve --cpu --port 0 --port-file .venv/port --save-dir .venv/sessions 2>.venv/cloud.log & \
	cloud=$$!; trap 'kill $$cloud; wait $$cloud' EXIT; \
	until [ -f .venv/port ]; do kill -0 $$cloud || { cat .venv/cloud.log; exit 1; }; sleep 0.1; done; \
	$(BIN)/sft-edge train --task demo --group-by-length --unsplit --server localhost:$$(cat .venv/port)

test: .venv/dev-ready  ## the whole suite, a file at a time; a worker more than cores, since some tests wait
	$(BIN)/python -m pytest -m "not docker" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-docker: .venv/dev-ready  ## builds the images and runs the compose demo; needs a Docker engine
	$(BIN)/python -m pytest -m docker

bench: .venv/dev-ready  ## minutes, not hours: proves that the accuracy benchmark runs; needs ../shared/data
	$(BIN)/python -m benchmarks.accuracy --quick --out .venv/quick.jsonl

lint: .venv/dev-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint protos
	$(BIN)/buf format --diff --exit-code protos

format: .venv/dev-ready
	$(BIN)/ruff format .
	$(BIN)/buf format --write protos

proto: .venv/dev-ready  ## regenerates the committed stubs
	$(BIN)/python -m sft_common.pb.generate

clean:
	rm -rf .venv dist

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo-ready: pyproject.toml | .venv/bin/python
	$(PIP) --editable '.[edge,cloud,demo]'
	@touch $@

.venv/dev-ready: pyproject.toml | .venv/bin/python
	$(PIP) --editable '.[dev]'
	@touch $@ .venv/demo-ready
