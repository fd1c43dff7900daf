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

test: $(VENV)/installed  ## the fast test suite, a file at a time on each core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

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
	rm -rf dist build  # what an earlier build left would ride along
	$(BIN)/python -m build --wheel --outdir dist .
	$(PYTHON) -m venv build/wheel-venv
	build/wheel-venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	cd build/wheel-venv && for model in nano-mqt nano-m3; do \
		bin/matryoshka-router answer ../../examples/sign.png "what number is written" --budget 64 --backbone $$model --json \
		|| exit 1; \
	done
	! $(BIN)/python -m zipfile -l dist/*.whl | grep -E "^(tests|benchmarks|docs|examples)/"

bench: $(VENV)/installed
	$(BIN)/python benchmarks/answer_latency.py
	$(BIN)/python benchmarks/sweep_cost.py
	$(BIN)/python benchmarks/sweep_command.py
	$(BIN)/python benchmarks/published.py

clean:
	rm -rf $(VENV) build dist *.egg-info
