"""Run a Python script on a compute cluster with exactly the arguments you would give it here.

    from grid import *

    job = submit_script("train.py", [0.1, [64, 32]], "source env/bin/activate", memory="2G", cuda=1)
    many = submit_array("train.py", [[rate, [64, 32]] for rate in (0.1, 0.01)], "source env/bin/activate")
    qstat()      # what waits and what runs
    qdel(job)    # stop it

and in train.py

    from grid import typecast

    learning_rate, layers = typecast()    # 0.1 and [64, 32]: a float and a list of ints, not words

From the shell, `python grid.py status` shows all jobs, and `python grid.py --help` what else there is.

Copy grid.py and the folder gridlib/ beside any script: they need nothing but Python 3.11. Each job is a folder in .grid/
beside them, all plain text; gridlib/folder.py tells what is in it.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036  # before anything that an older Python would stumble over
    sys.exit(f"grid.py needs Python 3.11 or newer, this is {sys.executable}, {sys.version.split()[0]}")

try:
    from gridlib.errors import ArgumentError, GridError, JobFailed, JobTimeout, SubmitError
    from gridlib.values import typecast as _typecast
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "gridlib":
        raise
    sys.exit(f"grid.py needs the folder gridlib beside it ({__file__}): copy that too")

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence
    from typing import Any

    from gridlib.job import Job

__all__ = ["submit_script", "submit_array", "typecast", "limit_threads", "qstat", "qdel"]
__all__ += ["GridError", "ArgumentError", "SubmitError", "JobFailed", "JobTimeout"]


def submit_script(
    path: str | os.PathLike,
    args: Sequence = (),
    activate: str = "",
    *,
    memory: str | None = None,
    cuda: int = 0,
    cores: int = 1,
    walltime: str | int | None = None,
    name: str | None = None,
    queue: str | None = None,
    log_dir: str | os.PathLike = "~",
    after: Job | Sequence[Job] | None = None,
    options: Sequence[str] = (),
    scheduler: str | None = None,
    snapshot: bool = False,
    dry_run: bool = False,
) -> Job:
    """Run a Python script on the grid, in an environment of yours, as soon as resources are free.

    The job runs in the folder that you submit from. What it prints goes to NAME.oID and NAME.eID in log_dir.

    Args:
        path: the Python script.
        args: a list of what the script gets as arguments: any nesting of numbers, strings, None, lists, tuples, dicts and
            sets, of any size. typecast() in the script returns them; argparse, click or sys.argv see ordinary words.
        activate: the shell command that activates the environment, such as "source /home/me/env/bin/activate" or
            "module load python". Empty: the Python that submits.
        memory: total memory of the job, such as "2G" (K, M, G, T; 1K = 1024 bytes). None: the site's default.
        cuda: number of GPUs.
        cores: number of cores; numeric libraries get as many threads.
        walltime: how long it may run: seconds, or "90m", "2h", "1d", "1:30:00". None: the site's default.
        name: the job's name; by default the script's. Characters that schedulers refuse become "_".
        queue: the queue or partition. None: the site's default.
        log_dir: the folder for the output and the error file, made if missing; the home directory by default.
        after: a Job, or a list of Jobs: start when these jobs have finished; if one fails, this job fails without running.
        options: a list of further options for the scheduler, passed on as they are: ["-P", "vision"].
        scheduler: "gridengine", "slurm", or "background" (this machine). None: $GRID_SCHEDULER, else `scheduler` in the
            table [tool.grid] of pyproject.toml, else what is on PATH.
        snapshot: run a copy of the code as it is now, so that you can edit it while the job waits: in a git repository all
            files that git does not ignore, up to 1 MB each; elsewhere the Python files of the script's folder and below.
            The working directory stays. Data and ignored files are not copied.
        dry_run: only print the job script and the submit command.

    Returns:
        The Job. With dry_run its id is None.

    Raises:
        ArgumentError: an argument cannot be used; it is a TypeError too. Nothing is submitted.
        SubmitError: the scheduler is missing or refuses; or the job was stopped meanwhile. Nothing is submitted, unless the
            message says that this is not known.
    """
    keywords = {key: value for key, value in locals().items() if key not in ("path", "args", "activate")}
    from gridlib import submit, values

    return submit.submit(path, [values.to_line(args)], activate, array=False, max_running=None, **keywords)


def submit_array(
    path: str | os.PathLike,
    tasks: Sequence[Sequence],
    activate: str = "",
    *,
    max_running: int | None = None,
    memory: str | None = None,
    cuda: int = 0,
    cores: int = 1,
    walltime: str | int | None = None,
    name: str | None = None,
    queue: str | None = None,
    log_dir: str | os.PathLike = "~",
    after: Job | Sequence[Job] | None = None,
    options: Sequence[str] = (),
    scheduler: str | None = None,
    snapshot: bool = False,
    dry_run: bool = False,
) -> Job:
    """Run a Python script many times on the grid, each time with other arguments, as one job.

    Tasks are numbered from 1, in the order of the list. Task 7's output and errors go to NAME.oID.7 and NAME.eID.7 in a
    folder of the array's own in log_dir. More tasks than the site takes at once are several submissions of the one job.

    Args:
        path, activate: as in submit_script.
        tasks: a list with the list of arguments of each task; they may differ in length.
        max_running: how many tasks may run at the same time. None: as many as resources allow.
        memory, cuda, cores, walltime ...: as in submit_script; of each task, not of all of them together.

    Returns:
        The Job, with len(job), job.tasks and job.counts.

    Raises:
        ArgumentError: an argument cannot be used; the message names the task. Nothing is submitted.
        SubmitError: the scheduler is missing or refuses. If it took some tasks and refuses others, the message says so, and
            the error's `job` is the Job with those that it took.
    """
    keywords = {key: value for key, value in locals().items() if key not in ("path", "tasks", "activate")}
    from gridlib import resources, submit, values

    expected = "a list with the list of arguments of each task, such as [[0.1, 32], [0.1, 64]]"
    resources.require("tasks", tasks, isinstance(tasks, (list, tuple)) and len(tasks) > 0, expected)
    if max_running is not None:
        resources.require_count("max_running", max_running, 1)
    lines = []
    for number, args in enumerate(tasks, 1):
        try:
            lines.append(values.to_line(args))
        except ArgumentError as error:
            raise ArgumentError(f"task {number}: {error}") from None
    return submit.submit(path, lines, activate, array=True, **keywords)


def typecast(words: str | Iterable | None = None) -> Any:
    """Turn command-line words back into the Python values that they stand for.

    typecast()               the arguments of this script, sys.argv[1:], as a list of values
    typecast(["4.2", "x"])   [4.2, "x"]
    typecast("[4,2]")        [4, 2], so that argparse takes it: add_argument("--layers", type=typecast)

    A word that is no Python literal stays a string. In a job, values arrive as they were passed: the text "42" stays a
    text. Literals are what Python writes for numbers (inf and nan too), strings, bytes, True, False, None, and lists,
    tuples, dicts and sets of them; 4,2 is the tuple (4, 2), as in Python.
    """
    return _typecast(words)


def limit_threads(cores: int = 1) -> None:
    """Let numeric libraries in this process use as many threads as a job with this many cores gets.

    Call it before numpy is imported: with other numbers of threads sums are added up in another order, and the last
    digits of results differ.
    """
    import os

    from gridlib import resources

    os.environ.update(resources.thread_limits(resources.require_count("cores", cores, 1)))


def jobs() -> list[Job]:
    """Return the jobs of this project, the oldest first."""
    from gridlib import job

    return job.all_jobs()


def wait(jobs: Job | Iterable[Job], timeout: float | None = None) -> None:
    """Wait until jobs have finished. Ctrl-C and a timeout end the waiting, not the jobs.

    What the jobs leave in their folders is read every second. The scheduler is asked after half a second and then ever
    more seldom, up to once a minute, in one call for all jobs.

    Args:
        jobs: a Job, or several.
        timeout: in seconds; None: no limit.

    Raises:
        JobFailed: one of them, or more, is FAILED or CANCELLED; all have ended.
        JobTimeout: the time was over first.
    """
    from gridlib import job

    job.wait([jobs] if isinstance(jobs, job.Job) else list(jobs), timeout)


def qstat(scheduler: str | None = None) -> None:
    """Print a table of your jobs that wait or run: id, name, state, since when, where, and what is special."""
    from gridlib import commands

    commands.print_queue(scheduler)


def qdel(job: Job | str | int | Sequence[Job | str | int] | None = None, scheduler: str | None = None) -> list[str]:
    """Stop jobs: a Job or its id, or a list of them; without one, all that qstat() shows.

    A job gets one SIGTERM, so it can save and exit; a second qdel kills a background job.

    Returns:
        The ids of the jobs that the scheduler was told to stop.

    Raises:
        SubmitError: it does not know one of them, or refuses.
    """
    from gridlib import schedulers
    from gridlib.job import Job, all_jobs, stop

    known = {job_id: one for one in all_jobs() for job_id in one.ids}
    if job is None:
        name = schedulers.choose(scheduler)[0].name
        return stop(all_jobs(), name=name, everything=True)
    # a job of this project knows its scheduler; another one may have another job with the same id
    given = job if isinstance(job, (list, tuple)) else [job]
    ours = [
        one if isinstance(one, Job) else known[str(one)] for one in given if isinstance(one, Job) or str(one) in known
    ]
    others = [str(one) for one in given if not isinstance(one, Job) and str(one) not in known]
    if scheduler:
        others += [one.id for one in ours if one.scheduler != scheduler and one.id]
        ours = [one for one in ours if one.scheduler == scheduler]
    return stop(ours, others, schedulers.choose(scheduler)[0].name if others else None)


def __getattr__(name: str) -> Any:
    """Job and Task, for isinstance and Job(folder), without loading them in every worker."""
    if name in ("Job", "Task"):
        from gridlib import job

        return getattr(job, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    from gridlib import commands

    commands.main()
