"""What the schedulers have in common, and what each of them must tell."""

from __future__ import annotations

import os
import re
import sys
from typing import NamedTuple

from gridlib import project
from gridlib.errors import Refused, SubmitError, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gridlib.resources import Resources

NO_SCHEDULER_ADVICE = (
    "Work on this machine (make local), submit where a scheduler is installed (the cluster's login node), or run the "
    "job in the background of this machine: GRID_SCHEDULER=background."
)
NEVER = "(?!)"  # a pattern that matches nothing


class Row(NamedTuple):
    """A line of the queue: a job, or some tasks of an array."""

    indexes: list[int] | None  # of the tasks that it tells of; None: no array
    name: str
    state: str  # PENDING, RUNNING, or FAILED: the scheduler has it and will never run it
    word: str  # the scheduler's own word for the state
    reason: str
    since: str
    host: str
    script: str = ""  # the path of the job script, where the list tells it


class End(NamedTuple):
    """What the scheduler's accounting says of a task. PENDING or RUNNING: it is alive, though the list lacks it."""

    state: str
    exit_code: int | None
    reason: str


class Owner(NamedTuple):
    """Whose job it must be: an id alone may be another one's."""

    user: str
    name: str
    script: str


class Scheduler:
    """One scheduler. Everything that differs between schedulers is in its subclasses, a file each."""

    name: str
    title: str
    settings: tuple[str, ...] = ()  # what may stand in [tool.grid.NAME]: how the site calls things
    programs: tuple[str, ...] = ()  # it is here if these are on PATH; the first one submits
    prelude = ""  # lines of the job script that set grid_id and grid_index
    id_pattern = r"^([0-9]+)$"  # the line of the submit command that holds the id
    unreachable_pattern = NEVER  # words of a scheduler that does not respond
    not_sent_pattern = NEVER  # words that say that it surely did not get the job
    too_many_pattern = NEVER  # words that refuse a number of tasks
    dropped_variables = NEVER  # variables of the user's that would change what its commands do
    extra_variables: dict[str, str] = {}
    default_max_tasks = 1_000_000_000  # tasks of one submission, unless the site has changed it

    def __init__(self, table: dict):
        """table: [tool.grid] of pyproject.toml."""
        self.site: dict[str, str] = table.get(self.name, {})

    def command(
        self, name: str, resources: Resources, dependencies: list[str], tasks: int, max_running: int | None
    ) -> list[str]:
        """Return the words of the submit command, to which the path of the job script is added.

        Args:
            dependencies: ids of the jobs that must have ended before, however.
            tasks: how many tasks the array has; 0: no array.

        Raises:
            ArgumentError: something cannot be asked for here.
        """
        raise NotImplementedError

    def queue(self) -> dict[str, list[Row]]:
        """Return the jobs of this user that wait or run, by id. Raises Unreachable if the list cannot be had."""
        raise NotImplementedError

    def cancel(self, ids: list[str], kill: bool) -> None:
        """Stop jobs. kill: they were told before and go on."""
        raise NotImplementedError

    def place(self) -> str | None:
        """Return who asks which cluster, as user@cluster: ids mean something only there. None: not known."""
        return None

    def scripts(self, ids: list[str], queue: dict[str, list[Row]]) -> dict[str, str]:
        """Return the paths of the job scripts of these jobs of the queue, by id.

        Override it where the rows of the queue do not tell the script: a job is found, and stopped, only by its script.
        """
        return {job_id: row.script for job_id in ids for row in queue.get(job_id, ()) if row.script}

    def account(self, job_id: str, owner: Owner, listed: bool) -> dict[int, End]:
        """Return how tasks ended that are not in the queue and left no record, by index; of others than the owner's nothing.

        Args:
            listed: whether the queue shows other tasks of this job. If not, this very job is asked for.

        Raises:
            Unreachable: the scheduler does not tell whether it has the job.
        """
        raise NotImplementedError

    def pending_reason(self, job_id: str, stuck: bool) -> str:
        """Return why a job does not run, in the scheduler's words; empty if it does not tell. stuck: it never will."""
        return ""

    def max_tasks(self) -> int:
        """Return how many tasks the site takes in one submission."""
        return self.default_max_tasks

    def hint(self, words: str) -> str:
        """Return what to do about a refusal, where the cause is known; else an empty text."""
        return ""

    def task_id(self, job_id: str, index: int) -> str:
        """Return what the scheduler calls a task of an array."""
        return job_id

    # What follows is the same for all.

    def find_program(self) -> None:
        """Raise a SubmitError if this machine does not have it."""
        import shutil

        if self.programs and not shutil.which(self.programs[0]):
            raise SubmitError(f"{self.programs[0]} not found: no {self.title} on this machine. {NO_SCHEDULER_ADVICE}")

    def setting(self, key: str) -> str:
        """Return what to write where, for a message."""
        return f'write {key} = "NAME" into the table [tool.grid.{self.name}] of {project.PYPROJECT}'

    def find(self, scripts: set[str], names: set[str], queue: dict[str, list[Row]]) -> dict[str, str]:
        """Return the ids of jobs whose ids were lost, by the paths of their job scripts; names: what they are called."""
        if not scripts:
            return {}
        candidates = [
            job_id for job_id, rows in queue.items() if any(row.name in names or not row.name for row in rows)
        ]
        real = {os.path.realpath(script): script for script in scripts}
        found = self.scripts(candidates, queue).items()
        return {real[path]: job_id for job_id, one in found if (path := os.path.realpath(one)) in real}

    def call(self, command: list[str], keep: tuple[int, ...] = ()) -> str:
        """Return what a command of the scheduler prints.

        Args:
            keep: file descriptors that the command keeps open: a lock, which it holds as long as it is at work.

        Raises:
            Unreachable: it does not respond.
            Refused: it said no.
            SubmitError: it failed without a word, so nobody knows.
        """
        import subprocess

        environ = {key: value for key, value in os.environ.items() if not re.match(self.dropped_variables, key)}
        try:
            done = subprocess.run(
                command,
                env=environ | self.extra_variables,
                timeout=project.limits.call,
                pass_fds=keep,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding=sys.getfilesystemencoding(),  # what it prints may be the path of a job script
                errors="surrogateescape",
                start_new_session=True,  # what it starts in the background outlives this terminal
            )
        except FileNotFoundError:
            raise SubmitError(f"{command[0]} not found on this machine. {NO_SCHEDULER_ADVICE}") from None
        except OSError as error:
            raise SubmitError(f"{command[0]} cannot be run: {error}") from None
        except subprocess.TimeoutExpired:
            raise Unreachable(f"{command[0]} did not respond within {project.limits.call:g} s") from None
        if done.returncode == 0:
            return done.stdout
        words = (done.stderr.strip() + "\n" + done.stdout.strip()).strip()
        kind: type[SubmitError] = SubmitError
        if re.search(self.unreachable_pattern, words):
            kind = Unreachable
        elif done.stderr.strip() and done.returncode > 0:
            kind = Refused
        advice = self.hint(words)
        words = words or f"no message, exit code {done.returncode}"
        raise kind(f"{command[0]} failed: {words}" + (f"\n{advice}" if advice else ""))

    def ask_limit(self, command: list[str], pattern: str) -> int | None:
        """Return the number that a command of the scheduler prints of its limits; None if it does not tell."""
        try:
            match = re.search(pattern, self.call(command), re.MULTILINE)
        except SubmitError:
            return None
        return int(match[1]) if match else None


def exit_reason(code: int) -> str:
    """Return what an exit code means."""
    import signal

    if code > 128 and code - 128 in set(signal.Signals):
        name = signal.Signals(code - 128).name
        return f"killed by {name}" + (", as the system does when memory runs out" if name == "SIGKILL" else "")
    return f"exit code {code}"


_warned: set[str] = set()


def warn_once(text: str) -> None:
    """Print a warning, once in each process."""
    if text not in _warned:
        _warned.add(text)
        print(f"grid: {text}", file=sys.stderr)
