# For work on the template itself; a generated project has a Makefile of its own.
# All paths are relative, so that a checkout may lie in a folder with any name.

.DEFAULT_GOAL := help
.PHONY: help demo test test-engines test-long start-engines format

PIP := 26.3
venv := .venv/bin/python

help:  ## show this list
	@echo "make WHAT, where WHAT is one of"
	@sed -n 's/^\([a-z-]*\):.*  ## /  \1\t/p' Makefile | expand -t 18

demo: .venv/.ready  ## make a project in demo/, train in it on this machine and on the grid, show what comes out
	@$(venv) tools/demo.py

test: .venv/.ready  ## all tests that need no scheduler and no root; ARGS="-k licence" runs some
	$(venv) -m black --check .
	$(venv) -m pytest --ignore=tests/engines -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-engines: .venv/.ready start-engines  ## tests on a real Grid Engine and a real Slurm, installed and started if none runs (root, Debian); ENGINE=slurm: only there
	$(venv) -m pytest tests/engines $(ENGINE:%=-k %) $(ARGS)

test-long: .venv/.ready start-engines  ## those of them that take minutes: arrays of many tasks
	$(venv) -m pytest tests/engines -m long --timeout 1800 $(ENGINE:%=-k %) $(ARGS)

start-engines:
	@test "$$(id -u)" = 0 || { echo "make $(MAKECMDGOALS) installs and starts schedulers: run it as root" >&2; exit 1; }
	$(foreach engine,$(or $(ENGINE),gridengine slurm),tests/engines/start_$(engine).sh &&) true

format: .venv/.ready  ## format all Python code with black
	$(venv) -m black .

# The tools that pyproject.toml pins, once. The pinned versions have ready-made wheels for Python 3.11 to 3.14; one without
# the module venv (Debian's python3 alone) is passed by.
.venv/.ready: pyproject.toml
	@for python in "$$PYTHON" python3 python3.14 python3.13 python3.12 python3.11; do \
	    if "$$python" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then \
	        echo "making .venv with $$("$$python" --version) ..."; \
	        "$$python" -m venv --clear .venv && \
	        $(venv) -m pip install --quiet --disable-pip-version-check pip==$(PIP) && \
	        $(venv) -m pip install --quiet --group dev && \
	        touch $@; exit; \
	    fi; \
	done; \
	echo "No Python 3.11 to 3.14 with its module venv was found. Install one (Debian and Ubuntu: apt install python3" >&2; \
	echo "python3-venv) or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; \
	exit 1
