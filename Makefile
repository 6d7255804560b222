# Every command makes what it needs. A fresh machine has to bring Python 3.11 or later and make; what the checks and
# the PDF need beside them stands in tools/needs.py.
PYTHON ?= python3
UV_VERSION := 0.13.9
TORCHDISTILL_VERSION := 1.1.4

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
# Three of the scripts are no experiment to repeat: the record of runs, and the benchmarks.
EXPERIMENTS = $(filter-out %/runlog.py %/bench_training.py %/bench_chunked.py, $(sort $(wildcard book/experiments/*.py)))

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help python needs book test check lint notebooks experiments bench serve printer pdf lock set-repository clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12 book")'

needs: python  ## name what this machine lacks of what the checks need, with the command that brings it
	@$(PYTHON) -m tools.needs test

# An uv on the PATH is used where there is one; otherwise pip puts this version into the environment.
# The kernel that runs the notebooks comes with ipykernel; nothing is installed outside of .venv.
# An environment without pip was begun and not finished.
$(READY): requirements.txt pyproject.toml | python
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	command -v uv >/dev/null || $(PY) -m pip install --quiet uv==$(UV_VERSION)
	uv pip install --python $(PY) --requirement requirements.txt
	uv pip install --python $(PY) --no-deps --no-build-isolation --editable .
	touch $@

# The environment of Sphinx remembers pages but not their warnings, so a strict build has to start from nothing.
book: $(READY)  ## build the site into _build/html; any warning is an error
	rm -rf _build
	jupyter-book build . -n -W --keep-going -q
	@echo "The book is in _build/html/index.html (make serve shows it)."

# The order matters: what is missing is said before the environment is made.
test: needs $(READY)  ## everything: lint, strict build, unit tests, built pages, papermill, nbval on every notebook
	$(PY) -m tools.run_tests

# One thread: the tests train networks so small that a second one only waits for the first.
check: $(READY) lint  ## lint and the quick tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -m "not slow and not site" tests

lint: $(READY)
	ruff check .
	ruff format --check .
	check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml book/examples/*.yml
	check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

notebooks: $(READY)  ## run the chapters again and store their outputs; NAMES="01-background ..." for some of them
	$(PY) -m tools.execute_notebooks $(NAMES)

experiments: $(READY)  ## do the long runs in book/experiments again, one after the other
	set -e; for script in $(EXPERIMENTS); do echo "== $$script"; $(PY) "$$script"; done

# torchdistill is needed for nothing else; what it needs itself is in the environment.
bench: $(READY)  ## time an epoch written in nine ways, and measure memory at a large vocabulary (needs 20 GB)
	uv pip install --python $(PY) --no-deps torchdistill==$(TORCHDISTILL_VERSION)
	$(PY) book/experiments/bench_training.py
	$(PY) book/experiments/bench_chunked.py

serve: book  ## build, then show the site on http://127.0.0.1:8000
	$(PY) -m http.server --bind 127.0.0.1 --directory _build/html 8000

printer: python
	@$(PYTHON) -m tools.needs pdf

pdf: printer book  ## build, then print the whole site into _build/book.pdf; wants Chromium and its fonts
	$(PY) -m tools.make_pdf

set-repository: $(READY)  ## URL=https://github.com/you/your-book: write your repository's address wherever it stands
	$(PY) -m tools.set_repository "$(URL)"

# torch on Linux says itself which CUDA libraries it needs. They are left out of the list, so that the installer
# takes those of the build in hand: all of them for the index's CUDA build, none with UV_TORCH_BACKEND=cpu.
lock: $(READY)  ## compile requirements.txt from pyproject.toml again
	uv pip compile pyproject.toml --extra book --extra test --universal --python-version 3.11 --upgrade \
		--no-annotate --no-header --quiet --output-file requirements.new
	{ sed -n '/^#/p' requirements.txt; grep -Ev '^(nvidia-|cuda-|triton==)' requirements.new; } > requirements.both
	mv requirements.both requirements.txt
	rm requirements.new

clean:  ## remove the site and the environment
	rm -rf _build $(VENV) kdutils.egg-info .pytest_cache .ruff_cache .hypothesis
