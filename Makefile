# make demo: train a tiny Qwen2.5-VL with the ranked reward.  make test: every check of the core and
# TRL.  make test-trainers: verl and the plugins, each in an environment of its own.
# make docs: these pages as HTML, with every plot and notebook made anew.
# make study: the runs behind docs/evidence.md, anew; stop it, and it goes on next time.
# make bench: every figure of docs/performance.md, in five minutes on two quiet cores.
PYTHON ?= python3
SEED ?= 0
STEPS ?= 150
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo study test test-trainers test-verl test-plugins bench docs linkcheck clean

demo: .venv/demo
	$(BIN)/python examples/digits/demo.py --seed $(SEED) --steps $(STEPS) --out runs/demo

# Hours: nice leaves the machine to others, and one thread a worker is what it was measured with.
study: .venv/demo
	nice -n 19 $(BIN)/python examples/study/study.py --workers 2

test: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile  # one thread a worker, one worker a file

# verl and EasyR1 are both called verl, and every trainer wants another transformers.
test-trainers: test-verl test-plugins

test-verl: .venv-verl/ready
	OMP_NUM_THREADS=1 RAY_AUTH_MODE=disabled .venv-verl/bin/python -m pytest tests/trainers/verl

test-plugins: .venv-plugins/ready
	OMP_NUM_THREADS=1 RAY_AUTH_MODE=disabled .venv-plugins/bin/python -m pytest tests/trainers/plugins

# No benchmark fails for being slow: the goals stand in the report alone.
bench: .venv/test
	@mkdir -p runs
	OMP_NUM_THREADS=1 $(BIN)/pytest benchmarks --benchmark-json=runs/benchmarks.json
	$(BIN)/python benchmarks/report.py
	$(BIN)/python benchmarks/simulate.py

# Into build/docs: every page, plot and notebook. A warning, a dead link or a public name on no page
# of the API is an error.
docs: .venv/docs
	@rm -rf build/docs build/doctrees docs/plots
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -n -W --keep-going -q -d build/doctrees docs build/docs
	@echo "Open build/docs/index.html"

# The links that leave the pages, for which it needs the network.
linkcheck: .venv/docs
	$(BIN)/python -m sphinx -b linkcheck -d build/doctrees docs build/linkcheck

# torch goes in first and alone: without it another package may bring a build of several gigabytes.
.venv/torch: constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	@echo "Installing into .venv; this takes some minutes once."
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt torch
	@touch $@

.venv/demo: .venv/torch pyproject.toml
	$(BIN)/pip install -q -c constraints.txt -e '.[demo]'
	@touch $@

.venv/test: .venv/demo
	$(BIN)/pip install -q -c constraints.txt -e '.[demo,ray,bench,dev]'
	@touch $@

.venv/docs: .venv/demo
	$(BIN)/pip install -q -c constraints.txt -e '.[docs]'
	@touch $@

# All pinned: the trainers' own lists hold vLLM, DeepSpeed and flash-attn, which need a GPU.
.venv-%/ready: constraints-%.txt pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install -q --no-deps -r $<
	$(@D)/bin/pip install -q --no-deps -e .
	@touch $@

clean:
	rm -rf .venv .venv-verl .venv-plugins runs build docs/plots .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
