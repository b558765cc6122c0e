# Tasks of developers and of continuous integration; CONTRIBUTING.md explains them.
# Another interpreter: make fast PYTHON=.venv/bin/python

PYTHON ?= python3
PYTEST = $(PYTHON) -m pytest

.DEFAULT_GOAL := help
.PHONY: help lint format types fast test coverage docs bench

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' Makefile

lint: ## check format and style
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .

format: ## format, and fix what can be fixed automatically
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

types: ## check types
	$(PYTHON) -m mypy

fast: ## run the tests that need no tools, in seconds
	$(PYTEST) -m fast

test: ## run all tests
	$(PYTEST)

# The fast tests, and those that run a whole gateway in the process of the test. Without the
# compiled core, so that the host calls in Python are measured.
coverage: ## measure branch coverage of the tests that start no server
	WAGI_CORE=off $(PYTEST) -m fast --cov --cov-report=
	WAGI_CORE=off $(PYTEST) tests/gateway tests/outbound tests/guest/test_hostcalls.py \
		--cov --cov-append --cov-report=term:skip-covered

docs: ## regenerate the generated pages, and build the site into build/site
	$(PYTHON) -m docs.make_pages
	$(PYTHON) -m wagi schema > docs/modules.schema.json
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --site-dir build/site

bench: ## measure speed; needs the tools that benchmarks/__main__.py names
	$(PYTHON) -m benchmarks
