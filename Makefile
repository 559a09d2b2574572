# Two commands on a fresh machine: `make demo` and `make test`. Each sets up .venv by itself.
#
# PYTHON       the interpreter to build on, 3.11 or newer
# TORCH_INDEX  a wheel index for torch. Without one, Linux gets PyPI's wheel, which brings several GB of CUDA libraries;
#              on a machine without a GPU: make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
# Where results of `make benchmark-*` are written.
RESULTS ?= docs/results
# Peers of `make benchmark-gloo`: a checkout of gloo with its benchmark built, a checkout of PARAM. Both may be left out.
GLOO ?=
PARAM ?=
# Parts (A, B, C) or stages of `make gpu`; all of them without.
GPU_PARTS ?=
# AG News' articles for `make benchmark-data`, one a line; 7,600 are enough, they are repeated.
ARTICLES ?= ../shared/data/ag_news_csv/test.csv
# `make benchmark-trace-load`: a real trace, and a folder for HolisticTraceAnalysis' own environment, which may be left out.
TRACE ?= ../shared/data/traces/v100_2gpu_allreduce_r1/df_index_resolver.json.gz
HTA ?=
# `make benchmark-trace-peers`: the traces, and the Python that has the peers.
TRACES ?= $(wildcard ../shared/data/traces/*/*.json*)
PEERS ?=
# Published throughputs for `make benchmark-extrapolation`, and those over several nodes.
TABLE ?= ../shared/data/scaling/scaling.csv
PUBLISHED ?= ../shared/data/scaling/published.csv
# Published logs for `make benchmark-cost`.
LOGS ?= ../shared/data/nccl_logs

.PHONY: demo test test-quick test-faults check design picture examples fuzz clean gpu \
	benchmark-prediction benchmark-startup benchmark-telemetry benchmark-copies benchmark-gloo benchmark-sweep benchmark-testbed \
	benchmark-testbed-study benchmark-prediction-grid benchmark-sharded-grid benchmark-training-cost benchmark-data benchmark-ag-news \
	benchmark-trace-load benchmark-trace-peers benchmark-trace-growth benchmark-guidelines benchmark-report benchmark-extrapolation \
	benchmark-prediction-speed benchmark-cost benchmark-explorer benchmark-foreign-grid benchmark-foreign-programs benchmark-fabrics \
	benchmark-slow-host benchmark-slow-host-simulated benchmark-sharded-memory benchmark-sharded-published benchmark-deepspeed-zero

demo: $(VENV)/installed
	$(VENV)/bin/commprof study configs/study-demo.yaml

# Containers often forbid Python to keep compiled files; every worker would rewrite all tests anew, every process compile us.
test test-quick test-faults: export PYTHONDONTWRITEBYTECODE =

# A worker that dies ends the run, which would wait for it else; whatever else hangs ends with the half hour.
IN_TIME := timeout --foreground --verbose --kill-after 30s 30m
PYTEST := $(IN_TIME) $(VENV)/bin/pytest --numprocesses auto --max-worker-restart 0
PYTEST_ALONE := $(IN_TIME) $(VENV)/bin/pytest --last-failed --last-failed-no-failures none

# Real processes come late where others have the cores: what failed in company runs once more, alone, and fails where it fails again.
test: $(VENV)/installed-dev
	$(PYTEST) || { test $$? -eq 1 && echo "what failed beside other tests, once more and alone:" && $(PYTEST_ALONE); }

# Starts no process and needs no root; a test that would is marked, or fails.
test-quick: $(VENV)/installed-dev
	$(PYTEST) -m "not processes" tests/unit

# Every combination of verb, phase, signal and target; `make test` runs some that cover all pairs.
test-faults: $(VENV)/installed-dev
	COMMPROF_EVERY_FAULT=1 $(VENV)/bin/pytest tests/faults

check: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/shellcheck --external-sources .ci/run slurm/*

# A million inputs that nobody meant, to every reader and every record, at the lowest priority: minutes on a quiet core.
fuzz: $(VENV)/installed-dev
	nice -n 19 $(VENV)/bin/python -m tests.fuzz.campaign --out $(RESULTS)

# docs/design.svg, from the import graph as it is now; a test fails where the two differ.
design: $(VENV)/installed-dev
	$(VENV)/bin/python -m docs.drawing.design

# docs/examples: three reports to look at before anything is measured.
examples: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.examples

# docs/picture.png: the top of an example's page, and the six lines beside it in README. Needs Chromium.
picture: examples
	$(VENV)/bin/python -m benchmarks.picture

benchmark-prediction: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.prediction_error --out $(RESULTS)

# Its made-up runs come from tests/, which lie beside it in a checkout.
benchmark-prediction-speed: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.prediction_speed --out $(RESULTS)

benchmark-startup: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.startup --out $(RESULTS)

benchmark-telemetry: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.telemetry_cost --out $(RESULTS)

# Needs a GPU.
benchmark-copies: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.host_device_copies --out $(RESULTS)

# What a machine with a GPU is asked first; with GPU_PYTHON, another interpreter's packages (torch 2.11 on Python 3.12, say).
GPU_PYTHON ?= $(VENV)/bin/python
gpu: $(VENV)/installed-dev
	$(GPU_PYTHON) -m benchmarks.gpu.figures $(GPU_PARTS) --out $(RESULTS)

# Takes a real-time priority for every second sweep where it may.
benchmark-sweep: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.default_sweep --out $(RESULTS)

# The testbed needs root on Linux.
benchmark-testbed: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.testbed_truth --out $(RESULTS)

# Needs root; goes on where it was left, for MINUTES of it.
benchmark-slow-host: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.slow_host --out $(RESULTS) --minutes $(MINUTES)

# Its made-up pairs come from tests/.
benchmark-slow-host-simulated: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.slow_host_simulated --out $(RESULTS)
# Root; goes on where it was left, for MINUTES of it. A few of them: make benchmark-fabrics PARTS="alike-2 slow-2"
benchmark-fabrics: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.fabrics $(PARTS) --out $(RESULTS) --minutes $(MINUTES)
	$(VENV)/bin/python -m benchmarks.fabric_step --out $(RESULTS)

benchmark-testbed-study: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.testbed_study --out $(RESULTS)

benchmark-prediction-grid: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.prediction_grid --out $(RESULTS)

# Needs root; goes on where it was left, for MINUTES of it.
MINUTES ?= 60
benchmark-foreign-grid: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.foreign_grid --out $(RESULTS) --minutes $(MINUTES)

# Needs root; a program whose library FRAMEWORKS_PYTHON does not have is skipped by name.
benchmark-foreign-programs: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.foreign_programs --out $(RESULTS) --minutes $(MINUTES)

benchmark-sharded-grid: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.sharded_grid --out $(RESULTS) --minutes $(MINUTES)

benchmark-deepspeed-zero: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.deepspeed_zero --out $(RESULTS) --minutes $(MINUTES)

benchmark-sharded-published: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.sharded_published $(PUBLISHED) --out $(RESULTS)

benchmark-sharded-memory: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.sharded_memory --out $(RESULTS)

benchmark-training-cost: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.training_cost --out $(RESULTS) --minutes $(MINUTES)

benchmark-gloo: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.gloo_peer --out $(RESULTS) $(if $(GLOO),--gloo $(GLOO)) $(if $(PARAM),--param $(PARAM))

benchmark-ag-news: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.ag_news_accuracy $(ARTICLES) --out $(RESULTS)

benchmark-data: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.data_start $(ARTICLES) --out $(RESULTS)

benchmark-trace-load: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.trace_load --out $(RESULTS) --trace $(TRACE) $(if $(HTA),--hta $(HTA))

# Needs PEERS, the Python of an environment in which HolisticTraceAnalysis and TraceLens can be imported.
benchmark-trace-peers: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.trace_peers $(TRACES) --peers $(PEERS) --own $(VENV)/bin/python --out $(RESULTS) --note "$(NOTE)"

benchmark-trace-growth: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.trace_growth --out $(RESULTS)

benchmark-guidelines: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.guidelines --out $(RESULTS)

# Chromium, where there is one, tells when a page is ready.
benchmark-report: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.report_cost --out $(RESULTS)

benchmark-extrapolation: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.extrapolation $(TABLE) --out $(RESULTS)
	$(VENV)/bin/python -m benchmarks.extrapolation_relative $(PUBLISHED) $(TABLE) --out $(RESULTS)

benchmark-cost: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.cost_error $(LOGS) --out $(RESULTS)

# Needs Chromium.
benchmark-explorer: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.explorer_speed --out $(RESULTS)

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "commprof needs Python 3.11 or newer; name one with make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "python3 cannot make virtual environments; apt-get install python3-venv" >&2; exit 1; }

$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --editable '.[dev]'
	@touch $@
