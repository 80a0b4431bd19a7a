"""A job's folder: every file in it, who writes it, and when.

    .grid/20261123-234828-my_script/      one job                                              who writes      when
        job.json              script, activate, workdir, log_dir, scheduler, after ...       the submitter   once
        tasks.jsonl           line 7: the arguments of task 7, a JSON list                   the submitter   once
        snapshot/             the code as it was                                             the submitter   once
        1/                    the first submission; further ones, retries too, are 2/, 3/    mkdir: whoever makes it owns it
            submission.json   its tasks ("1-1000"), resources, who, where; then its id       its owner       twice
            tasks             the number of the task at each index, a line each              its owner       once
            job.sh            what the scheduler runs; `bash 1/job.sh 7` runs task 7 here     its owner       once
            stopped           empty: somebody asked to stop it                               who stops it    once
            records/          7.running, renamed to 7.exit-0, 7.exit-3 or 7.stopped-143      the job, at its start and end
            lost.json         how tasks ended that left the queue without a record           who found out   rarely

Whoever finds an id that was lost adds it to submission.json: all find the same. Of a task its newest submission counts. A single job is an array of one task. The number of a submission is one more than
the newest that its owner had seen when it chose the tasks, so of two that choose at the same time mkdir lets one win.

Whoever submits holds a lock on tasks.jsonl, and so does a qsub that it has called: where file systems have locks, that
tells at once whether an id may still come. Times are compared only between two files of the same file server.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time

from gridlib import project, values
from gridlib.errors import SubmitError
from gridlib.submission import Submission

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

REQUIRED = {"name": str, "tasks": int, "array": bool, "script": str, "workdir": str, "log_dir": str, "scheduler": str}
REQUIRED |= {"activate": str, "python": str, "after": list, "submitted": str}


class JobFolder:
    """A job's folder. What is in job.json never changes; the submissions are read anew at each look."""

    def __init__(self, path: str | os.PathLike, facts: dict | None = None):
        """facts: of a job that is being made; else they are read. Raises OSError or ValueError if they cannot be."""
        self.path = os.path.abspath(path)
        self.facts = facts or project.load_json(os.path.join(self.path, "job.json"))
        for key, kind in REQUIRED.items():
            if type(self.facts.get(key)) is not kind:
                raise ValueError(f"{key} is missing or wrong")
        kinds = {"ids": list, "folder": str, "tasks": int}
        if self.facts["tasks"] < 1 or type(self.facts.get("max_running")) not in (int, type(None)):
            raise ValueError("tasks or max_running is wrong")
        if any(
            type(one) is not dict or {key: type(one.get(key)) for key in kinds} != kinds for one in self.facts["after"]
        ):
            raise ValueError("after is wrong")
        self.name: str = self.facts["name"]
        self.scheduler: str = self.facts["scheduler"]
        self.array: bool = self.facts["array"]
        self.log_dir: str = self.facts["log_dir"]
        if self.array:
            self.log_dir = os.path.join(self.log_dir, os.path.basename(self.path))
        self._known: dict[int, Submission] = {}  # those that have an id change no more
        self._lines: list[str] | None = None

    def __len__(self) -> int:
        return self.facts["tasks"]

    def __str__(self) -> str:
        """What messages call it."""
        return f"job {self.id or '?'} ({self.name})"

    @property
    def id(self) -> str | None:
        """The scheduler's id of the first submission."""
        return next(iter(self.ids), None)

    @property
    def ids(self) -> list[str]:
        """The ids of all submissions."""
        return [submission.id for submission in self.submissions() if submission.id]

    def submissions(self) -> list[Submission]:
        """Return all submissions, the oldest first."""
        try:
            numbers = sorted(int(name) for name in os.listdir(self.path) if name.isdecimal())
        except OSError:  # its folder was removed: what is known stays known
            return list(self._known.values())
        found = []
        for number in numbers:
            submission = self._known.get(number) or Submission(os.path.join(self.path, str(number)))
            found.append(submission)
            if submission.id:
                self._known[number] = submission
        return found

    def new_submission(self, number: int, tasks: list[int], facts: dict) -> Submission:
        """Make the folder of a submission.

        Raises:
            SubmitError: another process has made one of this number.
            OSError: it cannot be written.
        """
        path = os.path.join(self.path, str(number))
        try:
            os.mkdir(path)
        except FileExistsError:
            raise SubmitError(f"another process is submitting tasks of {self}; try again later") from None
        try:
            os.mkdir(os.path.join(path, "records"))
            project.write_whole(os.path.join(path, "tasks"), "".join(f"{task}\n" for task in tasks))
            submission = Submission(path, {"id": None, "tasks": project.format_ranges(tasks), **facts})
            submission.save()
        except OSError:
            shutil.rmtree(path, ignore_errors=True)  # nothing half-made is left
            raise
        return submission

    def newest(self, submissions: list[Submission]) -> dict[int, tuple[Submission, int]]:
        """Return the newest submission of each task, and the scheduler's index of the task there."""
        return {
            task: (submission, index) for submission in submissions for index, task in enumerate(submission.tasks, 1)
        }

    def args(self, task: int) -> list:
        """Return the arguments of a task. Raises OSError or ValueError if they cannot be read."""
        if self._lines is None:
            with open(os.path.join(self.path, "tasks.jsonl"), encoding="utf-8", newline="\n") as file:
                self._lines = file.read().split("\n")
        return values.from_line(self._lines[task - 1])

    def log_file(self, task: int, letter: str, job_id: str | None) -> str | None:
        """Return the path of a task's output (letter o) or error file (letter e)."""
        end = f".{task}" if self.array else ""
        return os.path.join(self.log_dir, f"{self.name}.{letter}{job_id}{end}") if job_id else None

    def last_record(self, submissions: list[Submission]) -> str | None:
        """Return when the last task began or ended."""
        from datetime import datetime

        times = []
        for submission in submissions:
            with contextlib.suppress(OSError):
                times.append(os.stat(os.path.join(submission.path, "records")).st_mtime)
        return datetime.fromtimestamp(max(times)).astimezone().isoformat() if times else None

    # --- Who submits --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self) -> Iterator[int | None]:
        """Be the only process that submits tasks of this job. Yields the lock, a file descriptor; None: no locks here.

        The lock ends with this process, and with the commands that keep it: qsub, at work, whatever happens to us.

        Raises:
            SubmitError: another process has it.
            OSError: tasks.jsonl cannot be opened.
        """
        import fcntl

        with open(os.path.join(self.path, "tasks.jsonl"), "rb+") as file:
            locked = False
            for left in reversed(range(20)):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    locked = True
                    break
                except BlockingIOError:  # whoever asks whether it is locked has it for a moment
                    if not left:
                        raise SubmitError(f"another process is submitting tasks of {self}; try again later") from None
                    time.sleep(0.05)
                except OSError:  # a file system without locks
                    break
            yield file.fileno() if locked else None
            if locked:  # children that were forked meanwhile have it too; if we were interrupted, qsub still keeps it
                fcntl.flock(file, fcntl.LOCK_UN)

    def is_locked(self) -> bool | None:
        """Return whether a process submits tasks of this job at this moment; None if nobody can tell."""
        import fcntl

        try:
            with open(os.path.join(self.path, "tasks.jsonl"), "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return None
        return False

    def is_being_submitted(self, submission: Submission | None, mine: bool = False) -> bool:
        """Return whether an id may still come of a submission; None: of tasks that no submission holds yet.

        Args:
            mine: this process holds the lock, so no other one on this machine submits.
        """
        locked = False if mine else self.is_locked()
        latest = submission or next(reversed(self.submissions()), None)
        if locked or latest is None or (submission and Submission(submission.path).id):  # which came just now
            return True
        # The submitter is no more, but a qsub that it had called may still be at work. Locks of other hosts may not be seen.
        # One that has not even written submission.json has not called it.
        here = not latest.facts or latest.facts.get("host") == os.uname().nodename
        if mine and here and submission is None:
            return False
        soon = locked is False and here and not latest.facts.get("unknown")
        age = self._age(os.path.join(latest.path, "submission.json" if latest.facts else ""))
        return age is None or age < (project.limits.grace if soon else project.limits.retry + 2 * project.limits.call)

    def _age(self, path: str) -> float | None:
        """Return how old a file is, in seconds, by the clock of its own file server; None if that cannot be found out."""
        from _thread import get_ident

        probe = os.path.join(self.path, f".clock.{os.getpid()}.{get_ident()}")
        try:
            with open(probe, "w"):
                pass
            try:
                return os.stat(probe).st_mtime - os.stat(path).st_mtime
            finally:
                os.remove(probe)
        except OSError:
            return None


def new_folder(name: str, make: bool = True) -> str:
    """Return the path of a fresh folder for a job. mkdir decides when two processes want the same name.

    Raises:
        SubmitError: it cannot be made.
    """
    jobs = project.jobs_folder()
    stem = os.path.join(jobs, f"{time.strftime('%Y%m%d-%H%M%S')}-{name}")
    number, path = 1, stem
    while make:
        try:
            os.makedirs(jobs, mode=0o700, exist_ok=True)  # arguments and commands are nobody else's business
            if os.stat(jobs).st_mode & 0o077:
                os.chmod(jobs, 0o700)
            os.mkdir(path, 0o700)
            break
        except FileExistsError:
            number += 1
            path = f"{stem}-{number}"
            if number > 10_000:
                raise SubmitError(f"{jobs} is not a folder, or full of jobs of this name") from None
        except OSError as error:
            raise SubmitError(f"cannot make the folder {path} of the job: {error}") from None
    return path


def all_folders() -> list[JobFolder]:
    """Return the folders of all jobs of this project, the oldest first. One that cannot be read is named, and left out."""
    import sys

    from gridlib.errors import printable

    jobs = project.jobs_folder()
    names = os.listdir(jobs) if os.path.isdir(jobs) else []
    found = []
    for name in names:
        path = os.path.join(jobs, name)
        try:
            found.append(JobFolder(path))
        except (FileNotFoundError, NotADirectoryError):  # being made, or just removed
            pass
        except (OSError, ValueError) as error:
            print(printable(f"grid: ignoring {path}: its job.json cannot be read: {error}"), file=sys.stderr)
    return sorted(found, key=lambda folder: (folder.facts["submitted"], folder.path))
