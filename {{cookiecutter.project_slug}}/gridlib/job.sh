# shellcheck shell=bash disable=SC2154,SC2329
# The job script, the same on every scheduler. dispatch.py puts lines before it that set the variables named grid_...
# The names of all variables and functions begin with grid_, for the activation and the user may use all others.

# 1. Which task is this? By hand the output stays in this terminal and nothing is recorded.
if [ $# -gt 0 ] || [ -z "$grid_id" ]; then
    grid_task=${1:-1} grid_record='' grid_id=by-hand
else
    grid_task=$(sed -n "${grid_index}p" "$grid_folder/tasks")
    grid_record=${grid_task:+$grid_folder/records/$grid_task.running}
fi
grid_job=${grid_folder%/*} grid_path=$PATH grid_code='' grid_begun='' grid_stopped='' grid_conda=''

# 2. The record. Its name tells the end: TASK.running becomes TASK.exit-CODE, or TASK.stopped-CODE after a signal.
grid_time() { printf '%(%Y-%m-%dT%H:%M:%S%z)T' -1; }
grid_note() { [ -z "$grid_record" ] || printf '%s: %s\n' "$1" "${2//$'\n'/ }" >>"$grid_record"; }
grid_fail() {
    printf 'grid: %s\n' "$1" >&2
    grid_note reason "$1"
    exit 1
}
grid_signal() { # SIGTERM and SIGUSR2 are how schedulers stop a job
    case $1 in TERM | USR2) grid_stopped=yes ;; esac
    grid_note signal "SIG$1"
    # before the script runs it ends the job; later Python answers it, and its end is still recorded
    [ -n "$grid_begun" ] || grid_fail "stopped by SIG$1 before the script began"
}
grid_end() {
    grid_status=$? PATH=$grid_path
    trap '' TERM USR2
    # an end is what was recorded after the script had ended: 0 only if the line after the script's own was reached
    if [ -z "$grid_code" ]; then
        grid_code=$grid_status
        if [ "$grid_code" = 0 ]; then
            grid_code=1 grid_why="the activation exited the job: $grid_activate"
            [ -z "$grid_begun" ] || grid_why="the job script was ended from outside before the script had ended"
            grid_note reason "$grid_why"
        fi
    fi
    mkdir -p "$grid_folder/records"
    # the scheduler's clock began some seconds before this shell's
    [ -z "$grid_walltime" ] || [ $((SECONDS + 5)) -lt "$grid_walltime" ] || [ -z "$grid_stopped" ] ||
        grid_note reason "walltime of $grid_walltime s exceeded"
    grid_note ended "$(grid_time)"
    grid_how='exit'
    [ -z "$grid_stopped" ] || [ "$grid_code" = 0 ] || grid_how='stopped'
    mv -f "$grid_record" "$grid_folder/records/$grid_task.$grid_how-$grid_code"
    # to Grid Engine 99 would mean: run it again, and 100: keep it in error state
    case $grid_code in 99 | 100) grid_code=1 ;; esac
    exit "$grid_code"
}
shopt -s nullglob
if [ -n "$grid_record" ]; then
    mkdir -p "$grid_folder/records"
    # Nothing runs twice. A task that was submitted once more since runs there, not here.
    for grid_newer in "$grid_job"/[0-9]*/tasks; do
        grid_number=${grid_newer%/tasks}
        [ "${grid_number##*/}" -le "${grid_folder##*/}" ] || ! grep -qx "$grid_task" "$grid_newer" || exit 1
    done
    # Only one process can make the record. If it is there under this id, the scheduler has begun the job anew; under
    # another one the job was submitted twice, and this is the second copy.
    if ! (set -C && printf 'id: %s\n' "$grid_id" >"$grid_record") 2>/dev/null && [ -e "$grid_record" ]; then
        for _ in {1..20}; do [ -s "$grid_record" ] || sleep 0.1; done # whoever has made it is about to write
        grep -qx "id: $grid_id" "$grid_record" || exit 1
    fi
    for grid_old in "$grid_folder/records/$grid_task".exit-* "$grid_folder/records/$grid_task".stopped-*; do
        grep -qx "id: $grid_id" "$grid_old" || { rm -f "$grid_record" && exit 1; }
        rm -f "$grid_old"
    done
    printf '%s: %s\n' id "$grid_id" host "$HOSTNAME" started "$(grid_time)" >"$grid_record"
    trap grid_end EXIT
    # without a trap bash would end by these, and the EXIT trap would see the code of the last command: 0
    for grid_each in TERM USR2 USR1 HUP INT QUIT ILL TRAP ABRT BUS FPE SEGV SYS PIPE ALRM XCPU XFSZ VTALRM PROF STKFLT IO PWR; do
        # shellcheck disable=SC2064
        case $grid_each in "$grid_ignored") trap '' "$grid_each" ;; *) trap "grid_signal $grid_each" "$grid_each" ;; esac
    done 2>/dev/null # not every system has them all
    [ ! -e "$grid_folder/stopped" ] || { grid_stopped=yes && exit 143; }
fi

