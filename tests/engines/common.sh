# shellcheck shell=bash
# What start_gridengine.sh and start_slurm.sh have in common:  . common.sh ENGINE LOG...
# ENGINE is its name for people; in the LOGs its daemons say what is wrong. This goes into an empty folder, $work.
engine=$1
logs=("${@:2}")

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
work=$(mktemp -d)
cd "$work" || exit 1
trap 'rm -rf "$work"' EXIT
trap 'die "in line $LINENO: $BASH_COMMAND"' ERR

say() { echo "$engine: $*"; }

die() {
    trap - ERR
    echo "$engine: FAILED $*" >&2
    exit 1
}

# Runs a command until it succeeds, for a minute at most.
await() {
    local what=$1 end=$((SECONDS + 60))
    shift
    until "$@" &>await.log; do
        sleep 0.1
        ((SECONDS < end)) && continue
        tail -n 5 "${logs[@]}" >&2 || true
        die "waiting for $what: $(tail -n 3 await.log)"
    done
}

# Waits while another apt-get is at work.
install_packages() {
    say "installing $*"
    {
        apt-get -o DPkg::Lock::Timeout=120 update &&
            apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@"
    } &>apt.log </dev/null || die "apt-get: $(tail -n 20 apt.log)"
}

[[ $EUID == 0 ]] || die "only root can install and start it"
