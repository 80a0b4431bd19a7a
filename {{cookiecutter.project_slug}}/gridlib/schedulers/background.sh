#!/bin/bash
# Runs a job on this machine as a scheduler would, and prints its id, the number of its process group:
#
#     background.sh TASKS MAX_RUNNING [ID ...] SCRIPT
#
# TASKS is how many tasks the array has, 0 for none; MAX_RUNNING how many may run at once; the jobs with these ids must have
# ended before. gridlib/schedulers/background.py calls it, and knows its processes by their words.

if [ "$1" != --run ]; then
    script=${*: -1}
    set -- "$1" "$2" "${@:3:$#-3}"
    set -m # a process group of its own, by which the job and all that it starts can be stopped
    bash -p "$0" --run "$script" "$@" </dev/null >/dev/null 2>&1 &
    echo $!
    exit
fi

script=$2 tasks=$3 max_running=$4
shift 4
last=$((tasks > 0 ? tasks : 1))
trap 'last=0' USR2 # the job is stopped: its tasks get the signal too, and no more are started

# whether processes of a job are left; another process may have its number by now
# shellcheck disable=SC2009 # pgrep tells either the group or the words
runs() { ps -ww -A -o pgid=,args= | grep -qE "^ *$1 .*(/job\.sh|gridlib/run\.py|background\.sh)"; }

for id in "$@"; do
    while [ "$last" -gt 0 ] && runs "$id"; do sleep 0.5; done
done
for ((index = 1; index <= last; index++)); do
    GRID_ID=$$ GRID_INDEX=$index bash -p "$script" &
    while [ "$(jobs -rp | wc -l)" -ge "$max_running" ]; do wait -n; done
done
while [ -n "$(jobs -rp)" ]; do wait; done
