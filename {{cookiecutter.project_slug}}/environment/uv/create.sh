#!/usr/bin/env bash
# Makes the project's Python environment in env/ with uv, with the packages that environment/requirements.in names, in the
# versions that environment/requirements.txt pins.
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

# Of two at once, as by two makes, the second waits, and then finds the work done. The lock is one of flock, which ends with
# its holder, or a folder where the machine or the file system has no flock.
take_turn() {
    local code=0 waits="another create.sh is at work in this project, waiting for its end"
    exec 9>>environment/create.sh
    flock -n -E 75 9 2>/dev/null || code=$?
    if [ "$code" = 75 ]; then
        echo "$waits ..."
        flock 9
    elif [ "$code" = 0 ] || mkdir environment/.lock 2>/dev/null; then
        waits=''
    else
        echo "$waits (is there none? then remove the folder environment/.lock) ..."
        until mkdir environment/.lock 2>/dev/null; do sleep 1; done
    fi
    case $code in 0 | 75) ;; *) trap 'rmdir environment/.lock' EXIT ;; esac
    if [ -n "$waits" ] && [ env/.ready -nt environment/requirements.in ] && [ env/.ready -nt environment/requirements.txt ]; then
        echo "env/ is ready"
        exit
    fi
}
take_turn

# env/.installed holds the path for which everything was installed: the scripts in env/bin know it.
usable() { [ "$(cat env/.installed 2>/dev/null)" = "$project" ] && env/bin/python -c '' 2>/dev/null; }

if ! usable; then
    echo "making env/ with $(uv --version) ..."
    rm -rf env
    # the pinned packages have ready-made wheels for these versions
    uv venv --quiet --no-project --python "${PYTHON:->=3.11,<3.15}" env
fi

echo "installing the packages of environment/requirements.in into env/ ..."
rm -f env/.installed env/.ready
uv pip install --quiet --python env/bin/python -r environment/requirements.in -c environment/requirements.txt ||
    fail "the packages cannot be installed, see above. Where another version is in the way, delete its line in" \
        "environment/requirements.txt; make lock pins the new one"
printf '%s\n' "$project" >env/.installed

# The proof: all that the worker imports is there. This compiles it too, so that the first run starts fast.
env/bin/python -c '
import importlib, pathlib
for worker in sorted(pathlib.Path().glob("*_local.py")):
    importlib.import_module(worker.stem)
' || fail "the worker cannot be imported, see above. A missing package belongs into environment/requirements.in"
touch env/.ready
echo "env/ is ready"
