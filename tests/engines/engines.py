"""What the tests must know of the two real schedulers: how to hold, release and delete a job behind grid.py's back, what
the scheduler says of it, and how to stop and start its daemons. All that differs between them for a test is here."""

import re
import subprocess
import time
from pathlib import Path

from sandbox import until

HERE = Path(__file__).resolve().parent
# what is said of a job that was deleted before it started, where the scheduler keeps no account of it
VANISHED = "vanished: it left the queue without starting (deleted with qdel/scancel, or lost by the scheduler)"

STOPPED_OUTSIDE = "stopped by the scheduler: deleted there, or over a limit"


def ask(*command, check=True):
    """What a command prints; with check it must succeed."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert not check or done.returncode == 0, f"{command} failed: {done.stdout}{done.stderr}"
    return done.stdout if done.returncode == 0 else ""


def kill(signal, *numbers):
    """Send processes a signal and wait for their end, for until then the start scripts take them for alive."""
    ask("kill", signal, *numbers)
    while any(Path("/proc", number).exists() for number in numbers):
        time.sleep(0.1)


def seconds(text):
    """[DAYS-]HOURS:MINUTES:SECONDS in seconds."""
    days, _, time_of_day = text.rpartition("-")
    total = int(days or 0) * 24
    for part in time_of_day.split(":"):
        total = total * 60 + int(part)
    return total


class GridEngine:
    """The Grid Engine that start_gridengine.sh starts."""

    name = "gridengine"
    settings = (
        '[tool.grid.gridengine]\nmemory = "mem"\ncuda = "cuda"\ncuda_per = "slot"\nparallel_environment = "smp"\n'
    )
    queue = "all.q"
    hold = ["-h"]  # options of a submission
    lister, submitter = "qstat", "qsub"  # the programs that grid.py calls
    cores_variable = "NSLOTS"  # by which a job is told how many cores it has
    shortest = 5  # seconds of walltime that are told apart
    held, running = r"PENDING \(hqw\)", r"RUNNING \([rt]\)"  # in the table of qstat()
    # the settings of a site that it is not, what is asked for, and what the refusal says
    refused = [
        ("cuda = 'gpu'", {"cuda": 1}, 'Unable to run job.*write cuda = "NAME" into'),
        ("memory = 'ram'", {"memory": "1G"}, 'Unable to run job.*write memory = "NAME" into'),
        ("parallel_environment = 'mpi'", {"cores": 2}, 'Unable to run job.*write parallel_environment = "NAME" into'),
    ]
    # a reason is what docs/faults.md says
    reasons = {
        "killed with all": "killed: by the system, as when memory runs out, or deleted with qdel",
        "deleted while it waits": VANISHED,
        "over a limit": "killed by Grid Engine: over a limit of time or memory (h_rt, h_cpu, h_vmem)",
    }
    never = dict(memory="100G")  # what can never be had, and what the scheduler says of it
    never_words = "mem"
    master_down = "unable to send message to qmaster"

    def limit(self, time):
        """Options for a time limit of the user's own."""
        return ["-l", f"h_rt={time}"]

    def release(self, job):
        ask("qrls", job.id)

    def task(self, number, index):
        """What the scheduler calls a task of an array."""
        return f"{number}.{index}"

    def delete(self, *ids):
        ask("qdel", *ids)

    def signal_shell(self, job, worker, name):
        """Send a signal to the job's shell alone."""
        ask("kill", f"-{name}", ask("ps", "-o", "ppid=", "-p", worker).strip())

    def signal_all(self, job, worker, name):
        """Send a signal to all processes of a job."""
        ask("kill", f"-{name}", "--", f"-{ask('ps', '-o', 'pgid=', '-p', worker).strip()}")

    def in_queue(self, number):
        return ask("qstat", "-j", number, check=False) != ""

    def scripts(self):
        """The job scripts of all jobs in the queue."""
        return re.findall(r"^script_file: +(.*)$", ask("qstat", "-j", "*", check=False), re.MULTILINE)

    def accounting(self, job):
        text = until(lambda: ask("qacct", "-j", job.id, check=False), "qacct knows the job")
        return dict(re.findall(r"^(\w+) +(.*?) *$", text, re.MULTILINE))

    def facts(self, job):
        """What the scheduler says of a job that has ended: its name and its exit code."""
        said = self.accounting(job)
        return said["jobname"], int(said["exit_status"].split()[0])

    def granted(self, job):
        """What the scheduler gave a job that has ended."""
        said = self.accounting(job)
        asked = dict(word.split("=") for word in said["category"].partition("-l ")[2].split()[0].split(","))
        slots = int(said["slots"])  # cuda and mem count per slot
        memory, cuda = int(asked["mem"].removesuffix("G")) * slots, int(asked["cuda"]) * slots
        return dict(queue=said["qname"], cores=slots, memory=f"{memory}G", cuda=cuda, walltime=int(asked["h_rt"]))

    def hide_accounting(self, sandbox):
        """As where the file is not on the submit host."""
        sandbox.program("qacct", 'exec /usr/bin/qacct -f /nonexistent "$@"')

    def elsewhere(self, sandbox, monkeypatch):
        """As on a host of another cluster, which has none of our jobs."""
        cell = sandbox.home / "sge" / "other" / "common"
        cell.mkdir(parents=True)
        (cell / "cluster_name").write_text("other\n")
        with_nothing = 'case "$*" in *-xml*) echo "<job_info/>";; *) echo "Following jobs do not exist: ${@: -1}" >&2; exit 1;; esac'
        sandbox.program("qstat", with_nothing)
        sandbox.program("qacct", "exit 1")
        monkeypatch.setenv("SGE_ROOT", str(sandbox.home / "sge"))
        monkeypatch.setenv("SGE_CELL", "other")

    def submit_foreign(self, sandbox, name):
        """A job of this user that is none of the project; returns its id."""
        script = sandbox.write("foreign.sh", "#!/bin/bash\nsleep 300\n")
        return ask("qsub", "-terse", "-N", name, "-o", "/dev/null", "-e", "/dev/null", script).strip()

    def empty_list(self, sandbox):
        """From now on the list of jobs is empty, though the scheduler is asked and has them."""
        sandbox.program("qstat", 'case "$*" in *-xml*) echo "<job_info/>";; *) exec /usr/bin/qstat "$@";; esac')

    begin_anew = ["-r", "y"]  # options that let the scheduler begin a job anew

    def requeue(self, job):
        ask("qmod", "-r", job.id)

    def stop_master(self):
        ask("qconf", "-km")
        while ask("pidof", "sge_qmaster", check=False):
            time.sleep(0.1)

    def kill_execution_daemon(self):
        kill("-9", *ask("pidof", "sge_execd").split())

    def start(self):
        subprocess.run([HERE / f"start_{self.name}.sh"], check=True, capture_output=True, timeout=180)


