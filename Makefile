# Every target sets up what it needs; nothing is downloaded but packages.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: answer test check lint fix wheel bench clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[test]'
	touch $@

$(VENV)/tools: $(VENV)/installed
	$(PIP) -e '.[dev]'
	touch $@

answer: $(VENV)/installed  ## ask a packaged picture at several budgets
	@for budget in 1 8 36 144; do \
		echo "budget $$budget:"; \
		$(BIN)/matryoshka-router answer examples/sign.png "what number is written" --budget $$budget || exit 1; \
	done

test: $(VENV)/installed  ## the fast test suite
	$(BIN)/python -m pytest

check: $(VENV)/installed  ## slow whole-path checks
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(VENV)/tools
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(VENV)/tools  ## build, install away from the source, answer once
	rm -rf dist build/wheel-venv
	$(BIN)/python -m build --wheel --outdir dist .
	$(PYTHON) -m venv build/wheel-venv
	build/wheel-venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	cd build/wheel-venv && bin/matryoshka-router answer ../../examples/sign.png "what number is written" --budget 64 --json

bench: $(VENV)/installed
	$(BIN)/python benchmarks/answer_latency.py
	$(BIN)/python benchmarks/sweep_cost.py
	$(BIN)/python benchmarks/sweep_command.py
	$(BIN)/python benchmarks/published.py

clean:
	rm -rf $(VENV) build dist *.egg-info
