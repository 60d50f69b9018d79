# Needs Python 3.10 or newer, make and a compiler; the rest goes into .venv.
#   make test     lint, types, import contracts and tests
#   make test-all the same with the campaigns: kills, faults, damaged files, all networks
#   make demo     the whole protocol on phantoms
#   make bench    the benchmarks (make bench BENCH="startup" for some of them)
#   make fuzz     every parser with made-up bytes (make fuzz MINUTES=2)
#   make build    sdist, wheel and bill of materials (CycloneDX) in dist/
#   make audit    compares what is installed with known vulnerabilities
#   make lock     installs anew, and writes down the versions for .ci/run
#   make clean    removes all of this again, .venv too

PYTHON ?= python3
BENCH ?=
MINUTES ?= 10
BIN := .venv/bin
VERSION = $(shell $(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
# What decides about the contents of .venv.
SOURCES := pyproject.toml build_backend/nnunet_cel_build.py

.PHONY: test test-all checks demo bench build audit lock fuzz clean

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test: checks
	$(PYTEST)

test-all: checks
	$(PYTEST) -m "campaign or not campaign"

# The contracts are checked on the package as it is installed, with the folders that
# are mapped into it.
checks: .venv/.installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	rm -rf build
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --no-index \
		--target build/installed .
	PYTHONPATH=build/installed $(BIN)/lint-imports

demo: .venv/.installed
	$(BIN)/nnunet-cel demo

bench: .venv/.installed-for-tests
	$(BIN)/python -m benchmarks $(BENCH)

build: .venv/.installed-for-tests
	rm -rf build dist
	$(BIN)/python -m build
	$(PYTHON) -m venv build/released
	build/released/bin/python -m pip install dist/*.whl
	$(PYTHON) -m venv build/tools
	build/tools/bin/python -m pip install cyclonedx-bom
	build/tools/bin/cyclonedx-py environment build/released --pyproject pyproject.toml \
		--output-file dist/nnunet_cel.cdx.json

audit: .venv/.installed-for-tests
	$(PYTHON) -m venv build/tools
	build/tools/bin/python -m pip install pip-audit
	$(BIN)/python -m pip freeze --exclude-editable > build/installed.txt
	build/tools/bin/pip-audit --strict --disable-pip --no-deps \
		--requirement build/installed.txt

lock: clean .venv/.installed-for-tests
	$(BIN)/python -m pip freeze --exclude-editable > .ci/lock-python$(VERSION).txt

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