class Slurm:
    """The Slurm that start_slurm.sh starts; the attributes mean what they do there."""

    name = "slurm"
    settings = '[tool.grid.slurm]\ncuda = "gpu"\n'
    queue = "long"
    hold = ["--hold"]
    lister, submitter = "squeue", "sbatch"
    cores_variable = "SLURM_CPUS_PER_TASK"
    shortest = 60
    held, running = r"PENDING \(PENDING\)", r"RUNNING \(RUNNING\)"
    refused = [
        ("cuda = 'tesla'", {"cuda": 1}, 'Invalid generic resource.*write cuda = "NAME" into'),
        ("partition = 'nowhere'", {}, 'invalid partition.*write partition = "NAME" into'),
        ("", {"memory": "100G"}, "node configuration is not available.*No node has so much: ask for less memory"),
    ]
    reasons = {
        "killed with all": "killed by SIGKILL, as the system does when memory runs out",
        "deleted while it waits": "deleted with scancel, or by the site",
        "over a limit": "killed by Slurm: over its time limit",
    }
    never = dict(options=["--nodes=2", "--ntasks=2"])
    never_words = "PartitionNodeLimit"
    master_down = "Unable to contact slurm controller"

    def limit(self, time):
        return [f"--time=0:{time}"]

    def release(self, job):
        ask("scontrol", "release", job.id)

    def task(self, number, index):
        return f"{number}_{index}"

    def delete(self, *ids):
        ask("scancel", *ids)

    def signal_shell(self, job, worker, name):
        ask("scancel", f"--signal={name}", "--batch", job.id)

    def signal_all(self, job, worker, name):
        ask("scancel", f"--signal={name}", "--full", job.id)

    def in_queue(self, number):
        return ask("squeue", "--noheader", "--job", number, check=False) != ""

    def scripts(self):
        return ask("squeue", "--noheader", "--format=%o").splitlines()

    def accounting(self, job):
        facts = {}

        def ended():
            facts.update(word.partition("=")[::2] for word in ask("scontrol", "-o", "show", "job", job.id).split())
            return facts["JobState"] not in ("PENDING", "RUNNING", "COMPLETING")

        until(ended, "Slurm has ended the job")
        return facts

    def facts(self, job):
        said = self.accounting(job)
        return said["JobName"], int(said["ExitCode"].partition(":")[0])

    def granted(self, job):
        said = self.accounting(job)
        memory, cuda = re.search("mem=([^,]+)", said["TRES"])[1], int(said["TresPerNode"].rpartition(":")[2])
        limit = seconds(said["TimeLimit"])
        return dict(queue=said["Partition"], cores=int(said["NumCPUs"]), memory=memory, cuda=cuda, walltime=limit)

    def hide_accounting(self, sandbox):
        """As where there is no database, and the controller has forgotten the job."""
        for program in ("sacct", "scontrol"):
            sandbox.program(program, "echo 'Invalid job id specified' >&2; exit 1")

    def elsewhere(self, sandbox, monkeypatch):
        config = Path("/etc/slurm/slurm.conf").read_text()
        config = sandbox.write("other.conf", re.sub("(?m)^ClusterName=.*", "ClusterName=other", config))
        sandbox.program("squeue", "exit 0")
        for program in ("scontrol", "sacct"):
            sandbox.program(program, "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
        monkeypatch.setenv("SLURM_CONF", str(config))

    def submit_foreign(self, sandbox, name):
        script = sandbox.write("foreign.sh", "#!/bin/bash\nsleep 300\n")
        return ask("sbatch", "--parsable", f"--job-name={name}", "--output=/dev/null", script).strip()

    def empty_list(self, sandbox):
        sandbox.program("squeue", "exit 0")

    begin_anew = ["--requeue"]

    def requeue(self, job):
        ask("scontrol", "requeue", job.id)

    def stop_master(self):
        kill("-15", Path("/run/slurmctld.pid").read_text().strip())

    def kill_execution_daemon(self):
        kill("-9", Path("/run/slurmd.pid").read_text().strip())

    start = GridEngine.start


ENGINES = {engine.name: engine() for engine in (GridEngine, Slurm)}
