# The commands of xiqa. Each makes .venv on first use; nothing outside this folder is touched (only
# studies of real patients keep the secret of their pseudonyms elsewhere: pseudonym_key in config/README.md).
PYTHON ?= python3
BIN := .venv/bin
CORES ?= all
WORKERS ?= 2
export MLFLOW_DISABLE_TELEMETRY := true
# Compiled modules are kept: without them each of the many short jobs compiles torch again, 2 s every time.
unexport PYTHONDONTWRITEBYTECODE
# Scripts run by snakemake find the same interpreter.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: results quick full plan test test-all lint types style format ui report docs tutorials bench schema

results: .venv/installed
	snakemake --cores $(CORES)

quick: .venv/installed
	snakemake --cores $(CORES) --configfile config/quick.yaml

full: .venv/installed
	snakemake --cores $(CORES) --configfile config/full.yaml

# What a study will cost, without starting it: make plan, or make plan STUDY=my-study.yaml.
STUDY ?=
plan: .venv/installed
	python workflow/scripts/report/plan_study.py $(STUDY) $(if $(filter-out all,$(CORES)),--cores $(CORES))

# A file of tests stays with one worker, which makes its fixtures once; long files come first (tests/conftest.py).
TESTS = python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

SELECT ?= not long
test: lint
	$(TESTS) -m "$(SELECT)"

test-all: lint
	$(TESTS) --hypothesis-profile=explore

lint: .venv/tools
	$(MAKE) --no-print-directory --jobs 2 --output-sync=target types style

types: .venv/tools
	mypy src

style: .venv/tools
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow/rules
	snakemake --lint

format: .venv/tools
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow/rules

# Another study: make ui RESULTS=results/quick
RESULTS ?= results
ui: .venv/installed
	python -m xiqa.tracking_ui "$(RESULTS)"

report: .venv/installed
	snakemake --report results/report.html

# Pages to read in a browser: build/docs/index.html. A link that leads nowhere stops it (with --quiet, it would not).
docs: .venv/tools
	python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --requirement envs/docs.txt
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict
	@echo "Open build/docs/index.html"

# Run the notebooks again, each in an empty folder, and keep what they show.
tutorials: .venv/tools
	python docs/notebooks.py

bench: .venv/tools
	python tests/benchmarks/gradient_speed.py
	python tests/benchmarks/fuzz_readers.py
	python tests/benchmarks/simulator_speed.py
	python tests/benchmarks/read_speed.py
	python tests/benchmarks/training_speed.py
	python tests/benchmarks/saliency_speed.py
	python tests/benchmarks/first_call_speed.py
	python tests/benchmarks/metrics_speed.py
	python tests/benchmarks/fidelity_speed.py
	python tests/benchmarks/fidelity_speed.py --precision bf16
	python tests/benchmarks/interval_coverage.py

schema: .venv/tools
	python -c "from xiqa.config import write_documents; write_documents('.')"
	python -c "from xiqa.qc.record import write_documents; write_documents('.')"
	python -m xiqa.report formats >docs/reference/formats.md
	python -m xiqa.report paper_settings docs/reference/paper_settings.csv >docs/reference/paper-settings.md

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'xiqa needs Python 3.11 or newer; name one with make PYTHON=...')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@echo "Compiling the loops of xiqa, once: a minute."
	$(BIN)/python -m xiqa.compile
	touch $@

# What tests, lint and tutorials need, and no user.
.venv/tools: requirements-dev.lock .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements-dev.lock
	touch $@
