"""Manage this project's jobs from the shell: python grid.py COMMAND."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import sys
import time

from gridlib import errors, polling, project, states
from gridlib import job as jobs
from gridlib.errors import GridError, printable
from gridlib.job import Job, Task
from gridlib.resources import parse_walltime
from gridlib.schedulers import choose

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

COLORS = {"DONE": 32, "RUNNING": 36, "PENDING": 33, "FAILED": 31, "CANCELLED": 35}
JOB_HELP = """\
JOB is an id, a name, or the beginning of one if only one job's begins so; of several with the same name, the latest.
Without JOB: the latest job. 123.4 is task 4 of the array 123, for log and show."""

# --- Which job --------------------------------------------------------------------------------------------------------


def find_job(word: str | None) -> Job:
    """Return the job that a word names; without one the latest."""
    known = jobs.all_jobs()
    if not known:
        raise GridError("this project has no jobs yet")
    if word is None:
        return known[-1]
    for exact in (lambda job: word in job.ids, lambda job: job.name == word):
        if found := [job for job in known if exact(job)]:
            return found[-1]
    found = [job for job in known if (job.id or "").startswith(word) or job.name.startswith(word)]
    if len(found) != 1:
        names = ", ".join(f"{job.id} {job.name}" for job in (found or known)[-10:])
        raise GridError(f"{word} matches {'several jobs' if found else 'no job'}; jobs are {names}")
    return found[0]


def find_task(word: str | None) -> Job | Task:
    """Return the job that a word names, or the task, as in 123.4."""
    whole, dot, number = (word or "").rpartition(".")
    if dot and number.isdecimal():
        try:
            job = find_job(whole)
        except GridError:
            return find_job(word)  # a name may hold a dot
        if not 1 <= int(number) <= len(job):
            raise GridError(f"{job.files} has no task {number}; its tasks are 1 to {len(job)}")
        return job.tasks[int(number) - 1]
    return find_job(word)


# --- Tables -----------------------------------------------------------------------------------------------------------


def print_table(rows: Sequence[tuple[str, ...]], state_column: int) -> None:
    """Print rows of texts, the first one as headings; in a terminal the states are coloured and long lines cut."""
    rows = [tuple(printable(cell).replace("\n", " ") for cell in row) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)] + [0]
    terminal = sys.stdout.isatty()
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        if terminal:
            line = line[: max(shutil.get_terminal_size().columns, sum(widths) + 10)]
            begin = sum(widths[:state_column]) + 2 * state_column
            state = row[state_column].partition(" ")[0]
            if state in COLORS and not os.environ.get("NO_COLOR"):
                end = begin + len(state)
                line = f"{line[:begin]}\033[{COLORS[state]}m{line[begin:end]}\033[0m{line[end:]}"
        errors.show(line)


def print_queue(name: str | None = None) -> None:
    """Print a table of this user's jobs that wait or run; see grid.qstat."""
    table = []
    for job_id, rows in choose(name)[0].queue().items():
        groups: dict[tuple, list] = {}  # the tasks of an array are counted
        for row in rows:
            groups.setdefault((row.name, f"{row.state} ({row.word})", row.reason), []).append(row)
        for (job_name, state, reason), group in groups.items():
            indexes = [index for row in group for index in row.indexes or ()]
            hosts = sorted({row.host for row in group})
            where = hosts[0] if len(hosts) == 1 else f"{len(hosts)} hosts"
            what = [reason] * bool(reason) + [f"{len(indexes)} tasks: {project.format_ranges(indexes)}"] * bool(indexes)
            table.append((job_id, job_name, state, min(row.since for row in group), where, ", ".join(what)))
    if table:
        print_table([("id", "name", "state", "since", "where", ""), *table], 2)
    else:
        print("no jobs are waiting or running")


def moment(text: str | None, otherwise: str):
    """Return the time that a record tells, in this place's time."""
    from datetime import datetime

    for one in (text or "", otherwise, "1970-01-01"):  # the last one: both are damaged
        with contextlib.suppress(ValueError, OverflowError):
            return datetime.fromisoformat(one).astimezone()


# --- The commands -----------------------------------------------------------------------------------------------------


