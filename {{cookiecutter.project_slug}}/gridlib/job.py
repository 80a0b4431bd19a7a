"""What a user holds: Job and Task."""

from __future__ import annotations

import contextlib
import os

from gridlib import dispatch, polling, provenance, states, stopping
from gridlib.errors import GridError, JobFailed, SubmitError, about
from gridlib.folder import JobFolder, all_folders
from gridlib.resources import Resources, require_script
from gridlib.schedulers import scheduler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any


class HasLog:
    """What a job and a task have in common: a state, and files that they print to."""

    @property
    def status(self) -> states.Status:
        """(state, exit_code, reason, record)."""
        raise NotImplementedError

    @property
    def stdout(self) -> Path | None:
        """The file with the output; None before there is an id. The job makes it at its start."""
        return self._log_file("o")

    @property
    def stderr(self) -> Path | None:
        """The file with the errors."""
        return self._log_file("e")

    def _log_file(self, letter: str) -> Path | None:
        raise NotImplementedError

    @property
    def state(self) -> str:
        """PENDING, RUNNING, DONE, FAILED or CANCELLED."""
        return self.status.state

    @property
    def exit_code(self) -> int | None:
        """The exit code of the script; None before its end, and if it was killed so that nobody could see it."""
        return self.status.exit_code

    @property
    def reason(self) -> str:
        """Why the state is what it is; may be empty."""
        return self.status.reason

    def log(self, last: int | None = None) -> str:
        """Return what was printed so far, the output and then the errors; of each the last so many bytes."""
        texts = []
        for path in (self.stdout, self.stderr):
            if path and path.is_file():
                with open(path, "rb") as file:
                    file.seek(max(0, path.stat().st_size - last) if last else 0)
                    texts.append(file.read().decode("utf-8", "replace"))
        return "".join(texts)


class Task(HasLog):
    """One task of a job, as it was when job.tasks was asked for.

    Attributes:
        job: its Job.
        number: from 1 on, in the order of the list of tasks.
        args: the list of its arguments.
        status, state, exit_code, reason: as of a Job.
        stdout, stderr: the files of its newest run.
    """

    def __init__(self, job: Job, number: int, status: states.Status, submission: Any):
        self.job, self.number, self._status, self._submission = job, number, status, submission

    def __repr__(self) -> str:
        return f"<Task {self.job.id}.{self.number} {self.state}>"

    @property
    def args(self) -> list:
        return self.job.files.args(self.number)

    @property
    def status(self) -> states.Status:
        status = self._status
        if status.state in ("FAILED", "CANCELLED") and "exit" in status.record and self.job.files.array:
            # of many tasks only the names of the records were read so far; the reason stands in them
            record = self._submission.read_record(self.number, status.record)
            self._status = states.decide(record, states.NOT_ASKED, status.state == "CANCELLED")
        return self._status

    def _log_file(self, letter: str) -> Path | None:
        from pathlib import Path

        job_id = self._submission.id if self._submission else None
        path = self.job.files.log_file(self.number, letter, job_id)
        return Path(path) if path else None


