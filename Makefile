# The two commands of a newcomer are `make demo` and `make test`; both set everything up first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup browser demo test test-all test-vllm study lint types check bench clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("specs-eval needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

BROWSERS := chromium chromium-browser google-chrome
HAS_BROWSER := command -v chromedriver >/dev/null && for name in $(BROWSERS); do command -v $$name >/dev/null && exit 0; done; exit 1
GET_BROWSER := test "$$(id -u)" = 0 && timeout 120 apt-get update -qq && timeout 300 apt-get install -y -qq chromium chromium-driver

browser:  ## Chromium for the tests of the report, where root may install it; without it they are skipped
	@($(HAS_BROWSER)) || { $(GET_BROWSER); } >/dev/null 2>&1 || true
	@($(HAS_BROWSER)) || echo "no Chromium with chromedriver: the tests of the report in a browser are skipped"

demo: setup  ## take a tiny VLM through all stages of training, evaluated as it goes; ends with report.html
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/specs-eval demo  # on so small a model, threads mostly wait for each other

test: setup browser  ## everything but the tests marked slow
	$(BIN)/pytest -q -m "not slow"

test-all: setup browser
	$(BIN)/pytest -q

VLLM_VENV ?= .venv-vllm

test-vllm:  ## vLLM on the CPU, in an environment of its own: the vllm backend, and vllm serve with the openai backend
	$(PYTHON) tests/vllm/make_environment.py $(VLLM_VENV)
	OMP_NUM_THREADS=1 $(VLLM_VENV)/bin/python -m pytest -q tests/vllm

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## mypy sees what ships, not the repository root (where specs_eval/ would shadow the other rooms)
	rm -rf build/typecheck build/lib build/bdist.*
	$(BIN)/python -m pip install --quiet --no-deps --target build/typecheck .
	cd build/typecheck && ../../$(BIN)/mypy --config-file ../../pyproject.toml --python-executable ../../$(BIN)/python -p specs_eval

check: lint types test

study: setup  ## the experiment of docs/study.md over many seeds: hours on two cores; killed, it goes on
	$(BIN)/python benchmarks/study/study.py --output study

bench: setup
	$(BIN)/python benchmarks/bench_rollouts.py
	$(BIN)/python benchmarks/bench_overhead.py
	$(BIN)/python benchmarks/bench_startup.py

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
