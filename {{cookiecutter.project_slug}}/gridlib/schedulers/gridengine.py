"""Sun/Univa/Altair/Open Grid Engine and their kin; see the man pages qsub, qstat, submit, sge_conf, accounting."""

from __future__ import annotations

import os
import re

from gridlib import project
from gridlib.errors import ArgumentError, SubmitError, Unreachable
from gridlib.resources import Resources, ceil_div, format_memory
from gridlib.schedulers.base import End, Owner, Row, Scheduler, exit_reason, warn_once

ASK_AT_ONCE = 500  # ids on one command line


class GridEngine(Scheduler):
    """Grid Engine."""

    name, title, programs = "gridengine", "Grid Engine", ("qsub", "qconf")
    settings = ("memory", "memory_per", "cuda", "cuda_per", "parallel_environment", "queue")
    # Outside arrays SGE_TASK_ID is the text "undefined". SIGUSR1 only announces a suspension (man qsub,
    # -notify), to all processes of the job: it would kill them.
    prelude = (
        'grid_id=${JOB_ID:-} grid_index=${SGE_TASK_ID:-}\n[ "${grid_index:-undefined}" != undefined ] || grid_index=1\n'
        "grid_ignored=USR1"
    )
    # what qsub -terse prints; whole lines only, for sites print notices too
    id_pattern = r"^([0-9]+)(?:\.[0-9]+-[0-9]+:[0-9]+)?$"
    unreachable_pattern = (
        "unable to (send message to|contact) qmaster|commlib error|got (send|select|read) error|timeout"
    )
    not_sent_pattern = "unable to (send message to|contact) qmaster|Connection refused"
    too_many_pattern = "more than .*tasks|jobs are allowed|job limit|too many"
    default_max_tasks = 75_000  # max_aj_tasks, see the man page sge_conf

    def __init__(self, table: dict):
        usual = {"memory": "h_vmem", "memory_per": "slot", "cuda": "cuda", "cuda_per": "job"}
        self.site = usual | table.get(self.name, {})

    def command(
        self, name: str, resources: Resources, dependencies: list[str], tasks: int, max_running: int | None
    ) -> list[str]:
        # -b n -C "" -S: a script, no #$ lines in it, and bash, whatever the site's defaults are. The job script opens its
        # files and changes the folder itself, for Grid Engine expands $HOME and refuses : and , in such paths.
        words = "qsub -terse -notify -b n -j n -C  -S /bin/bash -wd / -o /dev/null -e /dev/null".split(" ")
        words += ["-N", name, *self._memory_and_gpus(resources)]
        if resources.cores > 1:
            if not self.site.get("parallel_environment"):
                raise ArgumentError(
                    f"for {resources.cores} cores Grid Engine needs the name of a parallel environment (qconf -spl lists "
                    f"them): {self.setting('parallel_environment')}"
                )
            words += ["-pe", self.site["parallel_environment"], str(resources.cores)]
        if resources.walltime:
            words += ["-l", f"h_rt={resources.walltime}"]
        if queue := resources.queue or self.site.get("queue"):
            words += ["-q", queue]
        if dependencies:
            words += ["-hold_jid", ",".join(dependencies)]
        if tasks:
            words += ["-t", f"1-{tasks}"] + (["-tc", str(max_running)] if max_running else [])
        return [*words, *resources.options]

    def _memory_and_gpus(self, resources: Resources) -> list[str]:
        """What counts per slot is divided by the slots, rounded up so that the total never falls short."""
        slots = {key: resources.cores if self.site[f"{key}_per"] == "slot" else 1 for key in ("memory", "cuda")}
        words = []
        if resources.memory:
            words += ["-l", f"{self.site['memory']}={format_memory(ceil_div(resources.memory, slots['memory']))}"]
        if resources.cuda:
            each = ceil_div(resources.cuda, slots["cuda"])
            words += ["-l", f"{self.site['cuda']}={each}"]
            if (total := each * slots["cuda"]) > resources.cuda:
                counted = f"{self.site['cuda']} counts per slot here (cuda_per in pyproject.toml)"
                warn_once(f"{counted}: {slots['cuda']} cores get {total} GPUs in all")
        return words

    def max_tasks(self) -> int:
        # 0: no limit
        return self.ask_limit(["qconf", "-sconf"], r"^max_aj_tasks +([0-9]+)") or self.default_max_tasks

    def hint(self, words: str) -> str:
        if match := re.search(r'unknown resource "([^"]*)"', words):
            key = next((key for key in ("memory", "cuda") if self.site[key] == match[1]), None)
            return f"This site has another name for {key} (qconf -sc lists them): {self.setting(key)}" if key else ""
        if "parallel environment" in words:
            return f"This site has others (qconf -spl lists them): {self.setting('parallel_environment')}"
        return ""

    def place(self) -> str | None:
        root, cell = os.environ.get("SGE_ROOT", "/var/lib/gridengine"), os.environ.get("SGE_CELL", "default")
        try:
            with open(os.path.join(root, cell, "common", "cluster_name"), encoding="utf-8", errors="replace") as file:
                cell = f"{cell}/{file.read().strip()}"
        except OSError:
            if not os.path.isdir(os.path.join(root, cell)):
                return None
        return f"{project.user()}@{cell}"

    def queue(self) -> dict[str, list[Row]]:
        import xml.etree.ElementTree as ElementTree

        answer = self.call(["qstat", "-xml", "-u", project.user()])
        try:
            root = ElementTree.fromstring(answer.encode("utf-8", "replace"))
        except (ElementTree.ParseError, ValueError, LookupError) as error:
            raise Unreachable(f"qstat did not print XML ({error}): {answer[:200]!r}") from None
        if root.tag != "job_info":
            raise Unreachable(f"qstat did not print a list of jobs: {answer[:200]!r}")
        rows: dict[str, list[Row]] = {}
        for line in root.iter("job_list"):
            fields = {field.tag: field.text or "" for field in line}
            job_id, word = fields.get("JB_job_number", ""), fields.get("state", "")
            if not job_id.isdecimal() or not word:
                raise Unreachable(f"qstat printed a job without a number or a state: {answer[:200]!r}")
            rows.setdefault(job_id, []).append(self._row(fields, word))
        return rows

    def _row(self, fields: dict[str, str], word: str) -> Row:
        """See the man page qstat: E error, q queued, h held, s S T suspended, d being deleted."""
        if "E" in word:
            state, reason = "FAILED", "in error state; the scheduler will not run it"
        elif "q" in word:
            state, reason = "PENDING", "held" if "h" in word else ""
        else:
            state, reason = "RUNNING", "suspended" if set(word) & set("sSTNP") else ""
        return Row(
            indexes=project.parse_ranges(fields["tasks"]) if fields.get("tasks") else None,
            name=fields.get("JB_name", ""),
            state=state,
            word=word,
            reason="being deleted" if "d" in word else reason,
            since=(fields.get("JAT_start_time") or fields.get("JB_submission_time", "")).replace("T", " "),
            host=fields.get("queue_name", "").rpartition("@")[2],
        )

    def scripts(self, ids: list[str], queue: dict[str, list[Row]]) -> dict[str, str]:
        found: dict[str, str] = {}
        while ids:
            chunk = ids[:ASK_AT_ONCE]
            try:
                answer = self.call(["qstat", "-j", ",".join(chunk)])
                told = self._read_scripts(answer)
                found |= told
            except SubmitError as error:
                _, ended, which = str(error).partition("do not exist")
                if not ended:
                    raise
                told = dict.fromkeys(re.findall("[0-9]+", which), "")  # some versions then say nothing of the others
            if told.keys().isdisjoint(chunk):
                raise Unreachable(f"qstat -j {chunk[0]} printed something else: {answer[:200]!r}")
            ids = [
                job_id for job_id in ids if job_id not in told
            ]  # others have ended, or the answer was cut: ask again
        return found

    def _read_scripts(self, answer: str) -> dict[str, str]:
        """Return the paths of the job scripts in what qstat -j prints, by id."""
        found = {}
        for part in re.split("^={20,}$", answer, flags=re.MULTILINE):
            # in full and unquoted; the next line begins with another name
            field = r"^(job_number|script_file): +(.*(?:\n(?![\w -]+:\s).+)*)\n"
            facts = dict(re.findall(field, part, re.MULTILINE))
            if "script_file" in facts and facts.get("job_number", "").strip().isdecimal():
                found[facts["job_number"].strip()] = facts["script_file"]
        return found

    def pending_reason(self, job_id: str, stuck: bool) -> str:
        try:
            words = self.call(["qstat", "-j", job_id] if stuck else ["qalter", "-w", "p", job_id])
        except SubmitError as error:  # qalter exits with 1 if there is something to say
            words = str(error)
        reasons = r"(?:^error reason +[0-9]+: +|^Job [0-9]+ |failed: Job [0-9]+ )(.*)$"
        return "; ".join(re.findall(reasons, words, re.MULTILINE))

    def account(self, job_id: str, owner: Owner, listed: bool) -> dict[int, End]:
        if not listed and self._knows(job_id, owner):
            raise Unreachable(f"qstat does not list job {job_id}, but qstat -j knows it")
        try:
            words = self.call(["qacct", "-j", job_id])
        except SubmitError:  # there is no accounting here, or it does not know the job
            return {}
        found = {}
        for part in re.split("^={20,}$", words, flags=re.MULTILINE):
            facts = dict(re.findall(r"^(taskid|failed|exit_status|owner|jobname) +(\S+)", part, re.MULTILINE))
            if (facts.get("owner"), facts.get("jobname")) != (owner.user, owner.name):
                continue  # another job had this number
            try:
                end = self._end(int(facts["failed"]), int(facts["exit_status"]))
            except (KeyError, ValueError):
                continue
            index = facts.get("taskid", "")
            found[int(index) if index.isdecimal() else 1] = end
        return found

    def _knows(self, job_id: str, owner: Owner) -> bool:
        """Whether it has this very job; another one may have its number by now."""
        try:
            script = self.scripts([job_id], {}).get(job_id)
        except SubmitError as error:
            raise Unreachable(str(error)) from None
        return script is not None and project.same_path(script, owner.script)

    def _end(self, failed: int, code: int) -> End:
        """See the man page accounting: failed 37 is a limit, 100 a signal."""
        if failed == 37:
            return End("FAILED", code, "killed by Grid Engine: over a limit of time or memory (h_rt, h_cpu, h_vmem)")
        if failed == 100 and code == 137:
            return End("FAILED", code, "killed: by the system, as when memory runs out, or deleted with qdel")
        if not failed and not code:
            return End("DONE", 0, "according to the accounting")
        return End("FAILED", code, f"Grid Engine's accounting: failed {failed}, {exit_reason(code)}")

    def task_id(self, job_id: str, index: int) -> str:
        return f"{job_id}.{index}"

    def cancel(self, ids: list[str], kill: bool) -> None:
        self.call(["qdel", *ids])
