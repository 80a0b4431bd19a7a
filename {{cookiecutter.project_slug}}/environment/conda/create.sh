#!/usr/bin/env bash
# Makes the project's environment in env/ with conda: Python from conda-forge, and in it by pip the packages that
# environment/requirements.in names, in the versions that environment/requirements.txt pins.
# Safe to run again and from anywhere: a good environment is brought up to date, a broken one is made anew. conda, mamba or
# micromamba must be on PATH. What only conda has, add to the line "create" below.
# (So far this has only been tested with a stand-in for conda.)
#
#   environment/create.sh                takes Python 3.12
#   PYTHON=3.11 environment/create.sh    takes this version
set -euo pipefail
unset PYTHONPATH PYTHONHOME # what they lead to is not in this environment, and not on the grid
export PYTHONNOUSERSITE=1   # nor is ~/.local, where pip would find things already there

fail() {
    printf 'create.sh: %s\n' "$*" >&2
    exit 1
}

project=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd -P)
cd -- "$project"
case $project in *:*) fail "the project's path holds a colon, which cannot be in PATH; rename the folder: $project" ;; esac

version=${PYTHON:-3.12}
version=${version#python}
case $version in 3.1[1-4] | 3.1[1-4].*) ;; *) fail "PYTHON=$PYTHON is no version that suits: pass one from 3.11 to 3.14" ;; esac

conda=$(type -P conda || printf %s "${CONDA_EXE:-}") # in scripts, conda is on PATH or only in this variable
[ -n "$conda" ] || conda=$(type -P mamba || type -P micromamba || printf %s "${MAMBA_EXE:-}")
[ -n "$conda" ] || fail "none of conda, mamba, micromamba was found. Load one (on a cluster: module avail conda) or" \
    "install one: https://conda-forge.org/download"

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

# env/.installed holds the path for which everything was installed: it stands in many files of env/.
usable() { [ "$(cat env/.installed 2>/dev/null)" = "$project" ] && env/bin/python -m pip --version >/dev/null 2>&1; }

if ! usable; then
    echo "making env/ with $conda, which may take some minutes ..."
    rm -rf env
    "$conda" create --yes --quiet --prefix "$project/env" --override-channels --channel conda-forge "python=$version" pip
fi
# What activate.sh needs to know, for on the node conda may not be on PATH.
case ${conda##*/} in
conda) printf 'conda %s\n' "$("$conda" info --base)" >env/.conda ;;
*) printf '%s %s\n' "${conda##*/}" "$conda" >env/.conda ;;
esac

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
