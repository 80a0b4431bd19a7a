#!/usr/bin/env python3
"""Look after this project's jobs from the shell.

    python gridctl.py status            all jobs: id, name, state, since when, where, why
    python gridctl.py log [JOB] [-f]    what a job has printed; -f follows it until its end
    python gridctl.py show [JOB]        everything that is recorded of a job
    python gridctl.py stop [JOB|all]    stop a job, or all
    python gridctl.py retry [JOB] [--memory 4G] [--walltime 2h] [--cores N] [--gpus N] [--queue Q]
                                        run again the tasks of a job that failed or were stopped, and only those
    python gridctl.py clean [AGE]       remove the folders in .grid/ of jobs that ended longer ago than that, as in 30d
    python gridctl.py doctor            whether jobs can run here, and how to mend what is wrong; --submit runs one

JOB is an id, a name, or the beginning of one if only one job's begins so; of jobs with one name it is the latest. Without
JOB it is the latest of all. 123.4 is task 4 of the array 123, for log and show.
"""

import argparse
import json
import os
import re
import shutil
import signal
import sys
import time
from datetime import datetime

import grid

COLORS = {"DONE": 32, "RUNNING": 36, "PENDING": 33, "FAILED": 31, "CANCELLED": 35}


def find(word):
    """The job that a word names."""
    jobs = grid.jobs()
    if not jobs:
        raise grid.GridError("this project has no jobs yet")
    if word is None:
        return jobs[-1]
    for exact in (lambda job: word in job.ids, lambda job: job.name == word):
        if found := [job for job in jobs if exact(job)]:
            return found[-1]
    found = [job for job in jobs if (job.id or "").startswith(word) or job.name.startswith(word)]
    if len(found) != 1:
        names = ", ".join(f"{job.id} {job.name}" for job in (found or jobs)[-10:])
        raise grid.GridError(f"{word} names {'several jobs' if found else 'no job of this project'}; there are {names}")
    return found[0]


def status():
    """Print all jobs of this project as a table."""
    jobs = grid.jobs()
    if not jobs:
        print("this project has no jobs yet")
        return
    rows = [("id", "name", "state", "since", "host", "reason")]
    asked = 0  # the scheduler why a job does not run: a question that costs it something
    for job, status in zip(jobs, grid.look(jobs)):
        state, _, reason, record = status
        submitted = job.record["provenance"]["submitted"]
        long = time.time() - datetime.fromisoformat(submitted).timestamp() > 30
        waits = state == "PENDING" and long and re.match("$|all [0-9]+ tasks pending$", reason)
        if asked < 5 and (waits or grid.in_error_state(status)):
            asked, reason = asked + 1, grid.why(job, state) or reason
        since = moment(record.get("ended" if "exit" in record else "started"), submitted).strftime("%d %b %H:%M:%S")
        rows.append((job.id or "?", job.name, state, since, record.get("host", ""), reason))
    widths = [max(len(row[column]) for row in rows) for column in range(5)] + [0]
    terminal = sys.stdout.isatty()
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        if terminal:
            line = line[: max(shutil.get_terminal_size().columns, sum(widths) + 10)]
            if row[2] in COLORS and not os.environ.get("NO_COLOR"):
                place = widths[0] + widths[1] + 4
                end = place + len(row[2])
                line = f"{line[:place]}\033[{COLORS[row[2]]}m{line[place:end]}\033[0m{line[end:]}"
        print(line)


