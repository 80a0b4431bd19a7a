"""Tell: submit tasks until the scheduler surely has them, once.

Whenever a submission is interrupted, its tasks are either not submitted, or found again by the path of their job script.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import sys
import time

from gridlib import project
from gridlib.errors import Refused, SubmitError, Unreachable
from gridlib.folder import JobFolder
from gridlib.resources import Resources, thread_limits
from gridlib.schedulers import Scheduler
from gridlib.submission import Submission

HERE = os.path.dirname(os.path.abspath(__file__))


def submit(
    engine: Scheduler,
    job: JobFolder,
    tasks: list[int],
    resources: Resources,
    seen: dict[int, int | None],
    provenance: dict,
    keep: int | None = None,
) -> None:
    """Hand tasks to the scheduler, in as few submissions as it takes.

    Args:
        engine: the job's scheduler.
        tasks: their numbers.
        seen: the submissions that were there when the tasks were chosen, and when each was last asked to stop.
        provenance: facts for submission.json.
        keep: the job's lock, a file descriptor.

    Raises:
        Refused, OSError: none of the tasks is submitted.
        SubmitError: some are, or nobody knows.
    """
    most, left, number = engine.default_max_tasks, tasks, max(seen, default=0)
    if len(tasks) > most:
        most = max(1, engine.max_tasks())
    same = {"resources": resources.to_facts(), "place": engine.place(), **provenance}  # in all submissions
    while left:
        number += 1
        chunk = left[:most]
        words = command(engine, job, resources, len(chunk), job.ids)
        submission = None
        try:
            # the intent is on disk before the scheduler is called, and the id right after
            submission = job.new_submission(number, chunk, {"command": words, **same})
            project.write_whole(submission.script, job_script(job, submission, resources, engine))
            if number == 1:  # from now on others see the job
                project.write_whole(os.path.join(job.path, "job.json"), project.dump_json(job.facts))
            job_id = submit_exactly_once(engine, job, submission, [*words, submission.script], keep)
        except (Refused, OSError) as error:
            if submission:
                shutil.rmtree(submission.path, ignore_errors=True)
            number -= 1
            if len(chunk) > 1 and re.search(engine.too_many_pattern, str(error)):
                site = engine.max_tasks()
                most = site if 0 < site < len(chunk) else len(chunk) // 2
                continue
            if left is tasks:
                raise
            done = f"{len(tasks) - len(left)} of {len(tasks)} tasks are submitted, as {job}; but then: {error}"
            raise SubmitError(f"{done}\nTo submit the others later: python grid.py retry {job.id}") from None
        submission.save_id(job_id)  # if the disk is full, say, the id will be found again
        left = left[most:]
        marks = {one.number: one.stopped() for one in job.submissions()}  # None: no mark, or it cannot be read now
        if any(when is not None and when != seen.get(which) for which, when in marks.items()):
            _stop_own(engine, job, submission)


def command(engine: Scheduler, job: JobFolder, resources: Resources, tasks: int, earlier: list[str]) -> list[str]:
    """Return the words of the submit command, without the path of the job script. earlier: ids of the job's submissions."""
    dependencies = [job_id for before in job.facts["after"] for job_id in before["ids"]]
    max_running = job.facts.get("max_running")
    if max_running:
        dependencies += earlier[-1:]  # the scheduler counts within a submission: they run one after the other
    return engine.command(job.name, resources, dependencies, tasks if job.array else 0, max_running)


def _stop_own(engine: Scheduler, job: JobFolder, submission: Submission) -> None:
    """Stop what was just submitted, for another process was told to stop the job, and could not know of this."""
    with contextlib.suppress(OSError):
        submission.mark_stopped()
    words = f"{job} was stopped while it was submitted"
    try:
        engine.cancel([submission.id or ""], False)
    except SubmitError as error:
        if "does not exist" not in str(error):
            words += f", but {submission.id} may keep running: {error}"
    raise SubmitError(words)


