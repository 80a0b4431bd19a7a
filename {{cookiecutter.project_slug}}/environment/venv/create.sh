#!/usr/bin/env bash
# Makes the project's Python environment in env/, with the packages that environment/requirements.in names, in the versions
# that environment/requirements.txt pins.
# Safe to run again and from anywhere: a good environment is brought up to date, a broken one is made anew.
#
#   environment/create.sh                      takes the first suitable Python that it finds
#   PYTHON=python3.12 environment/create.sh    takes this one
set -euo pipefail
unset PYTHONPATH PYTHONHOME # what they lead to is not in this environment, and not on the grid

fail() {
    printf 'create.sh: %s\n' "$*" >&2
    exit 1
}

project=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd -P)
cd -- "$project"
case $project in *:*) fail "the project's path holds a colon, which cannot be in PATH; rename the folder: $project" ;; esac

# The pinned packages have ready-made wheels for these versions.
suits() { "$1" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; }

choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        suits "$PYTHON" || fail "PYTHON=$PYTHON is no Python 3.11 to 3.14 with its module venv"
        return
    fi
    for PYTHON in python3 python3.13 python3.12 python3.14 python3.11 python; do
        ! suits "$PYTHON" || return 0
    done
    fail "no Python 3.11 to 3.14 with its module venv was found. Load one (on a cluster: module avail python)," \
        "install one (Debian: apt install python3 python3-venv), or name it: PYTHON=/path/to/python3.12 $0"
}

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
usable() { [ "$(cat env/.installed 2>/dev/null)" = "$project" ] && env/bin/python -m pip --version >/dev/null 2>&1; }

if ! usable; then
    choose_python
    echo "making env/ with $("$PYTHON" --version) ..."
    "$PYTHON" -m venv --clear env
fi

echo "installing the packages of environment/requirements.in into env/ ..."
rm -f env/.installed env/.ready
# as a module, for the first line of the script env/bin/pip cannot hold every path
env/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
    -r environment/requirements.in -c environment/requirements.txt ||
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