class Job(HasLog):
    """A job. All of it is in its folder: Job(folder) picks it up again in any process. len(job) counts its tasks.

    Asking for its state costs a call of the scheduler until the job has ended. An array is RUNNING as soon as a task has
    begun; at the end it is FAILED if a task is, else CANCELLED if one is, else DONE. Its exit code is that of the first
    task that failed, its stdout and stderr are those of its first task.

    Attributes:
        id: the scheduler's id, a text; None if it is not known (yet). ids: of all submissions, retries too.
        name: as the scheduler knows it.
        folder: the Path of its folder; gridlib/folder.py tells what is in it.
        scheduler: "gridengine", "slurm" or "background".
        log_dir: the Path of the folder with its output and error files.
        facts: what was written down at submission, a dict.
    """

    def __init__(self, folder: str | os.PathLike | JobFolder):
        from pathlib import Path

        self.files = folder if isinstance(folder, JobFolder) else JobFolder(folder)
        self.folder, self.log_dir = Path(self.files.path), Path(self.files.log_dir)
        self.facts, self.name, self.scheduler = self.files.facts, self.files.name, self.files.scheduler

    def __len__(self) -> int:
        return len(self.files)

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.name}>"

    @property
    def id(self) -> str | None:
        return self.files.id

    @property
    def ids(self) -> list[str]:
        return self.files.ids

    @property
    def status(self) -> states.Status:
        return polling.poll([self.files])[0]

    @property
    def tasks(self) -> list[Task]:
        """All tasks, as they are now."""
        return self._tasks(polling.poll_tasks([self.files])[0])

    def _tasks(self, statuses: list[states.Status]) -> list[Task]:
        newest = self.files.newest(self.files.submissions())
        return [Task(self, n, status, newest.get(n, (None,))[0]) for n, status in enumerate(statuses, 1)]

    @property
    def counts(self) -> dict[str, int]:
        """How many tasks are in each state."""
        return _count(polling.poll_tasks([self.files])[0])

    def _log_file(self, letter: str) -> Path | None:
        first = self.files.newest(self.files.submissions()).get(1, (None,))[0]
        return Task(self, 1, states.Status("PENDING", None, "", {}), first)._log_file(letter)

    def wait(self, timeout: float | None = None) -> Job:
        """Wait until the job has ended; return it if it is DONE. See grid.wait."""
        wait([self], timeout)
        return self

    def watch(self, timeout: float | None = None) -> Iterator[dict[str, int]]:
        """Yield counts, now and about every second until all tasks have ended; raise JobTimeout after timeout seconds."""
        for [statuses] in polling.poll_until_ended([self.files], timeout):
            yield _count(statuses)

    def as_completed(self, timeout: float | None = None) -> Iterator[Task]:
        """Yield each Task as it ends, however, once; raise JobTimeout after timeout seconds."""
        told: set[int] = set()
        for [statuses] in polling.poll_until_ended([self.files], timeout):
            for task in self._tasks(statuses):
                if task._status.state not in states.LIVE and task.number not in told:
                    told.add(task.number)
                    yield task

    def cancel(self) -> None:
        """Stop the job; see grid.qdel. One that has ended already stays as it is."""
        status = self.status
        if status.state in states.LIVE or status.stuck:
            stop([self])

    def resubmit(self, failed: bool = True, **changes: Any) -> Job:
        """Run again the tasks that are FAILED or CANCELLED, with the same arguments. What they left before is kept.

        Args:
            failed: only those; False: all that have ended.
            changes: what to ask for instead of what was asked for: memory, cuda, cores, walltime, queue, options.

        Returns:
            The job.

        Raises:
            GridError: no task has failed; else as grid.submit_array.
        """
        Resources.parse(**changes)
        try:
            with self.files.lock() as keep, about(self):
                self._resubmit(("FAILED", "CANCELLED") + ("DONE",) * (not failed), changes, keep)
        except OSError as error:
            raise SubmitError(f"cannot submit from {self.folder}: {error}", self) from None
        return self

    def _resubmit(self, ended: tuple[str, ...], changes: dict, keep: int | None) -> None:
        files = self.files
        before = files.submissions()
        seen = {one.number: one.stopped() for one in before}
        statuses = polling.poll_tasks([files], mine=keep is not None)[0]
        tasks = [number for number, status in enumerate(statuses, 1) if status.state in ended]
        if not tasks:
            reason = states.summarize(files, statuses)
            raise GridError(f"{files} has no failed tasks: {reason.reason if files.array else reason.state}")
        # not of one that was never finished
        asked = [one.facts["resources"] for one in before if "resources" in one.facts]
        resources = Resources.from_facts(asked[-1] if asked else None).replace(**changes)
        script = require_script(files.facts.get("snapshot") or files.facts["script"])
        facts = provenance.origin() | {"script": provenance.script_facts(script)}
        git = before[0].facts if "snapshot" in files.facts else provenance.GitState(script).facts()
        facts |= {key: git[key] for key in ("git_commit", "git_changes") if key in git}
        engine = scheduler(files.scheduler)
        dispatch.command(engine, files, resources, len(tasks), [])  # what it refuses is refused before anything is done
        for earlier in files.facts["after"]:  # they may have run again as well
            with contextlib.suppress(OSError, ValueError):
                earlier["ids"] = JobFolder(earlier["folder"]).ids
        # what is in error state still is in the queue: it must not run as well
        newest = files.newest(files.submissions())
        stuck = [newest[task] for task in tasks if statuses[task - 1].stuck]
        if stuck:
            ids = [engine.task_id(one.id or "", index) if files.array else one.id or "" for one, index in stuck]
            engine.cancel(ids, False)
        dispatch.submit(engine, files, tasks, resources, seen, facts, keep)


def _count(statuses: list[states.Status]) -> dict[str, int]:
    from collections import Counter

    return dict.fromkeys(states.STATES, 0) | Counter(status.state for status in statuses)


def all_jobs() -> list[Job]:
    """Return the jobs of this project, the oldest first."""
    return [Job(folder) for folder in all_folders()]


def wait(jobs: list[Job], timeout: float | None = None) -> None:
    """Wait until jobs have ended; see grid.wait."""
    statuses: list[list[states.Status]] = []
    for statuses in polling.poll_until_ended([job.files for job in jobs], timeout):  # noqa: B007  # the last one counts
        pass
    ends = [(job, states.summarize(job.files, tasks), tasks) for job, tasks in zip(jobs, statuses, strict=True)]
    if bad := [end for end in ends if end[1].state != "DONE"]:
        reports = "\n".join(failure_report(*end) for end in bad[:5])
        raise JobFailed(reports + "\n..." * (len(bad) > 5), bad[0][0])


def failure_report(job: Job, status: states.Status, statuses: list[states.Status]) -> str:
    """Return what JobFailed says of a job: its end, and the last lines of its log, or of that of the first failed task."""
    code = "" if status.exit_code is None or "exit code" in status.reason else f"; exit code {status.exit_code}"
    source: HasLog = job
    text = f"job {job.id} {job.name} is {status.state}: {status.reason}{code}."
    if job.files.array and status.state == "FAILED":
        source = next(task for task in job._tasks(statuses) if task._status.state == "FAILED")
        text += f" Task {source.number}: {source.reason}."
    lines = [line for line in source.log(10_000).splitlines() if line.strip()][-10:]
    return "\n    ".join([f"{text} The end of its log:", *lines])


def stop(jobs: list[Job], ids: list[str] | None = None, name: str | None = None, everything: bool = False) -> list[str]:
    """Stop Jobs of this project, and jobs with these ids, or everything, of the scheduler with this name; see grid.qdel."""
    told: list[str] = []
    schedulers = dict.fromkeys([job.scheduler for job in jobs] + [name or ""] * bool(ids))
    try:
        if everything:
            return stopping.stop(name or "", [], [], [job.files for job in jobs if job.scheduler == name])
        for each in schedulers:
            ours = list({job.files.path: job.files for job in jobs if job.scheduler == each}.values())
            told += stopping.stop(each, ours, list(ids or ()) if each == name else [])
    except GridError as error:
        if isinstance(error.job, JobFolder):
            error.job = next((job for job in jobs if job.files is error.job), Job(error.job))
        raise
    return told