def status() -> None:
    """Print all jobs of this project as a table."""
    known = jobs.all_jobs()
    if not known:
        print("this project has no jobs yet")
        return
    rows = [("id", "name", "state", "since", "host", "reason")]
    asked = 0  # why a job does not run: a question that costs the scheduler something
    for job, found in zip(known, polling.poll([job.files for job in known]), strict=True):
        reason, submitted = found.reason, job.facts["submitted"]
        long = time.time() - moment(None, submitted).timestamp() > 30
        waits = found.state == "PENDING" and long and re.match("$|all [0-9]+ tasks pending$", reason)
        if asked < 5 and (waits or found.stuck):
            asked, reason = asked + 1, polling.pending_reason(job.files, found.stuck) or reason
        since = moment(found.record.get("ended" if "exit" in found.record else "started"), submitted)
        when = since.strftime("%d %b %H:%M:%S")
        rows.append((job.id or "?", job.name, found.state, when, found.record.get("host", ""), reason))
    print_table(rows, 2)


def log(job: Job | Task, follow: bool) -> None:
    """Print what a job or a task has printed so far; follow: until it has ended."""
    whole, place = (job.job, job.number - 1) if isinstance(job, Task) else (job, 0)
    if job is whole and whole.files.array:
        tasks = whole.tasks
        failed = next((task for task in tasks if task.state == "FAILED"), tasks[0])
        raise GridError(
            f"{whole.files} has {len(whole)} tasks: say which, as in {whole.id}.{failed.number} ({failed.state})"
        )
    if not follow:
        sys.stdout.write(job.log() or "no output yet\n")
        return
    read: dict = {}  # how much of each file was shown
    for [statuses] in polling.poll_until_ended([whole.files]):
        found, current = statuses[place], whole._tasks(statuses)[place]
        for path in filter(None, (current.stdout, current.stderr)):
            if path.is_file():
                with open(path, "rb") as file:
                    file.seek(read.get(path, 0))
                    sys.stdout.buffer.write(file.read())
                    read[path] = file.tell()
        sys.stdout.flush()
        if found.state not in states.LIVE:
            reason = printable(current.reason)
            name = f"task {job.number} of {whole.files}" if isinstance(job, Task) else f"{whole.files}"
            missing = "" if read else f"; its log files are not in {whole.log_dir}"
            print(f"{name} is {found.state}" + (f": {reason}" if reason else "") + missing, file=sys.stderr)
            return


def show(job: Job | Task) -> None:
    """Print everything that is recorded of a job or a task."""
    whole = job.job if isinstance(job, Task) else job
    state, code, reason, record, stuck = job.status
    if state == "PENDING" or stuck:
        reason = polling.pending_reason(whole.files, stuck) or reason
    text = f", {reason}" * bool(reason) + (f", exit code {code}" if code and "exit code" not in reason else "")
    named = f"task {job.number} of {whole.id} {whole.name}" if isinstance(job, Task) else f"{job.id} {job.name}"
    lines = [f"{named}: {state}{text}", "", f"folder  {whole.folder}"]
    if job is whole and whole.files.array:
        lines += [f"logs    {whole.log_dir}", "", "tasks"]
        for task in whole.tasks:
            if len(whole) <= 100 or task._status.state == "FAILED":
                lines.append(f"    {task.number:>{len(str(len(whole)))}}  {task.state:9}  {task.reason}".rstrip())
        if len(whole) > 100:
            lines.append(f"    of {len(whole):,} tasks only those that failed are listed")
    else:
        number = job.number if isinstance(job, Task) else 1
        try:
            arguments = repr(whole.files.args(number))
        except (OSError, ValueError, IndexError) as error:
            arguments = f"cannot be read: {error}"
        cut = arguments if len(arguments) < 2000 else arguments[:2000] + " ..."
        lines += [f"output  {job.stdout}", f"errors  {job.stderr}", "", "arguments", f"    {cut}"]
    parts = [("recorded by the job", record), ("submitted", whole.facts)]
    parts += [(f"submission {one.number}", one.facts) for one in whole.files.submissions()]
    for title, facts in parts:
        lines += ["", title, project.dump_json(facts)[2:-3] if facts else "    nothing yet"]
    print(printable("\n".join(lines)))


def retry(job: Job, changes: dict) -> None:
    """Run again the tasks of a job that failed or were stopped."""
    before = job.files.submissions()
    job.resubmit(**changes)
    new = job.files.submissions()[len(before) :]
    number = sum(len(submission.tasks) for submission in new)
    print(f"submitted {number} of {len(job)} tasks of {job.files} again, as {', '.join(one.id or '?' for one in new)}")
    if new[-1].facts["script"]["sha256"] not in str(before[-1].facts.get("script")):
        print(f"{job.facts['script']} has changed since they ran before; it runs as it is now")


