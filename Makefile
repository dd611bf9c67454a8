# Everything a newcomer needs: `make run` starts the service on this machine, `make test` passes the tests.
# Needs Python 3.11 to 3.13 with pip and venv, and make. Everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin

# uv is several times faster than pip, and does not read pip's configuration: where that names a mirror, pip does it.
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
install = $(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --compile-bytecode --require-hashes \
	-r requirements/$(1).txt || $(PIP) install --require-hashes -r requirements/$(1).txt

# The tests wait for processes and sockets about as long as they compute: twice as many workers as two cores have.
WORKERS ?= 4
SIDE_BY_SIDE := -n $(WORKERS) --dist loadfile
ENGINES_SIDE_BY_SIDE := -n 2 --dist loadscope
# What fails is tried once more, and named at the end if it passes then: a machine that is busy with other things should
# not fail a change. Such a test is still to be mended.
RETRY := --reruns 1 --rerun-show-tracebacks -rfE

.DEFAULT_GOAL := help
.PHONY: help setup run serve doctor test lint format check test-sglang test-gpu conformance docs bench bench-emulator bench-state bench-gateway bench-page bench-web-import demo-model demo-eval page lock wheel clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/'

.venv/.run: requirements/run.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed; this is " + sys.version.split()[0] + ". Set PYTHON=python3.12, say.")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --require-hashes -r requirements/uv.txt
	$(call install,run)
	@touch $@

.venv/.dev: requirements/dev.txt .venv/.run
	$(call install,dev)
	@touch $@

setup: .venv/.run  ## install what `make run` needs into .venv

run: setup  ## start the service on this machine, on the emulator: http://127.0.0.1:3000 (or PORT=…)
	@port=$${PORT:-$$($(BIN)/python -m infra.configuration server.port)} && \
	DEPLOY__TARGET=local exec $(BIN)/python -m emulator up app.py --port $$port --ready-path /readiness \
		--before '$(BIN)/python -m infra.setup'

serve: setup  ## the same without Modal: processes of this machine, at server.host and server.port (or PORT=…)
	@$(if $(PORT),SERVER_PORT=$(PORT)) exec $(BIN)/python -m functions.standalone

doctor: setup  ## say what is wrong with configuration, credentials, state, models, Modal (ARGS="--for modal")
	@$(BIN)/python -m infra.doctor $(ARGS)

test: .venv/.dev  ## the tests that say whether it works (at most 5 minutes)
	@$(BIN)/python -m tests.page.browser
	$(BIN)/python -m pytest -m 'not slow' $(SIDE_BY_SIDE) $(RETRY)

lint: .venv/.dev  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.dev  ## let ruff lay the code out
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

check: lint  ## everything slower than `make test`
	$(BIN)/python -m pytest -m 'slow and not alone' $(SIDE_BY_SIDE) $(RETRY)
	$(BIN)/python -m pytest -m any_containers --emulator-containers zygote $(SIDE_BY_SIDE) $(RETRY)
	$(BIN)/python -m pytest -m alone $(RETRY)
	$(BIN)/python -m tests.pythons
	$(BIN)/python -m tests.sglang.environment --or-without
	$(BIN)/python -m pytest tests/sglang -m engines $(ENGINES_SIDE_BY_SIDE) $(RETRY)

test-sglang: .venv/.dev  ## real engines: SGLang, on the CPU in .venvs/sglang (1.3 GB), and llama.cpp before the same tests
	$(BIN)/python -m tests.sglang.environment
	$(BIN)/python -m pytest tests/sglang -m engines $(ENGINES_SIDE_BY_SIDE) $(RETRY) $(ARGS)

test-gpu: .venv/.dev  ## SGLang on a machine with CUDA (SGLANG_PYTHON=… has it); says so where there is none
	$(BIN)/python -m pytest tests/gpu -m gpu -s $(ARGS)

conformance: .venv/.dev  ## real clients and raw sockets against the service (ARGS="--base-url …": a deployment)
	$(BIN)/python -m pytest tests/conformance $(ARGS)

docs: .venv/.dev  ## write the documents that are made from the code (configuration, API reference, Postman collection)
	$(BIN)/python -m tests.documents

wheel: .venv/.dev  ## build the emulator's wheel into dist/
	$(BIN)/uv build --system-certs --quiet --wheel --python $(BIN)/python

bench: .venv/.dev  ## the figures: the whole path against the engine direct
	$(BIN)/python -m tests.benchmarks.whole_path

bench-emulator: .venv/.dev  ## the figures: what the emulator costs, and chunks through it
	$(BIN)/python -m tests.benchmarks.emulator
	$(BIN)/python -m tests.benchmarks.emulator_web
	$(BIN)/python -m tests.benchmarks.fixtures
	$(BIN)/python -m tests.benchmarks.volumes

bench-state: .venv/.dev  ## the figures: what it costs that a turn is stored
	$(BIN)/python -m tests.benchmarks.state

bench-gateway: .venv/.dev  ## the figures: what the service costs beside other gateways (installs them into .venvs)
	$(BIN)/python -m tests.benchmarks.gateway

bench-page: .venv/.dev  ## the figures: what the chat page costs a browser (needs Chromium)
	$(BIN)/python -m tests.benchmarks.chat_page

bench-web-import: .venv/.dev  ## the figures: what a web container loads before its first answer, beside a bare FastAPI application
	$(BIN)/python -m tests.benchmarks.web_import

demo-model:  ## train the demo model again, from its corpus
	functions/demo/train.sh

demo-eval: setup  ## what the demo model answers to questions that it was not trained on
	$(BIN)/python -m functions.demo.evaluate $(ARGS)

page: page/node_modules/.installed  ## build the chat page from page/src into web/static (needs Node.js 20 or later)
	cd page && npm run --silent check-types && npm run --silent build

page/node_modules/.installed: page/package-lock.json
	cd page && npm ci --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

lock: .venv/.dev  ## compile the requirements files from pyproject.toml
	UV=$(BIN)/uv requirements/compile.sh

clean:  ## remove what the other targets made
	rm -rf .venv .venvs dist page/node_modules .pytest_cache .mypy_cache .ruff_cache .modal-emulator
