# make train   environment, data, training, evaluation, report        make test   lint and tests
PYTHON ?= python3
PIP_ARGS ?=
python := .venv/bin/python

.PHONY: train test test-slow compare lint format env clean

train: env
	$(python) train.py

test: env lint
	$(python) -m pytest -m "not slow" -q

test-slow: env .venv/compare
	$(python) -m pytest -m slow -q

# Speed and accuracy of the solvers beside independent codes.
compare: env .venv/compare
	$(python) -m benchmarks.solvers

lint: env
	$(python) -m ruff check .
	$(python) -m ruff format --check .

format: env
	$(python) -m ruff check --fix .
	$(python) -m ruff format .

env: .venv/ready

# Made once; remove .venv to make it anew. The mark is written last, so that an interrupted
# installation is taken up again.
.venv/ready:
	$(PYTHON) -m venv .venv
	$(python) -m pip install --quiet --requirement requirements.lock $(PIP_ARGS)
	touch $@

# What the comparisons need besides, at versions that change none of the others.
.venv/compare: requirements-compare.lock | .venv/ready
	$(python) -m pip install --quiet --constraint requirements.lock --requirement requirements-compare.lock $(PIP_ARGS)
	touch $@

clean:
	rm -rf .venv .pytest_cache .ruff_cache
