#!/bin/bash
# Installs (apt) and starts a Grid Engine on this host, for tests. Root; Debian or Ubuntu.
# Run it again at any time: it starts what is not running, and leaves the rest and its jobs alone.
#
# Queue all.q (20 slots), parallel environment smp, consumables mem (20G) and cuda (2, there are none).
# Kill execd:         kill -9 $(pidof sge_execd)
# Stop qmaster:       qconf -km; while pidof -q sge_qmaster; do sleep 0.1; done
# Start them again:   run this script; execd finds a restarted qmaster after 30 s
# Their logs:         /var/spool/gridengine/{qmaster,execd/localhost}/messages
set -Eeuo pipefail

unset "${!SGE_@}"
common=/var/lib/gridengine/default/common
spool=/var/spool/gridengine
mark=$common/started_for_tests
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/common.sh" "Grid Engine" $spool/{qmaster,execd/localhost}/messages

# In an empty environment, for jobs inherit that of the daemons.
start() { pidof "$1" >/dev/null || { env -i -C / PATH="$PATH" "$1" && say "$1 started"; }; }

# Changes settings as qconf shows them: each "name value" takes the place of the line of that name.
put() { sed "$(for line; do echo "s|^${line%% *} .*|$line|"; done)"; }

# qconf without its chatter.
quiet() { qconf "$@" &>qconf.log || die "qconf $*: $(<qconf.log)"; }

# Changes or adds the object that a file describes (e: host, p: parallel environment, q: queue).
store() { qconf "-M$1" "$2" &>/dev/null || quiet "-A$1" "$2"; }

if [[ ! -e $mark ]] && { pidof sge_qmaster sge_execd || compgen -G "$spool/execd/*"; } >/dev/null; then
    die "there is a Grid Engine here already that is not for these tests; it is left alone"
fi

# Host and master are called localhost: that outlives a change of the host's name, which is only an alias.
host=$(uname -n)
for name in "$host" "${host%%.*}"; do # it looks up both
    getent ahostsv4 "$name" >/dev/null || echo "127.0.0.1 $name" >>/etc/hosts
done
names=$(getent hosts 127.0.0.1 "$host" "$name" | awk '{ for (i = 2; i <= NF; i++) print $i }' | sort -u)
names="localhost "$(echo "$names" | sed /^localhost$/d | paste -sd ' ')
restart=false
if [[ ! -e $mark || $(<$common/host_aliases) != "$names" ]]; then
    mkdir -p $common
    touch $mark
    echo localhost >$common/act_qmaster
    echo "$names" >$common/host_aliases
    restart=true
fi

if ! type sge_qmaster sge_execd qsub nft mail &>/dev/null || ! getent services sge_qmaster >/dev/null; then
    packages=(gridengine-master gridengine-exec gridengine-client netbase nftables)
    # It insists on a mail program; without this, apt takes one that runs a mail server.
    [[ -e /usr/sbin/sendmail ]] || packages+=(dma)
    install_packages "${packages[@]}"
    restart=true
fi
chown sgeadmin: $common/act_qmaster # which sge_qmaster rewrites as that user
# Neither the package nor the next boot starts a daemon: only the lines below do.
sed -i 's/^\(SGE_START_[A-Z]*\)=yes/\1=no/' /etc/default/gridengine
if $restart; then
    for daemon in sge_execd sge_qmaster; do
        pidof "$daemon" | xargs -r kill || true
        await "the end of $daemon" eval "! pidof $daemon"
    done
fi

# The daemons listen on every address and cannot be told otherwise.
nft -f - 2>nft.log <<'END' || say "no packet filter, so its ports are open to other hosts: $(head -n 1 nft.log)"
table inet gridengine_tests
delete table inet gridengine_tests
table inet gridengine_tests {
    chain input { type filter hook input priority 0; iifname != "lo" tcp dport { 6444, 6445 } reject; }
}
END

start sge_qmaster
await sge_qmaster qconf -sh

# All this before execd starts, which keeps the min_uid that it finds. 0: root may run jobs.
export SGE_SINGLE_LINE=1
qconf -sconf | put "min_uid 0" "min_gid 0" "administrator_mail none" \
    "reporting_params accounting=true reporting=false accounting_flush_time=00:00:00 joblog=false" >global
quiet -Mconf global
qconf -ssconf | put "schedule_interval 0:0:1" "flush_submit_sec 1" "flush_finish_sec 1" >scheduler
quiet -Msconf scheduler
qconf -sc | sed '/^mem /d; /^cuda /d' >resources
printf '%s\n' "mem mem MEMORY <= YES YES 0 0" "cuda cuda INT <= YES YES 0 0" >>resources
quiet -Mc resources
printf '%s\n' "hostname localhost" "load_scaling NONE" "complex_values mem=20G,cuda=2" "user_lists NONE" \
    "xuser_lists NONE" "projects NONE" "xprojects NONE" "usage_scaling NONE" "report_variables NONE" >host
store e host
qconf -ss 2>/dev/null | grep -qx localhost || quiet -as localhost
printf '%s\n' "pe_name smp" "slots 50" "user_lists NONE" "xuser_lists NONE" "start_proc_args NONE" \
    "stop_proc_args NONE" "allocation_rule \$pe_slots" "control_slaves FALSE" "job_is_first_task TRUE" \
    "urgency_slots min" "accounting_summary FALSE" "qsort_args NONE" >smp
store p smp
# No load_thresholds: a busy host must not keep jobs waiting.
qconf -sq | put "qname all.q" "hostlist localhost" "pe_list smp" "slots 20" "load_thresholds NONE" \
    "rerun FALSE" "notify 00:00:03" >queue
store q queue
say "configured"

start sge_execd
job=$(echo "echo ran >'$work/proof'" | qsub -terse -N proof -S /bin/bash -wd / -o /dev/null -e /dev/null)
trap 'qstat -f; qstat -j "$job"; qdel "$job"; rm -rf "$work"' EXIT
await "job $job to run" test -s proof
await "job $job to leave" eval "! qstat -j $job"
trap 'rm -rf "$work"' EXIT
echo "Grid Engine is ready"
