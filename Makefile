# make train   environment, data, training, evaluation, report        make test   lint and tests
PYTHON ?= python3
PIP_ARGS ?=
python := .venv/bin/python

.PHONY: train test test-slow compare lint format env clean

train: env
	$(python) train.py

test: env lint
	OMP_NUM_THREADS=1 $(python) -m pytest -m "not slow" -q -n 2

test-slow: env .venv/extras
	$(python) -m pytest -m slow -q

# Speed of the solvers beside independent codes.
compare: env .venv/extras
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
	$(python) -m pip install --quiet --no-deps --requirement requirements-alone.lock $(PIP_ARGS)
	touch $@

# What comparisons, Zarr and clusters need besides, at versions that change none of the others.
.venv/extras: requirements-extras.lock | .venv/ready
	$(python) -m pip install --quiet --constraint requirements.lock --requirement requirements-extras.lock $(PIP_ARGS)
	touch $@

clean:
	rm -rf .venv .pytest_cache .ruff_cache
