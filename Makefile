# Needs Python 3.10 or newer, make and a compiler; the rest goes into .venv.
#   make test     lint, types, import contracts and all tests
#   make demo     the whole protocol on phantoms
#   make bench    the benchmarks (make bench BENCH="startup" for some of them)
#   make fuzz     every parser with made-up bytes (make fuzz MINUTES=2)
#   make build    sdist and wheel in dist/
#   make clean    removes all of this again, .venv too

PYTHON ?= python3
BENCH ?=
MINUTES ?= 10
BIN := .venv/bin
# What decides about the contents of .venv.
SOURCES := pyproject.toml build_backend/nnunet_cel_build.py

.PHONY: test demo bench build fuzz clean

test: .venv/.installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

demo: .venv/.installed
	$(BIN)/nnunet-cel demo

bench: .venv/.installed-for-tests
	$(BIN)/python -m benchmarks $(BENCH)

build: .venv/.installed-for-tests
	rm -rf build dist
	$(BIN)/python -m build

fuzz: .venv/.installed-for-tests
	$(BIN)/python -m pip install atheris
	$(BIN)/python -m fuzz all --minutes $(MINUTES)

clean:
	rm -rf .venv build dist *.egg-info .hypothesis .import_linter_cache
	rm -rf .mypy_cache .pytest_cache .ruff_cache nnunet_cel_demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv

# Older versions of pip do not know --group.
.venv/.installed: $(SOURCES) | .venv/bin/python
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python -m pip install --editable '.[demo]'
	touch $@

.venv/.installed-for-tests: .venv/.installed
	$(BIN)/python -m pip install --editable '.[demo]' --group test --group lint
	touch $@
