# shellcheck shell=bash
# Activates the environment in env/ in the shell that reads this:  source environment/activate.sh
# It works in bash and zsh, here and in a job, also where conda is not on PATH. If it cannot, it says why.

_activate_environment() {
    local project tool where strict=''
    project=$(CDPATH='' builtin cd -- "$(dirname -- "$1")/.." >/dev/null && pwd) || return 1
    if [ ! -e "$project/env/.ready" ]; then
        echo "activate.sh: there is no finished environment in $project/env; make it with environment/create.sh" >&2
        return 1
    fi
    # create.sh has written down what made it: conda and its folder, or mamba or micromamba and its path
    read -r tool where <"$project/env/.conda"
    if [ ! -e "$where" ]; then
        echo "activate.sh: $where, which made the environment, is not on $(uname -n)" >&2
        return 1
    fi
    case $- in *u*) strict=yes && set +u ;; esac # conda's scripts use variables that are not set
    if [ "$tool" = conda ]; then
        # shellcheck source=/dev/null
        . "$where/etc/profile.d/conda.sh"
    else
        eval "$("$where" shell hook --shell "${ZSH_VERSION:+zsh}${BASH_VERSION:+bash}")"
    fi
    export PYTHONNOUSERSITE=1 # what is in ~/.local is not part of the environment
    "$tool" activate "$project/env"
    [ -z "$strict" ] || set -u
    if ! [ "$(command -v python)" -ef "$project/env/bin/python" ] || ! python -c '' >/dev/null 2>&1; then
        echo "activate.sh: $tool does not activate $project/env on $(uname -n); make it again: environment/create.sh" >&2
        return 1
    fi
}

# the path of this file; zsh has it in $0
_activate_environment "${BASH_SOURCE[0]:-$0}" || {
    unset -f _activate_environment
    return 1
}
unset -f _activate_environment