# 3. The output and error files. A file that is there must be ours: a link or a pipe could lead it anywhere.
grid_open() {
    if [ ! -e "$1" ] && [ ! -L "$1" ]; then # to open a pipe would wait for its reader
        (set -C && : >"$1") 2>/dev/null || grid_fail "cannot write to the log folder $grid_log_dir on $HOSTNAME"
    fi
    [ -f "$1" ] && [ ! -L "$1" ] && [ -O "$1" ] && [ -w "$1" ] ||
        grid_fail "the log file $1 is not a file of yours; remove it, or pass another log_dir"
}
if [ "$grid_id" != by-hand ]; then
    grid_log="$grid_id${grid_array:+.${grid_task:-index-$grid_index}}"
    mkdir -p "$grid_log_dir" || grid_fail "cannot make the log folder $grid_log_dir on $HOSTNAME"
    grid_open "$grid_log_dir/$grid_name.o$grid_log"
    grid_open "$grid_log_dir/$grid_name.e$grid_log"
    exec >>"$grid_log_dir/$grid_name.o$grid_log" 2>>"$grid_log_dir/$grid_name.e$grid_log"
    [ -z "$grid_record" ] || [ -s "$grid_record" ] || grid_fail "cannot write the record $grid_record on $HOSTNAME"
    [ -n "$grid_task" ] || grid_fail "cannot read $grid_folder/tasks on $HOSTNAME, which tells the task of index $grid_index"
fi

# 4. The jobs before this one. The scheduler lets it begin when they have ended, however; their records tell how.
# as JobFolder.newest() does in Python
grid_count() { # sets grid_ended and grid_well: how many tasks of the job in a folder have ended, and how many did well
    read -r grid_ended grid_well < <(
        for grid_each in "$1"/[0-9]*/; do # of each task its newest submission counts
            grid_each=${grid_each%/}
            sed "s/\$/ ${grid_each##*/}/" "$grid_each/tasks"
            for grid_file in "$grid_each"/records/*; do printf '%s %s\n' "${grid_file##*/}" "${grid_each##*/}"; done
        done 2>/dev/null | awk '
            $1 ~ /^[0-9]+$/ { if ($2 + 0 > newest[$1] + 0) newest[$1] = $2 }
            $1 ~ /\.(exit|stopped)-/ { split($1, name, "."); end[name[1], $2] = name[2] }
            END {
                for (task in newest) {
                    how = end[task, newest[task]]
                    ended += how != ""
                    well += how == "exit-0"
                }
                print ended + 0, well + 0
            }'
    )
}
for grid_number in "${!grid_after[@]}"; do
    for _ in {1..10}; do # a record may be late on a slow file system
        grid_count "${grid_after[grid_number]}"
        [ "$grid_ended" -lt "${grid_after_tasks[grid_number]}" ] || break
        sleep 0.5
    done
    [ "$grid_well" -ge "${grid_after_tasks[grid_number]}" ] ||
        grid_fail "the job before this one, ${grid_after[grid_number]}, did not succeed"
done
shopt -u nullglob

# 5. The folder and the environment. Nothing runs in a wrong one.
cd "$grid_workdir" || grid_fail "cannot enter the working directory $grid_workdir on $HOSTNAME"
if [ -n "$grid_activate" ]; then
    unset VIRTUAL_ENV
    grid_conda=${CONDA_PREFIX:-}
    # functions that an ordinary shell would have, such as module, are there for the activation
    # shellcheck disable=SC2016
    eval "$(env -u SHELLOPTS -u BASHOPTS /bin/bash -c 'unset -f eval $(compgen -A function grid_); declare -f >&3' 3>&1 >/dev/null 2>&1)"
    # any command that fails ends the job, not only the last one; in files that it sources some may, as conda's do
    trap '[ ${#BASH_SOURCE[@]} -gt 1 ] || grid_fail "cannot activate the environment: $grid_activate"' ERR
    eval "$grid_activate"
    # none of its functions and options steers what follows; in this mode no function hides unset
    grid_posix=${POSIXLY_CORRECT-} POSIXLY_CORRECT=y
    unset -f : [ exec exit export mkdir mv printf set trap type unset
    unset POSIXLY_CORRECT
    [ -z "$grid_posix" ] || export POSIXLY_CORRECT="$grid_posix"
    trap - ERR
    [ -z "$grid_record" ] || trap grid_end EXIT
    set +eufC
    IFS=$' \t\n'
    grid_python=$(type -P python || type -P python3) || grid_fail "no python on PATH after: $grid_activate"
    [ "${CONDA_PREFIX:-}" = "$grid_conda" ] || : "${VIRTUAL_ENV:=$CONDA_PREFIX}"
    [ -z "${VIRTUAL_ENV:-}" ] || [ "${grid_python%/*}" -ef "$VIRTUAL_ENV/bin" ] ||
        grid_fail "the environment $VIRTUAL_ENV has no python on $HOSTNAME: make it again. Activated by: $grid_activate"
else
    [ -x "$grid_python" ] || grid_fail "no python at $grid_python on $HOSTNAME: pass activate a command that provides one"
fi

# 6. The script.
export GRID_JOB_ID="$grid_id" GRID_JOB_NAME="$grid_name" GRID_TASK="$grid_task" GRID_RECORD="$grid_record"
export GRID_FOLDER="$grid_job" PYTHONUNBUFFERED=1
grid_begun=yes
# by hand there is one word more, by which the background of this machine tells it from its own
[ -n "$grid_record" ] || exec "$grid_python" "$grid_run" "$grid_folder" "$grid_task" by-hand
"$grid_python" "$grid_run" "$grid_folder" "$grid_task"
grid_code=$?
exit "$grid_code"
