"""A new job: checks, its folder, its first submission; or a dry run."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import sys

from gridlib import dispatch, project, provenance
from gridlib.errors import ArgumentError, Refused, SubmitError, about, printable, show
from gridlib.folder import JobFolder, new_folder
from gridlib.job import Job
from gridlib.resources import Resources, require, require_path, require_script, require_text
from gridlib.schedulers import Scheduler, choose
from gridlib.submission import Submission

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def submit(
    path: Any,
    lines: list[str],
    activate: Any,
    *,
    array: bool,
    max_running: int | None,
    name: Any,
    log_dir: Any,
    after: Any,
    scheduler: str | None,
    snapshot: bool,
    dry_run: bool,
    **resources: Any,
) -> Job:
    """Submit a new job; see grid.submit_script and grid.submit_array. lines: of tasks.jsonl, one for each task."""
    asked = Resources.parse(**resources)
    script = require_script(path)
    git = provenance.GitState(script)  # looks while the rest is done
    engine, _ = choose(scheduler)
    default_name = os.fsencode(os.path.splitext(os.path.basename(script))[0]).decode("utf-8", "replace")
    facts: dict[str, Any] = {
        "name": job_name(default_name if name is None else name),
        "tasks": len(lines),
        "array": array,
        "max_running": max_running,
        "script": script,
        "activate": require_text("activate", activate),
        "workdir": os.getcwd(),
        "log_dir": log_folder(log_dir, make=not dry_run),
        "scheduler": engine.name,
        "python": sys.executable,
        "after": dependencies_of(after, engine),
        "submitted": project.now(),
    }
    if dry_run:
        job = JobFolder(new_folder(facts["name"], make=False), facts)
        print_dry_run(engine, job, asked, lines)
        return Job(job)
    engine.find_program()
    # what the scheduler refuses is refused before anything is written
    engine.command(facts["name"], asked, [], 0, None)
    job = JobFolder(new_folder(facts["name"]), facts)
    try:
        _write_and_submit(engine, job, lines, asked, git, snapshot)
    except (OSError, ArgumentError, Refused) as error:
        shutil.rmtree(job.path, ignore_errors=True)  # nothing half-submitted is left
        if isinstance(error, ArgumentError):
            error.job = None
            raise
        if isinstance(error, Refused):
            raise SubmitError(str(error)) from None
        raise SubmitError(f"cannot write the folder {job.path} of the job: {error}") from None
    return Job(job)


def _write_and_submit(
    engine: Scheduler, job: JobFolder, lines: list[str], asked: Resources, git: provenance.GitState, snapshot: bool
) -> None:
    facts = job.facts
    project.write_whole(os.path.join(job.path, "tasks.jsonl"), "".join(line + "\n" for line in lines))
    with job.lock() as keep, about(Job(job)):
        if snapshot:
            copy = os.path.join(job.path, "snapshot")
            facts["snapshot"], facts["snapshot_without"] = provenance.take_snapshot(facts["script"], copy)
        script = provenance.script_facts(facts.get("snapshot", facts["script"]))
        origin = provenance.origin() | {"script": script, **git.facts()}
        # this writes job.json too, once the first submission is ready
        dispatch.submit(engine, job, list(range(1, len(lines) + 1)), asked, {}, origin, keep)


def job_name(name: Any) -> str:
    """Return a name that every scheduler takes: letters, digits, and . _ + -; it begins with a letter."""
    name = re.sub(r"[^A-Za-z0-9._+-]+", "_", require_text("name", name))[:100] or "job"
    # Grid Engine takes the names none, all and template for something else
    return name if name[0].isalpha() and name.lower() not in ("none", "all", "template") else "job_" + name


def log_folder(log_dir: Any, make: bool) -> str:
    """Return the absolute path of the folder for logs. It is made now, for a job could not tell that it cannot be."""
    folder = require_path("log_dir", log_dir, "a folder")
    if str(log_dir) == "~" and not os.path.isdir(folder):
        raise ArgumentError(f"log_dir is ~, but there is no home directory {folder}: pass log_dir another folder")
    folder = os.path.abspath(folder)
    if make:
        try:
            os.makedirs(folder, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError("permission denied")
        except OSError as error:
            raise ArgumentError(f"cannot use the log folder {folder}: {error}. Pass log_dir another one.") from None
    return folder


def dependencies_of(after: Any, engine: Scheduler) -> list[dict]:
    """Return the jobs to wait for, as they stand in job.json."""
    after = [] if after is None else [after] if isinstance(after, Job) else after
    good = isinstance(after, (list, tuple)) and all(isinstance(job, Job) and job.ids for job in after)
    require("after", after, good, "a Job that was submitted, or a list of them")
    for job in after:
        if job.scheduler != engine.name:
            raise ArgumentError(f"after: job {job.id} is one of {job.scheduler}, this one is for {engine.name}")
    return [{"ids": job.ids, "folder": str(job.folder), "tasks": len(job)} for job in after]


def print_dry_run(engine: Scheduler, job: JobFolder, resources: Resources, lines: list[str]) -> None:
    """Print what would be submitted."""
    most = engine.default_max_tasks
    submission = Submission(os.path.join(job.path, "1"))
    words = dispatch.command(engine, job, resources, len(lines[:most]), [])
    text = [dispatch.job_script(job, submission, resources, engine), "# tasks.jsonl, the arguments:"]
    text += [line[:2000] for line in lines[:20]]
    if len(lines) > 20:
        text.append(f"# ... and {len(lines) - 20:,} more lines")
    if len(lines) > most:
        text.append(
            f"\n# The {len(lines):,} tasks are several submissions of {most:,}, or as many as the site takes at once."
        )
    text.append("\n# To submit it (the time in the folder's name will be that of the submission):")
    text.append(shlex.join([*words, submission.script]))
    with contextlib.suppress(BrokenPipeError):
        show("\n".join(map(printable, text)))
