"""Slurm; see the man pages sbatch, squeue, scancel, scontrol, sacct, slurm.conf."""

from __future__ import annotations

import os
import re

from gridlib import project
from gridlib.errors import ArgumentError, SubmitError, Unreachable
from gridlib.resources import Resources, format_memory
from gridlib.schedulers.base import End, Owner, Row, Scheduler, exit_reason

CLUSTER_VARIABLES = ("SBATCH_CLUSTERS", "SLURM_CLUSTERS")
HELD = ["REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"]
LIVE = "PENDING RUNNING COMPLETING CONFIGURING SUSPENDED STOPPED SIGNALING STAGE_OUT RESIZING REQUEUED".split()
LIVE += ["REQUEUE_FED", *HELD]
CONFIG_FILES = ("/etc/slurm/slurm.conf", "/etc/slurm-llnl/slurm.conf", "/run/slurm/conf/slurm.conf")
UNKNOWN_JOB = "Invalid job id"  # what scontrol says of a job that the controller does not have (any more)


class Slurm(Scheduler):
    """Slurm."""

    name, title, programs = "slurm", "Slurm", ("sbatch",)
    settings = ("cuda", "partition")
    # SLURM_EXPORT_ENV would keep the environment from a nested srun.
    prelude = (
        "grid_id=${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-}} grid_index=${SLURM_ARRAY_TASK_ID:-1}\nunset SLURM_EXPORT_ENV"
    )
    id_pattern = r"^([0-9]+)(?:;\S+)?$"  # of sbatch --parsable: the id, and the cluster where there are several
    unreachable_pattern = (
        "Unable to contact slurm controller|[Ss]ocket timed out|Connection (refused|timed out)|Zero Bytes were"
        "|Unexpected message received|standby mode|Transport endpoint|Unable to establish controller"
    )
    not_sent_pattern = "Unable to contact slurm controller|Connection refused|Unable to establish controller"
    too_many_pattern = (
        "Invalid job array specification|job submit limit|SubmitLimit|MaxSubmit|temporarily unable to accept"
    )
    default_max_tasks = 1000  # MaxArraySize - 1, see the man page slurm.conf
    dropped_variables = "SQUEUE_|SBATCH_(ARRAY_INX|WAIT)$"
    extra_variables = {"SLURM_BITSTR_LEN": "0"}  # indexes of tasks that wait are not to be cut off after 64 characters

    def command(
        self, name: str, resources: Resources, dependencies: list[str], tasks: int, max_running: int | None
    ) -> list[str]:
        elsewhere = any(re.match("-M|--clu", word) for word in resources.options)
        if elsewhere or any(map(os.environ.get, CLUSTER_VARIABLES)):
            raise ArgumentError(
                "a job of another cluster could not be found again: submit on a host of that cluster, without the option "
                f"-M, --clusters, and without {' and '.join(CLUSTER_VARIABLES)} in the environment"
            )
        # --export=NONE: the environment of a login, not that of this terminal; no requeue: nothing runs twice unasked
        words = "sbatch --parsable --export=NONE --no-requeue --chdir=/ --output=/dev/null --error=/dev/null".split()
        words += [f"--job-name={name}", "--nodes=1", "--ntasks=1", f"--cpus-per-task={resources.cores}"]
        if resources.memory:
            words += [f"--mem={format_memory(resources.memory, 'M')}"]  # of the node, and so of the whole job
        if resources.cuda:
            words += [f"--gres={self.site.get('cuda', 'gpu')}:{resources.cuda}"]
        if resources.walltime:
            words += [f"--time={resources.walltime // 60}:{resources.walltime % 60:02d}"]  # minutes:seconds
        if queue := resources.queue or self.site.get("partition"):
            words += [f"--partition={queue}"]
        if dependencies:
            words += ["--dependency=afterany:" + ":".join(dependencies)]
        if tasks:
            words += [f"--array=1-{tasks}" + (f"%{max_running}" if max_running else "")]
        return [*words, *resources.options]

    def max_tasks(self) -> int:
        size = self.ask_limit(["scontrol", "show", "config"], r"^MaxArraySize *= *([0-9]+)")
        return self.default_max_tasks if size is None else size - 1

    def hint(self, words: str) -> str:
        if "generic resource" in words:
            return f"This site has another name for GPUs (sinfo -o %G lists them): {self.setting('cuda')}"
        if "ccount" in words:
            return 'This site wants the name of an account: options=["--account=NAME"], or export SBATCH_ACCOUNT=NAME'
        if "artition" in words:
            return f"sinfo lists the partitions: pass queue, or {self.setting('partition')}"
        if "node configuration is not available" in words:
            return "No node has so much: ask for less memory, fewer cores or GPUs, or for another queue (sinfo -Nl)"
        return ""

    def place(self) -> str | None:
        """Read the cluster's name from slurm.conf, which costs no call of the scheduler, or else ask for it."""
        name = None
        chosen = os.environ.get("SLURM_CONF")
        for path in [chosen] if chosen else CONFIG_FILES:
            try:
                with open(path, encoding="utf-8", errors="replace") as file:
                    name = re.search(r"^\s*ClusterName\s*=\s*(\S+)", file.read(), re.MULTILINE | re.IGNORECASE)
                break
            except OSError:
                continue
        if not name:
            try:
                name = re.search(r"^ClusterName *= *(\S+)", self.call(["scontrol", "show", "config"]), re.MULTILINE)
            except SubmitError:
                return None
        return f"{project.user()}@{name[1]}" if name else None

    def queue(self) -> dict[str, list[Row]]:
        # other jobs' names and paths may hold anything, newlines too: nobody can know this text
        rows: dict[str, list[Row]] = {}
        begin = os.urandom(8).hex()
        fields = begin + "\t%F\t%K\t%T\t%r\t%S\t%V\t%N\t%j\t%o"
        # --all: also those in partitions that are hidden
        answer = self.call(["squeue", "--all", "--noheader", "--user", project.user(), "--format", fields])
        before, *lines = answer.split(begin + "\t")
        if answer and not lines:
            raise Unreachable(f"squeue did not print a list of jobs: {answer[:200]!r}")
        for line in lines:
            parts = line.removesuffix("\n").split("\t", 8)
            if len(parts) != 9 or not parts[0].isdecimal():
                raise Unreachable(f"squeue printed a line that ends early: {line[:200]!r}")
            rows.setdefault(parts[0], []).append(self._row(*parts[1:]))
        return rows

    def _row(
        self, index: str, word: str, reason: str, started: str, submitted: str, host: str, name: str, script: str
    ) -> Row:
        """See the man page squeue, JOB STATE CODES and JOB REASON CODES."""
        reason, state = reason.strip("()"), "RUNNING"
        if word in ("PENDING", "REQUEUED", *HELD):
            state = "PENDING"
        if reason.startswith(("launch failed", "user env retrieval failed")):  # Slurm holds it for ever
            state, reason = "FAILED", "in error state; the scheduler will not run it"
        elif re.match("JobHeld|Dependency$|job requeued in held", reason) or word in HELD:
            reason = "held"
        elif state == "RUNNING":
            reason = "suspended" if word in ("SUSPENDED", "STOPPED") else ""
        elif reason in ("None", "Priority", "Resources", "JobArrayTaskLimit"):
            reason = ""
        indexes = None if index == "N/A" else project.parse_ranges(index)
        since = (submitted if state == "PENDING" else started).replace("T", " ")
        return Row(indexes, name, state, word, reason, since, host, script)

    def pending_reason(self, job_id: str, stuck: bool) -> str:
        try:
            words = self.call(["squeue", "--all", "--noheader", "--job", job_id, "--format", "%r"])
        except SubmitError:
            return ""
        return "; ".join(dict.fromkeys(line.strip("()") for line in words.splitlines()))

    def account(self, job_id: str, owner: Owner, listed: bool) -> dict[int, End]:
        """The controller remembers a job for some minutes (MinJobAge); the database, where there is one, for ever."""
        try:
            words = self.call(["scontrol", "-o", "show", "job", job_id])
        except SubmitError as error:
            if UNKNOWN_JOB not in str(error):
                raise Unreachable(str(error)) from None
            words = ""
        whole = f" Command={owner.script} "
        parts = re.split(r"^(?=JobId=)", words, flags=re.MULTILINE)
        ours = [part for part in parts if whole in part and f" UserId={owner.user}(" in part]
        if words and not any(part.startswith("JobId=") for part in parts):
            raise Unreachable(f"scontrol did not print a job: {words[:200]!r}")
        found = self._ends(ours, r"ArrayTaskId=([0-9]\S*)", r"JobState=([A-Z_]+).*?ExitCode=([0-9]+):([0-9]+)")
        if found:
            return found
        try:
            words = self.call(["sacct", "-nPXj", job_id, "-o", "JobID,User,JobName,State,ExitCode"])
        except SubmitError:  # there is no database
            return {}
        ours = [line for line in words.splitlines() if line.split("|")[1:3] == [owner.user, owner.name]]
        return self._ends(ours, r"^[0-9]+_\[?([0-9][^]|]*)", r"\|([A-Z_]+)[^|]*\|([0-9]+):([0-9]+)$")

    def _ends(self, lines: list[str], task: str, end: str) -> dict[int, End]:
        """Tasks that never began share a line: ArrayTaskId=2,4,6-10, and of sacct 123_[2,4,6-10]."""
        found: dict[int, End] = {}
        for line in lines:
            if match := re.search(end, line.strip(), re.DOTALL):
                number = re.search(task, line)
                indexes = project.parse_ranges(number[1]) if number else [1]
                found |= dict.fromkeys(indexes, self._end(match[1], int(match[2]), int(match[3])))
        return found

    def _end(self, word: str, code: int, number: int) -> End:
        if word in LIVE:
            return End("PENDING" if word == "PENDING" else "RUNNING", None, f"{word}, though squeue does not list it")
        if word == "COMPLETED":
            return End("DONE", 0, "according to Slurm")
        if number == 53:  # no signal, but how Slurm notes that the job script did not begin
            return End("FAILED", None, "Slurm could not start it: JobLaunchFailure")
        code = code or (128 + number if 0 < number < 65 else 0)  # other numbers are no signals: 125 is out of memory
        reasons = {
            "TIMEOUT": "killed by Slurm: over its time limit",
            "OUT_OF_MEMORY": "killed by Slurm: over its memory",
            "CANCELLED": "deleted with scancel, or by the site",
            "FAILED": exit_reason(code),
        }
        return End("FAILED", code or None, reasons.get(word, f"Slurm says: {word}"))

    def task_id(self, job_id: str, index: int) -> str:
        return f"{job_id}_{index}"

    def cancel(self, ids: list[str], kill: bool) -> None:
        self.call(["scancel", *ids])
