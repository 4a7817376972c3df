# make lab: install, build the embedded world, open the dashboard (DEMO=0: without a demo run).   make class: the same for a room, with two links.   make notebook: Jupyter.   make test: style, types and the quick tests.   make extended: browser tests and long cases, as in CI.   make slow: the long trials.
# make real: a real model from PyPI, the whole way (PAIRS=transcripts.jsonl.gz: on pairs of HH-RLHF's layout instead of own ones).   make real-methods PAIRS=...: four methods on it, five to six hours of one core.
PYTHON ?= python3
BIN := .venv/bin
PORT ?= 8501
DEMO ?= 1

.PHONY: lab class notebook test extended slow real real-methods wheel bench glossary clean

lab: .venv/.lab
	@$(BIN)/python -m app --port $(PORT) $(if $(filter 0 no off false,$(DEMO)),--no-demo)

class: .venv/.lab  # HOST=ADDRESS: on one address of this machine only
	@$(BIN)/python -m app --class --port $(PORT) $(if $(HOST),--host $(HOST)) $(if $(filter 0 no off false,$(DEMO)),--no-demo)

notebook: .venv/.lab
	@$(BIN)/jupyter lab notebooks --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate

test: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy lab app
	LAB_CACHE=$(CURDIR)/.test-cache $(BIN)/python -m lab world  # once, before two test processes would wait for it
	LAB_TEST_CACHE=$(CURDIR)/.test-cache $(BIN)/python -m pytest -n 2 -m "not slow and not extended and not browser"

extended: .venv/.dev  # browser tests and long cases
	LAB_TEST_CACHE=$(CURDIR)/.test-cache $(BIN)/python -m pytest -n 2 -m "not slow and (extended or browser)"

slow: .venv/.dev
	$(BIN)/python -m pytest -m slow

real: .venv/.real
	$(BIN)/python -m tests.real.trial $(if $(PAIRS),--pairs $(PAIRS))

real-methods: .venv/.real
	$(if $(PAIRS),,$(error Give the pairs, as in make real-methods PAIRS=harmless-base-test.jsonl.gz))
	$(BIN)/python -m tests.real.methods --pairs $(PAIRS)

wheel: .venv/.dev
	LAB_CACHE=$(CURDIR)/.test-cache $(BIN)/python -m tests.packaging.trial

glossary: .venv/.dev  # writes the guide's glossary from lab/glossary/
	@$(BIN)/python -c 'from pathlib import Path; from lab.glossary import glossary_markdown as text; \
	  page = Path("app/guide/glossary.md"); page.write_text(page.read_text().partition("###")[0] + text() + "\n")'

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

.venv/.real: .venv/.dev requirements-real.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-real.txt
	@touch $@

clean:
	rm -rf .venv .test-cache .pytest_cache .ruff_cache .mypy_cache
