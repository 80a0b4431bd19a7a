#!/usr/bin/env bash
# Makes the project's Python environment in env/ with uv, with the packages of environment/requirements.txt.
# Safe to run again and from anywhere: a good environment is brought up to date, a broken one is made anew.
#
#   environment/create.sh                takes the first suitable Python that uv finds; without one, uv downloads it
#   PYTHON=3.12 environment/create.sh    takes this one: a version, or the path of a Python
set -euo pipefail
unset PYTHONPATH PYTHONHOME # what they lead to is not in this environment, and not on the grid
# The certificates of this machine: a university's proxy often has one of its own. UV_SYSTEM_CERTS=0 if not wanted.
export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-1}

fail() {
    printf 'create.sh: %s\n' "$*" >&2
    exit 1
}

project=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd -P)
cd -- "$project"
case $project in *:*) fail "the project's path holds a colon, which cannot be in PATH; rename the folder: $project" ;; esac
type -P uv >/dev/null || fail "uv was not found. Install it (python3 -m pip install --user uv, pipx install uv, or see" \
    "https://docs.astral.sh/uv) and see that it is on PATH"

# env/.installed holds the path for which everything was installed: the scripts in env/bin know it.
usable() { [ "$(cat env/.installed 2>/dev/null)" = "$project" ] && env/bin/python -c '' 2>/dev/null; }

if ! usable; then
    echo "making env/ with $(uv --version) ..."
    rm -rf env
    # the pinned packages have ready-made wheels for these versions
    uv venv --quiet --no-project --python "${PYTHON:->=3.11,<3.15}" env
fi

echo "installing environment/requirements.txt into env/ ..."
rm -f env/.installed env/.ready
uv pip install --quiet --python env/bin/python -r environment/requirements.txt
printf '%s\n' "$project" >env/.installed

# The proof: all that the worker imports is there. This compiles it too, so that the first run starts fast.
env/bin/python -c '
import importlib, pathlib
for worker in sorted(pathlib.Path().glob("*_local.py")):
    importlib.import_module(worker.stem)
' || fail "the worker cannot be imported, see above. A missing package belongs into environment/requirements.txt"
touch env/.ready
echo "env/ is ready"