def moment(text, otherwise):
    """The time that a record tells, in this place's time."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (TypeError, ValueError):
        return datetime.fromisoformat(otherwise).astimezone()


def find_task(word):
    """The Job that a word names, or the Task; of an array the task has to be said."""
    whole, dot, number = (word or "").rpartition(".")
    if dot and number.isdecimal():
        try:
            job = find(whole)
        except grid.GridError:
            return find(word)  # a name may hold a dot
        if not 1 <= int(number) <= len(job):
            raise grid.GridError(f"{job} has no task {number}; they are numbered from 1 to {len(job)}")
        return job.tasks[int(number) - 1]
    return find(word)


def log(job, follow):
    """Print what a job or a task has printed so far; go on until it has ended, if that is asked for."""
    whole, place = (job.job, job.number - 1) if isinstance(job, grid.Task) else (job, 0)
    if job is whole and job.record["array"]:
        failed = next((task for task in job.tasks if task.state == "FAILED"), job.tasks[0])
        raise grid.GridError(f"{job} has {len(job)} tasks: say which, as in {job.id}.{failed.number} ({failed.state})")
    if not follow:
        sys.stdout.write(job.log() or f"{job} has printed nothing so far\n")
        return
    read = {}  # how much of each file was shown
    polled, pause, state = 0.0, 0.5, None
    while True:
        ask = time.monotonic() - polled > pause
        state, _, reason, record = grid.look_at_tasks([whole], ask)[0][place]
        if ask:
            polled, pause = time.monotonic(), min(60, pause * 1.5)
        for path in filter(None, (job.stdout, job.stderr)):
            if path.exists():
                with open(path, "rb") as file:
                    file.seek(read.get(path, 0))
                    sys.stdout.buffer.write(file.read())
                    read[path] = file.tell()
        sys.stdout.flush()
        if state in ("DONE", "FAILED", "CANCELLED"):
            reason = job.reason if job is not whole else reason
            print(f"{job} is {state}" + (f": {reason}" if reason else ""), file=sys.stderr)
            return
        time.sleep(1)


def show(job):
    """Print everything that is recorded of a job or a task."""
    whole, record = (job.job if isinstance(job, grid.Task) else job), {}
    status = job.status
    state, code, reason, record = status
    if state == "PENDING" or grid.in_error_state(status):
        reason = grid.why(whole, state) or reason
    code = f", exit code {code}" if code and "exit code" not in reason else ""
    named = f"{job.id} {job.name}" if job is whole else f"task {job.number} of {whole.id} {whole.name}"
    print(f"{named}: {state}" + (f", {reason}" if reason else "") + code)
    print(f"\nfolder  {whole.folder}")
    if job is whole and job.record["array"]:
        print(f"logs    {job.log_dir}\n\nits tasks")
        for task, (state, _, reason, _) in zip(job.tasks, job.recent_statuses()):
            if len(job) <= 100 or state == "FAILED":
                reason = task.reason if state == "FAILED" else reason
                print(f"    {task.number:>{len(str(len(job)))}}  {state:9}  {reason}".rstrip())
        if len(job) > 100:
            print(f"    of {len(job):,} tasks only those that failed are listed")
    else:
        print(f"output  {job.stdout}\nerrors  {job.stderr}")
        try:
            arguments = repr((job.tasks[0] if job is whole else job).args)
        except OSError:
            arguments = "tasks.txt is gone"
        print("\nits arguments\n    " + (arguments if len(arguments) < 2000 else arguments[:2000] + " ..."))
    for title, facts in (("what was asked for", whole.record), ("what it wrote down", record)):
        text = json.dumps(facts, indent=4, ensure_ascii=False)
        print(f"\n{title}\n{text[2:-2] if facts else '    nothing yet'}")


def retry(job, changes):
    """Run again what failed of a job."""
    before = len(job.ids)
    job.resubmit(**changes)
    tasks = job.record["retries"][-1]["tasks"]
    print(f"{job}: submitted {tasks} of {len(job)} tasks again, as {', '.join(job.ids[before:])}")
    scripts = [attempt["provenance"]["script_sha256"] for attempt in [job.record, *job.record["retries"]]]
    if scripts[-1] != scripts[-2]:
        print(f"{job.record['script']} has changed since they ran before; it runs as it is now")


def clean(age):
    """Remove the folders of jobs that ended longer ago than age, in seconds."""
    jobs = grid.jobs()
    looked = list(zip(jobs, grid.look(jobs)))
    waited_for = {
        number
        for job, status in looked
        if status.state in ("PENDING", "RUNNING")
        for before in job.record["after"]
        for number in before["ids"]
    }
    for job, (state, _, _, record) in looked:
        if state in ("DONE", "FAILED", "CANCELLED") and job.id not in waited_for:
            ended = moment(record.get("ended"), job.record["provenance"]["submitted"])
            if time.time() - ended.timestamp() >= age:
                shutil.rmtree(job.folder)
                print(f"removed {job.folder}")


def stop(chosen):
    """Stop jobs; of those that have ended already, say so."""
    looked = list(zip(chosen, grid.look(chosen)))
    going = [job for job, status in looked if status.state in grid.LIVE or grid.in_error_state(status)]
    grid.qdel(going)
    for job, status in looked:
        if job in going:
            print(f"{job}: told the {'scheduler' if job.id else 'process that submits it'} to stop it")
        elif len(chosen) == 1:
            print(f"{job}: {status.state}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "command", choices=["status", "log", "show", "stop", "retry", "clean", "doctor"], help="see above"
    )
    parser.add_argument("job", nargs="?", metavar="JOB", help="or AGE, of clean")
    parser.add_argument("-f", "--follow", action="store_true", help="log: go on until the job has ended")
    for option, kind in (("memory", str), ("walltime", str), ("cores", int), ("gpus", int), ("queue", str)):
        what = f"retry: {option}, if other than before"
        parser.add_argument(f"--{option}", type=kind, dest="cuda" if option == "gpus" else option, help=what)
    parser.add_argument("--submit", action="store_true", help="doctor: also run a job")
    parser.add_argument("--timeout", type=float, default=300, metavar="SECONDS", help="that the doctor's job may take")
    options = parser.parse_intermixed_args()
    if options.command in ("status", "log", "show"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # python gridctl.py log | head
    if options.command == "status":
        status()
    elif options.command == "log":
        log(find_task(options.job), options.follow)
    elif options.command == "show":
        show(find_task(options.job))
    elif options.command == "retry":
        changes = {key: vars(options)[key] for key in ("memory", "walltime", "cores", "cuda", "queue")}
        retry(find(options.job), {key: value for key, value in changes.items() if value is not None})
    elif options.command == "clean":
        age = options.job or "30d"
        if not age[-1:].isalpha():
            raise grid.GridError(f"AGE is {age}: give it a unit, as in 30d or 12h")
        clean(grid.seconds(age, "AGE"))
    elif options.command == "doctor":
        import doctor

        sys.exit(doctor.doctor(options.submit, options.timeout))
    else:
        stop(grid.jobs() if options.job == "all" else [find(options.job)])


if __name__ == "__main__":
    try:
        main()
    except grid.GridError as error:
        sys.exit(f"gridctl.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