def stop(chosen: list[Job]) -> None:
    """Stop jobs; of one that has ended already, say so."""
    looked = list(zip(chosen, polling.poll([job.files for job in chosen]), strict=True))
    going = [job for job, found in looked if found.state in states.LIVE or found.stuck]
    jobs.stop(going)
    for job, found in looked:
        if job in going:
            print(f"{job.files}: stop requested")
        elif len(chosen) == 1:
            print(f"{job.files} has ended already: {found.state}")


def clean(age: str) -> None:
    """Remove the folders of jobs that ended longer ago than that."""
    if not age[-1:].isalpha():
        raise GridError(f"AGE needs a unit, such as 30d or 12h, not {age}")
    seconds = parse_walltime(age, "AGE") or 0
    known = jobs.all_jobs()
    looked = list(zip(known, polling.poll([job.files for job in known]), strict=True))
    needed = {before["folder"] for job, found in looked if found.state in states.LIVE for before in job.facts["after"]}
    for job, found in looked:
        if found.state not in states.LIVE and not found.stuck and str(job.folder) not in needed:
            ended = moment(found.record.get("ended"), job.facts["submitted"])
            if time.time() - ended.timestamp() >= seconds:
                shutil.rmtree(job.folder)
                print(printable(f"removed {job.folder}"))


# --- The command line -------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """Return the parser of `python grid.py`."""
    raw = argparse.RawDescriptionHelpFormatter
    main = argparse.ArgumentParser(prog="grid.py", description=__doc__, epilog=JOB_HELP, formatter_class=raw)
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, job: bool = True) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name, help=text, description=text, epilog=JOB_HELP if job else None, formatter_class=raw
        )
        if job:
            made.add_argument("job", nargs="?", metavar="JOB", help="which job; by default the latest")
        return made

    add("status", "list all jobs: id, name, state, since when, where, why", job=False)
    log = add("log", "print what a job has printed")
    log.add_argument("-f", "--follow", action="store_true", help="follow it until the job has ended")
    add("show", "print everything that is recorded of a job")
    add("stop", "stop a job, or all with JOB=all")
    retry = add("retry", "run again the tasks of a job that failed or were stopped, and only those")
    for option, kind in (("memory", str), ("walltime", str), ("cores", int), ("gpus", int), ("queue", str)):
        name = "cuda" if option == "gpus" else option
        retry.add_argument(f"--{option}", type=kind, dest=name, help=f"{option}, if other than before")
    clean = add("clean", "remove the folders in .grid/ of jobs that ended longer ago than AGE", job=False)
    clean.add_argument("age", nargs="?", default="30d", metavar="AGE", help="such as 30d or 12h; by default 30d")
    doctor = add("doctor", "check whether jobs can run here, and how to fix what is wrong", job=False)
    doctor.add_argument("--submit", action="store_true", help="also submit a test job")
    doctor.add_argument("--timeout", type=float, default=300, metavar="SECONDS", help="how long the test job may take")
    return main


def run(options: argparse.Namespace) -> int:
    """Run a command; return the exit code."""
    if options.command in ("status", "log", "show"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # python grid.py log | head
    if options.command == "status":
        status()
    elif options.command == "log":
        log(find_task(options.job), options.follow)
    elif options.command == "show":
        show(find_task(options.job))
    elif options.command == "stop":
        stop(jobs.all_jobs() if options.job == "all" else [find_job(options.job)])
    elif options.command == "retry":
        changes = {key: vars(options)[key] for key in ("memory", "walltime", "cores", "cuda", "queue")}
        retry(find_job(options.job), {key: value for key, value in changes.items() if value is not None})
    elif options.command == "clean":
        clean(options.age)
    else:
        from gridlib import doctor

        return doctor.doctor(options.submit, options.timeout)
    return 0


def main() -> None:
    """Run `python grid.py` and end the program."""
    for stream in (sys.stdout, sys.stderr):  # in a locale that lacks a character, print its number
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal, a file or a pipe
    try:
        sys.exit(run(parser().parse_args()))
    except GridError as error:
        sys.exit(f"grid.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
