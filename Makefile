# Every command makes what it needs. A fresh machine has to bring Python 3.11 or later, make and git.
PYTHON ?= python3
UV_VERSION := 0.13.9
TORCHDISTILL_VERSION := 1.1.5

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
NOTEBOOKS = $(sort $(wildcard book/*.ipynb))
# Two of the scripts are no experiment to repeat: the record of runs, and the benchmark.
EXPERIMENTS = $(filter-out %/runlog.py %/bench_training.py, $(sort $(wildcard book/experiments/*.py)))

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help book test check lint notebooks experiments bench serve pdf lock set-repository clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# An uv on the PATH is used where there is one; otherwise pip puts this version into the environment.
# The kernel that runs the notebooks comes with ipykernel; nothing is installed outside of .venv.
$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12 book")'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	command -v uv >/dev/null || $(PY) -m pip install --quiet uv==$(UV_VERSION)
	uv pip install --python $(PY) --requirement requirements.txt
	uv pip install --python $(PY) --no-deps --no-build-isolation --editable .
	touch $@

# The environment of Sphinx remembers pages but not their warnings, so a strict build has to start from nothing.
book: $(READY)  ## build the site into _build/html; any warning is an error
	rm -rf _build
	jupyter-book build . -n -W --keep-going -q
	@echo "The book is in _build/html/index.html (make serve shows it)."

test: $(READY) lint book  ## everything: lint, unit tests, strict build, built pages, papermill, nbval on every notebook
	$(PY) -m pytest tests
	$(PY) -m pytest --nbval-lax --nbval-cell-timeout=1200 --durations=10 $(NOTEBOOKS)

check: $(READY) lint  ## lint and the quick tests, under a minute
	$(PY) -m pytest -m "not slow and not site" tests

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
bench: $(READY)  ## time an epoch of distillation, written in four ways; wants a machine with nothing else to do
	uv pip install --python $(PY) --no-deps torchdistill==$(TORCHDISTILL_VERSION)
	$(PY) book/experiments/bench_training.py

serve: book  ## build, then show the site on http://127.0.0.1:8000
	$(PY) -m http.server --bind 127.0.0.1 --directory _build/html 8000

pdf: book  ## build, then print the whole site into _build/book.pdf; wants Chromium
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
