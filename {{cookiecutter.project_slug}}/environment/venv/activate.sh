# shellcheck shell=bash
# Activates the environment in env/ in the shell that reads this:  source environment/activate.sh
# It works in bash and zsh, here and in a job. If it cannot, it says why and changes nothing.
# (It does not read env/bin/activate: that of Python before 3.11.11 breaks where a folder's name holds quotes, $ or ;)

_activate_environment() {
    local project
    project=$(CDPATH='' builtin cd -- "$(dirname -- "$1")/.." >/dev/null && pwd) || return 1
    if [ ! -e "$project/env/.ready" ]; then
        echo "activate.sh: there is no finished environment in $project/env; make it with environment/create.sh" >&2
        return 1
    fi
    if ! (unset PYTHONHOME && "$project/env/bin/python" -c '' >/dev/null 2>&1); then
        echo "activate.sh: $project/env/bin/python does not run on $(uname -n); make it again: environment/create.sh" >&2
        return 1
    fi
    unset PYTHONHOME
    export VIRTUAL_ENV="$project/env"
    export PATH="$VIRTUAL_ENV/bin:$PATH"
    hash -r
}

# the path of this file; zsh has it in $0
_activate_environment "${BASH_SOURCE[0]:-$0}" || {
    unset -f _activate_environment
    return 1
}
unset -f _activate_environment
