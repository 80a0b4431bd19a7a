# For work on the template itself; a generated project has a Makefile of its own.
# All paths are relative, so that a checkout may lie in a folder with any name.

.DEFAULT_GOAL := help
.PHONY: help demo test test-engines test-long start-engines bench lint lock format

PIP := 26.3
venv := .venv/bin/python
project := {{cookiecutter.project_slug}}
gridlib := $(patsubst %,'%',$(wildcard $(project)/gridlib))
scripts := .ci/run $(shell find . \( -name .venv -o -name env -o -name demo \) -prune -o -name '*.sh' -print | sed "s/.*/'&'/")
workflows := .github/workflows/*.yml '$(project)'/.github/workflows/*.yml

help:  ## show this list
	@echo "make WHAT, where WHAT is one of"
	@sed -n 's/^\([a-z-]*\):.*  ## /  \1\t/p' Makefile | expand -t 18

demo: .venv/.ready  ## make a project in demo/, train in it on this machine and on the grid, show what comes out
	@$(venv) tools/demo.py

test: lint  ## lint, and all tests that need no scheduler and no root; ARGS="-k licence" runs some
	$(venv) -m pytest --ignore=tests/engines -n 4 --dist worksteal $(ARGS)

test-engines: export HYPOTHESIS_PROFILE := thorough
test-engines: .venv/.ready start-engines  ## tests on a real Grid Engine and a real Slurm, installed and started if none runs (root, Debian); ENGINE=slurm: only there
	$(venv) -m pytest tests/engines -n 2 $(ENGINE:%=-k %) $(ARGS)
	$(if $(ENGINE)$(ARGS),,$(venv) -m pytest --ignore=tests/engines -n 4 --dist worksteal -m 'slow or thorough' $(ARGS))

test-long: .venv/.ready start-engines  ## those tests that take minutes: arrays of many tasks, thousands of runs, many kills
	$(venv) -m pytest tests/engines -n 2 -m long --timeout 1800 $(ENGINE:%=-k %) $(ARGS)
	$(if $(ENGINE)$(ARGS),,$(venv) -m pytest --ignore=tests/engines -m long --timeout 1800)

bench: .venv/.ready  ## measure what grid.py costs, beside a floor in the same run
	$(venv) benchmarks/bench.py

start-engines:
	@test "$$(id -u)" = 0 || { echo "make $(MAKECMDGOALS) installs and starts schedulers: run it as root" >&2; exit 1; }
	$(foreach engine,$(or $(ENGINE),gridengine slurm),tests/engines/start_$(engine).sh &&) true

lint: .venv/.ready  ## check format, code, types, shell scripts and workflows; changes nothing
	$(venv) -m black --check --quiet .
	$(venv) -m ruff check --quiet --config pyproject.toml .
	$(venv) -m mypy --no-error-summary '$(project)/grid.py' $(gridlib)
	.venv/bin/shellcheck --external-sources $(scripts)
	.venv/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows $(workflows)

format: .venv/.ready  ## format all Python code with black
	$(venv) -m black .

# Leading comments of a compiled list stay, and the versions in it, unless ARGS tells otherwise.
lock: .venv/.ready  ## compile the lists of packages, requirements.in, to exact versions; ARGS=-U takes the newest ones
	@for list in requirements '$(project)/environment/requirements'; do \
	    cp "$$list.txt" "$$list.new" && \
	    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
	        --no-emit-package colorama $(ARGS) "$$list.in" --output-file "$$list.new" && \
	    { sed '/^[^#]/,$$d' "$$list.txt"; cat "$$list.new"; } >"$$list.tmp" && mv "$$list.tmp" "$$list.txt"; \
	    code=$$?; rm -f "$$list.new" "$$list.tmp"; test $$code = 0 || exit $$code; \
	done

# The tools that requirements.txt pins, once. The pinned versions have ready-made wheels for Python 3.11 to 3.14; one without
# the module venv (Debian's python3 alone) is passed by.
.venv/.ready: requirements.txt
	@for python in "$$PYTHON" python3 python3.14 python3.13 python3.12 python3.11; do \
	    if "$$python" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then \
	        echo "making .venv with $$("$$python" --version) ..."; \
	        "$$python" -m venv --clear .venv && \
	        $(venv) -m pip install --quiet --disable-pip-version-check pip==$(PIP) && \
	        $(venv) -m pip install --quiet -r requirements.txt && \
	        touch $@; exit; \
	    fi; \
	done; \
	echo "No Python 3.11 to 3.14 with its module venv was found. Install one (Debian and Ubuntu: apt install python3" >&2; \
	echo "python3-venv) or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; \
	exit 1
