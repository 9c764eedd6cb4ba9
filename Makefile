# SPDX-License-Identifier: Apache-2.0
# Everything a person types in this checkout. Needs make, git and Python 3.11 or newer; no root.
# PIP_* variables of the environment (mirrors, caches, certificates) are honoured as they are.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed

# Arguments for the program behind a target, e.g. make demo ARGS="--story errors".
ARGS ?=

# Tests side by side, of those that do not wait.
JOBS ?= 2

# Clusters side by side; each waits for time to pass most of the time.
CLUSTERS ?= 5

# What else lives in real time, and takes its turn on the clusters' workers where all tests are run.
REALTIME := tests/demo tests/process tests/metrics/shapes

# Anything here, e.g. make test DEEP=1, has every matrix of tests run whole. Else each commit plays
# an eighth of the long ones, and eight in a row all of them.
DEEP ?=
SOME := $(if $(DEEP),,--some)

# What the suite spends its time with is told at its end.
SLOWEST := --durations=25 --durations-min=15

# The tests that core/ is measured by: its own, and the quick ones of what stands right above it.
COVERING := tests/core tests/engine tests/http tests/cli

# Images for containers tend to switch bytecode off, and tests start hundreds of processes, each of
# which would compile every module anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-cluster check lint format coverage bench bench-evidence lock clean

help:
	@echo "make demo      whole rollouts on this machine, without a cluster (ARGS='--story good')"
	@echo "make test      every test"
	@echo "make test-cluster  those on a real control plane, which it builds once (ten minutes)"
	@echo "make check     what each commit must pass, in two minutes"
	@echo "make lint      style, types, direction of imports"
	@echo "make format    put the code into the house's format"
	@echo "make coverage  branch coverage of core/, at least 95 %, in some three minutes"
	@echo "make bench     figures: reaction times, memory, requests (two hours; ARGS=--short: a quarter of one)"
	@echo "make bench-evidence  the judge's promises as tables, by simulation (one to two hours; ARGS='peers --runs 50': a part, soon)"
	@echo "make venv      the environment in $(VENV)"
	@echo "make lock      resolve requirements.lock anew"

venv: $(READY)

# The lock names every package with its hash, the build backend included; nothing is resolved here.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Switchgear needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY)
	$(BIN)/switchgear demo $(ARGS)

# Tests that live in real time wait for most of it, and those that have a time of their own take what
# is left of the processors meanwhile, as the least important of all that runs. A failure of either
# lane is one of the whole. What the second one has to say is told when the first has ended. Both
# are waited for, since a shell hears no signal while something else is in front of it, and TERM
# may be sent to make alone.
test: $(READY)
	@mkdir -p .cache; status=0; \
	  nice -n 19 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --timeout 600 $(SOME) $(SLOWEST) \
	    $(REALTIME:%=--ignore=%) $(ARGS) > .cache/test.log 2>&1 & beside=$$!; \
	  $(MAKE) --no-print-directory test-cluster ALSO="$(REALTIME)" & front=$$!; \
	  trap "kill $$beside $$front; wait; exit 1" INT TERM; \
	  wait $$front || status=$$?; \
	  wait $$beside || beside=failed; cat .cache/test.log; \
	  [ $$status = 0 ] || echo "FAILED in real time, see above: make test-cluster ended with $$status"; \
	  [ "$$beside" != failed ] || status=1; exit $$status

# Whatever has to be fetched is fetched before the tests enter networks of their own, from which
# nothing is reached. Who is not root becomes so in a user namespace. Where building fails, the
# tests say what was left out and why, and fail in CI. These tests live in real time: what fails
# beside another cluster gets a second try of its own, and the summary of both is printed. Where
# requests or records may have been lost (a test marked `once`, or writes that do not match their
# records) the second try is for whoever looks into it, and the lane has failed
# (tests/cluster/conftest.py keeps the names). Only status 1 says that tests failed; an
# interruption, or what an earlier session noted as failed, is nothing that a second try may turn
# green.
test-cluster: $(READY)
	-$(BIN)/python -m tests.cluster.lab build
	@inside=""; \
	  if [ "$$(id -u)" != 0 ] && unshare --user --map-root-user true 2>/dev/null; then \
	    inside="unshare --user --map-root-user"; fi; \
	  set -- -o cache_dir=.cache/test-cluster --dist worksteal --timeout 300 --lab $(SOME) $(SLOWEST) \
	    tests/cluster $(ALSO) tests/contract $(ARGS); \
	  try() { $$inside $(BIN)/python -m pytest "$$@" & tried=$$!; wait $$tried; }; \
	  status=0; tried=; trap 'kill $$tried; wait; exit 1' INT TERM; \
	  try -n $(CLUSTERS) --cache-clear "$$@" || status=$$?; \
	  if [ $$status = 1 ]; then status=0; \
	    echo "what failed is tried once more, without a second cluster beside it"; \
	    try -n 1 --last-failed --last-failed-no-failures none -rap "$$@" || status=$$?; \
	    echo "SECOND TRY: what this last summary calls PASSED had failed before; find out why"; \
	  fi; exit $$status

check: lint
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow and not deep" $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

coverage: $(READY)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(JOBS) -m "not slow and not deep" $(COVERING) $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=95

bench: $(READY)
	$(BIN)/python -m tests.bench $(ARGS)

bench-evidence: $(READY)
	$(BIN)/python -m tests.bench.evidence $(ARGS)

# pip-tools is no dependency of anything here, so it gets an environment of its own.
lock:
	$(PYTHON) -m venv .cache/lock
	.cache/lock/bin/python -m pip install --quiet 'pip-tools>=7.6'
	$(PYTHON) -c 'import tomllib; print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"]))' > .cache/lock/dev.in
	.cache/lock/bin/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras \
	  --no-header --no-annotate --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	  --extra backtest --extra demo --output-file requirements.lock pyproject.toml .cache/lock/dev.in

clean:
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