def submit_exactly_once(
    engine: Scheduler, job: JobFolder, submission: Submission, words: list[str], keep: int | None
) -> str:
    """Call the submit command; return the id. Before a second try comes a look whether the first one got through.

    Raises:
        Refused: the scheduler surely does not have it.
        SubmitError: nobody knows.
    """
    end, pause, call = time.monotonic() + project.limits.retry, 0.5, True
    while True:
        if call:
            job_id, trouble = _call_once(engine, words, keep)
            if job_id:
                return job_id
        taken = _was_taken(engine, job, submission)
        if isinstance(taken, str):
            return taken
        # it is only safe to try again, or to give up, if the scheduler surely does not have it
        call = taken is False or isinstance(trouble, Refused) or bool(re.search(engine.not_sent_pattern, str(trouble)))
        left = end - time.monotonic()
        if call and (left <= 0 or not isinstance(trouble, Unreachable)):
            raise Refused(str(trouble))
        if left <= 0:
            with contextlib.suppress(OSError):
                submission.save(unknown=True)  # the scheduler may still take it
            raise SubmitError(
                f"{trouble}\nIt is not known whether the job was submitted; `python grid.py status` will tell ({job.path})"
            )
        if pause == 0.5:  # the first time
            print(f"grid: {words[0]} is not responding; retrying for {project.limits.retry:g} s", file=sys.stderr)
        pause = min(2 * pause, 10)
        time.sleep(min(pause, left))


def _call_once(engine: Scheduler, words: list[str], keep: int | None) -> tuple[str, SubmitError]:
    """Call the submit command; return the id, or an empty text and what went wrong."""
    try:
        # qsub keeps the lock while it is at work; a job in the background would keep it until its end
        answer = engine.call(words, (keep,) if keep is not None and engine.programs else ())
    except SubmitError as error:
        return "", error
    ids = re.findall(engine.id_pattern, answer, re.MULTILINE)
    trouble = SubmitError(f"{words[0]} printed no job id, but: {answer.strip() or 'nothing'}")
    return ids[0] if len(ids) == 1 else "", trouble


def _was_taken(engine: Scheduler, job: JobFolder, submission: Submission) -> str | bool | None:
    """Return the id of a submission that the scheduler has; False if its queue lacks it; None if nobody can tell."""
    found: str | bool | None
    try:
        found = engine.find({submission.script}, {job.name}, engine.queue()).get(submission.script, False)
    except SubmitError:
        found = None
    for task, record in submission.records(refresh=True).items():  # one that has begun may have left the queue already
        return found or submission.read_record(task, record).get("id") or found
    return found


def job_script(job: JobFolder, submission: Submission, resources: Resources, engine: Scheduler) -> str:
    """Return the text of a job script: settings, and then job.sh. Every value is quoted; only `activate` is shell."""
    facts = job.facts
    settings = {
        "grid_folder": submission.path,
        "grid_name": job.name,
        "grid_activate": facts["activate"],
        "grid_walltime": str(resources.walltime or ""),
        "grid_run": os.path.join(HERE, "run.py"),
        "grid_array": "yes" if job.array else "",
        "grid_log_dir": job.log_dir,
        "grid_workdir": facts["workdir"],
        "grid_python": facts["python"],
        "grid_ignored": "",
    }
    lines = [
        "#!/bin/bash -p",
        "# Written by grid.py for the scheduler, which runs it once for each task.",
        f"# To run task 1 by hand, with its output in the terminal:  bash {shlex.quote(submission.script)} 1",
        "",
        "# -p: no function and no shell option of the user's steers this script",
        'case $- in *p*) ;; *) exec /bin/bash -p "$0" "$@" ;; esac',
        *(f"{key}={shlex.quote(value)}" for key, value in settings.items()),
        f"grid_after=({shlex.join(before['folder'] for before in facts['after'])})",
        f"grid_after_tasks=({shlex.join(str(before['tasks']) for before in facts['after'])})",
        "export " + " ".join(f"{key}={value}" for key, value in thread_limits(resources.cores).items()),
        engine.prelude,
    ]
    with open(os.path.join(HERE, "job.sh"), encoding="utf-8") as file:
        return "\n".join(lines) + "\n\n" + file.read()
