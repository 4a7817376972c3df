# make lab: install, build the embedded world, open the dashboard.   make notebook: Jupyter.   make test: all checks.   make slow: the long trials.
PYTHON ?= python3
BIN := .venv/bin
PORT ?= 8501

.PHONY: lab notebook test slow bench clean

lab: .venv/.lab
	@$(BIN)/python -m app --port $(PORT)

notebook: .venv/.lab
	@$(BIN)/jupyter lab notebooks --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate

test: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy lab app
	LAB_CACHE=$(CURDIR)/.test-cache $(BIN)/python -m lab world  # once, before two test processes would wait for it
	LAB_TEST_CACHE=$(CURDIR)/.test-cache $(BIN)/python -m pytest -n 2 -m "not slow"

slow: .venv/.dev
	$(BIN)/python -m pytest -m slow

bench: .venv/.dev
	@ls tests/bench/bench_*.py | xargs -n 1 -I{} sh -c 'echo "== {}"; $(BIN)/python -m $$(echo {} | tr / . | sed "s/\.py$$//")'

.venv/.lab: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

.venv/.dev: .venv/.lab requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

clean:
	rm -rf .venv .test-cache .pytest_cache .ruff_cache .mypy_cache
