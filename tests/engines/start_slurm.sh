#!/bin/bash
# Installs (apt) and starts a Slurm on this host, for tests. Root; Debian 12 (Slurm 22.05).
# Run it again at any time: it starts what is not running, and leaves the rest and its jobs alone.
#
# One node (20 CPUs, 20G, two GPUs: more than there is), partitions short (the default) and long.
# Kill slurmd:        kill -9 $(</run/slurmd.pid); its jobs run on
# Stop slurmctld:     kill $(</run/slurmctld.pid); while pidof -q slurmctld; do sleep 0.1; done
# Start them again:   run this script
# Their logs:         /var/log/slurm/{slurmctld,slurmd}.log
set -Eeuo pipefail

unset "${!SLURM_@}" "${!SBATCH_@}"
config=/etc/slurm
spool=/var/spool/slurm
logs_in=/var/log/slurm
mark="# Written by start_slurm.sh, for tests"
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/common.sh" Slurm $logs_in/{slurmctld,slurmd}.log

# The process of a daemon, by its pid file; none if that is stale.
process() {
    local file=/run/$1.pid pid
    [[ $1 != munged ]] || file=/run/munge/munged.pid
    pid=$(cat "$file" 2>/dev/null) && [[ $(cat "/proc/$pid/comm" 2>/dev/null) == "$1" ]] && echo "$pid"
}

# In an empty environment, for jobs inherit that of the daemons.
start() {
    local daemon=$1
    shift
    process "$daemon" >/dev/null && return
    env -i -C / PATH="$PATH" "$@" "$daemon" &>"$daemon.log" </dev/null || die "$daemon: $(<"$daemon.log")"
    await "$daemon" process "$daemon"
    say "$daemon started"
}

stop() {
    local pid
    pid=$(process "$1") || return 0
    kill "$pid"
    await "the end of $1" eval "! kill -0 $pid"
}

# Each partition shows the state of the only node.
node_state() { sinfo -h -p short -o %T; }
node_works() { [[ $(node_state) =~ ^(idle|mixed|allocated|completing)$ ]]; }

if [[ -e $config/slurm.conf ]] && ! grep -qx "$mark" $config/slurm.conf; then
    die "there is a Slurm here already that is not for these tests; it is left alone"
fi

if ! type slurmctld slurmd sbatch munged mungekey runuser &>/dev/null; then
    install_packages slurmctld slurmd slurm-client munge
fi

# The daemons listen on the address of the host's name and no other: loopback, in many cases.
# (The others need a key of munge to get anything done.)
host=$(uname -n)
getent ahostsv4 "$host" >/dev/null || echo "127.0.0.1 $host" >>/etc/hosts
address=$(getent ahostsv4 "$host" | awk '{ print $1; exit }')

cat >slurm.conf <<END
$mark
ClusterName=tests
SlurmctldHost=localhost($address)
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
StateSaveLocation=$spool/slurmctld
SlurmdSpoolDir=$spool/slurmd
SlurmctldLogFile=$logs_in/slurmctld.log
SlurmdLogFile=$logs_in/slurmd.log
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
MailProg=/bin/true

AuthType=auth/munge
# A requeued job waits that long before it starts again.
AuthInfo=cred_expire=10
# No control groups: not every container has them.
ProctrackType=proctrack/linuxproc
Epilog=$config/epilog.sh
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none

SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=2
DefMemPerCPU=100
MaxJobCount=20000
MaxArraySize=1001
MinJobAge=300
InactiveLimit=0
KillWait=5
ReturnToService=2

# Believes what this file says of the node.
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=localhost NodeAddr=$address CPUs=20 RealMemory=20480 Gres=gpu:2
PartitionName=DEFAULT Nodes=ALL DefaultTime=UNLIMITED MaxTime=UNLIMITED State=UP
PartitionName=short Default=YES
PartitionName=long
END
# Any device will do.
cat >gres.conf <<END
Name=gpu File=$spool/gpu[0-1]
END
# linuxproc forgets what outlives the job's shell; this kills it at once, as control groups do.
cat >epilog.sh <<'END'
#!/bin/bash
grep -lszx "SLURM_JOB_ID=$SLURM_JOB_ID" /proc/[0-9]*/environ | xargs -r grep -lszx SLURM_PROCID=0 |
    cut -d / -f 3 | xargs -r kill -KILL
exit 0 # any other takes the node out of service
END
chmod +x epilog.sh

mkdir -p $logs_in $spool/{slurmctld,slurmd}
for number in 0 1; do ln -sfn /dev/null $spool/gpu$number; done
mkdir -p $config
same=true
for file in *.conf *.sh; do cmp -s "$file" "$config/$file" || same=false; done
if ! $same; then
    stop slurmd
    stop slurmctld
    cp ./*.conf ./*.sh $config
    say "configured"
fi

[[ -e /etc/munge/munge.key ]] || runuser -u munge -- mungekey --create
install -d -o munge -g munge /run/munge
start munged runuser -u munge --
await munged eval "munge -n | unmunge"
start slurmctld
await slurmctld scontrol ping
start slurmd
await "slurmd's registration" eval "! node_state | grep -q '[*]'"
# A killed or restarted slurmd, or a job that would not die, can leave the node down or drained.
node_works || scontrol update NodeName=localhost State=RESUME &>resume.log || true
await "a node that takes jobs" node_works

if [[ $(node_state) == idle ]]; then # else a job of the tests could keep this one waiting
    job=$(sbatch --parsable --export=NONE -D / -o /dev/null -J proof --wrap "echo ran >'$work/proof'")
    trap 'scontrol show job "$job"; scancel "$job"; rm -rf "$work"' EXIT
    await "job $job to run" test -s proof
    await "job $job to leave" eval "! squeue -h -j $job | grep -q ."
    trap 'rm -rf "$work"' EXIT
fi
echo "Slurm is ready"
