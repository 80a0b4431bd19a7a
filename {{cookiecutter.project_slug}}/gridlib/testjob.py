"""The doctor's test job, and what it takes from the project: the starter's defaults, the activation."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from gridlib import polling, project, states, values
from gridlib.errors import GridError, JobTimeout
from gridlib.job import Job, all_jobs
from gridlib.packages import REPORT_PREFIX
from gridlib.submit import submit

PROJECT = Path(project.PROJECT)


def starters() -> list[Path]:
    """Return the starters of this project: each X.py beside a worker X_local.py."""
    workers = sorted(PROJECT.glob("*_local.py"))
    found = [worker.with_name(worker.name.removesuffix("_local.py") + ".py") for worker in workers]
    return [starter for starter in found if starter.is_file()]


def starter_default(constant: str, otherwise: Any) -> Any:
    """Return what the starter requests by default, MEMORY or CUDA: the text of that constant in it."""
    for starter in starters():
        if match := re.search(rf'^{constant} = "?([^"\s#]+)', starter.read_text(encoding="utf-8"), re.MULTILINE):
            return match[1]
    return otherwise


def activation() -> str:
    """Return the command that activates the environment: the Makefile's, else the project's."""
    own = f"source {shlex.quote(str(PROJECT / 'environment' / 'activate.sh'))}"
    return os.environ.get("GRID_ACTIVATE") or own


class TestJob:
    """A job that runs packages.py. What it leaves is removed, unless it failed on the grid."""

    job: Any = None  # the Job, once it is submitted

    def __init__(self, name: str):
        """name: of the scheduler."""
        self.name = name

    def __enter__(self) -> TestJob:
        folder = project.jobs_folder()
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self.logs = tempfile.mkdtemp(prefix="doctor-", dir=folder)
        return self

    def submit(self, memory: str | None = None, cuda: int = 0) -> Job:
        """Submit it."""
        workers = [starter.with_name(f"{starter.stem}_local.py") for starter in starters()]
        self.job = submit(
            Path(__file__).with_name("packages.py"),
            [values.to_line([str(PROJECT / "environment"), *map(str, workers)])],
            activation(),
            array=False,
            max_running=None,
            name="doctor",
            log_dir=self.logs,
            after=None,
            scheduler=self.name,
            snapshot=False,
            dry_run=False,
            memory=memory,
            cuda=cuda,
        )
        return self.job

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        interrupted, background = kind in (KeyboardInterrupt, GeneratorExit), self.name == "background"
        if not self.job and interrupted:  # while it was being submitted
            self.job = next((job for job in all_jobs() if str(job.log_dir) == self.logs), None)
        done = False
        if self.job:
            status = polling.poll([self.job.files], ask=not self.job.id)[0]  # the queue tells its id
            done = status.state == "DONE"
            if status.state in states.LIVE or status.stuck:
                interrupted = self._stop() and interrupted
        if not self.job or done or interrupted or background:
            for folder in (self.logs, self.job and self.job.folder):
                shutil.rmtree(folder or "", ignore_errors=True)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(self.logs))  # if it was made for this

    def _stop(self) -> bool:
        """Stop it, and say so; return whether that was possible."""
        background = self.name == "background"
        try:
            self.job.cancel()
            with contextlib.suppress(JobTimeout):  # so that its end is not recorded in a folder that is gone
                for _ in self.job.watch(0.5 if background else 5):
                    pass
            if background:
                self.job.cancel()  # the second time kills it
        except GridError as error:
            print(error, file=sys.stderr)
            return False
        print(f"stopped the doctor's job {self.job.id}", file=sys.stderr)
        return True

    def report(self) -> dict | None:
        """Return what the job has printed; None if there is nothing yet."""
        lines = self.job.log().splitlines() if self.job else []
        reports = [line.removeprefix(REPORT_PREFIX) for line in lines if line.startswith(REPORT_PREFIX)]
        return json.loads(reports[-1]) if reports else None
