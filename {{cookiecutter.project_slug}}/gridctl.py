#!/usr/bin/env python3
"""Look after this project's jobs from the shell.

    python gridctl.py status            all jobs: id, name, state, since when, where, why
    python gridctl.py log [JOB] [-f]    what a job has printed; -f follows it until its end
    python gridctl.py show [JOB]        everything that is recorded of a job
    python gridctl.py stop [JOB|all]    stop a job, or all
    python gridctl.py clean [AGE]       remove the folders in .grid/ of jobs that ended longer ago than that, as in 30d

JOB is an id, a name, or the beginning of one if only one job's begins so; of jobs with one name it is the latest. Without
JOB it is the latest of all.
"""

import argparse
import json
import os
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
    for exact in (lambda job: job.id == word, lambda job: word in (job.name, job.folder.name)):
        if found := [job for job in jobs if exact(job)]:
            return found[-1]
    found = [job for job in jobs if any(text.startswith(word) for text in (job.id or "", job.name, job.folder.name))]
    if len({job.name for job in found}) > 1 or not found:
        names = ", ".join(f"{job.id} {job.name}" for job in (found or jobs)[-10:])
        raise grid.GridError(f"{word} names {'several jobs' if found else 'no job of this project'}; there are {names}")
    return found[-1]


def status():
    """Print all jobs of this project as a table."""
    jobs = grid.jobs()
    if not jobs:
        print("this project has no jobs yet")
        return
    rows = [("id", "name", "state", "since", "host", "reason")]
    for job, (state, _, reason, record) in zip(jobs, grid.look(jobs)):
        if not reason and state == "PENDING" or "error state" in reason:
            reason = grid.why(job, state) or reason
        since = record.get("ended" if "exit" in record else "started") or job.record["provenance"]["submitted"]
        since = datetime.fromisoformat(since).astimezone().strftime("%d %b %H:%M:%S")
        rows.append((job.id or "?", job.name, state, since, record.get("host", ""), reason))
    widths = [max(len(row[column]) for row in rows) for column in range(5)] + [0]
    colored = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths)]
        if colored and row[2] in COLORS:
            cells[2] = f"\033[{COLORS[row[2]]}m{cells[2]}\033[0m"
        print("  ".join(cells).rstrip())


def log(job, follow):
    """Print what a job has printed so far; go on until it has ended, if that is asked for."""
    read = {}  # how much of each file was shown
    if not follow:
        sys.stdout.write(job.log() or f"{job} has printed nothing so far\n")
        return
    polled, pause, state = 0.0, 0.5, None
    while True:
        ask = time.monotonic() - polled > pause
        state, _, reason, record = grid.look([job], ask)[0]
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
            print(f"{job} is {state}" + (f": {reason}" if reason else ""), file=sys.stderr)
            return
        time.sleep(1)


def show(job):
    """Print everything that is recorded of a job."""
    [(state, code, reason, record)] = grid.look([job])
    print(f"{job.id} {job.name}: {state}" + (f", {reason}" if reason else "") + (f", exit code {code}" if code else ""))
    print(f"\nfolder  {job.folder}\noutput  {job.stdout}\nerrors  {job.stderr}")
    arguments = (job.folder / "tasks.txt").read_text(encoding="utf-8").rstrip("\n")
    print("\nits arguments\n    " + (arguments if len(arguments) < 2000 else arguments[:2000] + " ..."))
    for title, facts in (("what was asked for", job.record), ("what it wrote down", record)):
        text = json.dumps(facts, indent=4, ensure_ascii=False)
        print(f"\n{title}\n{text[2:-2] if facts else '    nothing yet'}")


def clean(age):
    """Remove the folders of jobs that ended longer ago than age, in seconds."""
    jobs = grid.jobs()
    for job, (state, _, _, record) in zip(jobs, grid.look(jobs)):
        if state in ("DONE", "FAILED", "CANCELLED"):
            ended = record.get("ended") or job.record["provenance"]["submitted"]
            if time.time() - datetime.fromisoformat(ended).timestamp() >= age:
                shutil.rmtree(job.folder)
                print(f"removed {job.folder}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["status", "log", "show", "stop", "clean"], help="see above")
    parser.add_argument("job", nargs="?", metavar="JOB", help="or AGE, of clean")
    parser.add_argument("-f", "--follow", action="store_true", help="log: go on until the job has ended")
    options = parser.parse_args()
    if options.command == "status":
        status()
    elif options.command == "log":
        log(find(options.job), options.follow)
    elif options.command == "show":
        show(find(options.job))
    elif options.command == "clean":
        clean(grid.seconds(options.job or "30d", "AGE"))
    else:
        chosen = grid.jobs() if options.job == "all" else [find(options.job)]
        for job, (state, _, _, _) in zip(chosen, grid.look(chosen)):
            if state in ("PENDING", "RUNNING") or len(chosen) == 1:
                job.cancel()
                print(f"{job}: " + ("told the scheduler to stop it" if state in ("PENDING", "RUNNING") else state))


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # python gridctl.py log | head
    try:
        main()
    except grid.GridError as error:
        sys.exit(f"gridctl.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
