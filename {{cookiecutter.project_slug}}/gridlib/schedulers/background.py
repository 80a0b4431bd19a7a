"""No scheduler: jobs are processes of this machine, started at once by background.sh. Memory and GPUs are not limited."""

from __future__ import annotations

import contextlib
import os
import re

from gridlib import project
from gridlib.errors import SubmitError, Unreachable
from gridlib.resources import Resources
from gridlib.schedulers.base import Owner, Row, Scheduler

START = os.path.join(os.path.dirname(os.path.abspath(__file__)), "background.sh")
# The processes of a job, each with the path of its job script or that script's folder: the first one, which starts the
# tasks; the job script of a task; what that runs. A shell that runs a job script by hand has further words.
PROCESSES = (
    r"\S*bash -p /.*/background\.sh --run (/.*/\.grid[^/]*/[^/]+/[0-9]+)/job\.sh [0-9]+ [0-9]+(?: [0-9]+)*$",
    r"\S*bash -p (/.*/\.grid[^/]*/[^/]+/[0-9]+)/job\.sh$",
    r".*/gridlib/run\.py (/.*/\.grid[^/]*/[^/]+/[0-9]+) [0-9]+$",
)


class Background(Scheduler):
    """This machine. A job's id is the number of its process group."""

    name, title = "background", "the background of this machine"
    prelude = "grid_id=${GRID_ID:-} grid_index=${GRID_INDEX:-1}\nunset GRID_ID GRID_INDEX"

    def command(
        self, name: str, resources: Resources, dependencies: list[str], tasks: int, max_running: int | None
    ) -> list[str]:
        room = max_running or max(1, (os.cpu_count() or 1) // resources.cores)
        return ["bash", "-p", START, str(tasks), str(room), *dependencies]

    def find_program(self) -> None:
        import shutil

        if missing := [program for program in ("bash", "ps") if not shutil.which(program)]:
            raise SubmitError(f"{' and '.join(missing)} not found on PATH: a job in the background needs bash and ps")

    def place(self) -> str | None:
        return f"{project.user()}@{os.uname().nodename}"

    def queue(self) -> dict[str, list[Row]]:
        # in this locale ps shows every path as it is
        ps = ["env", "LC_ALL=C.UTF-8", "ps", "-ww", "-u", str(os.getuid()), "-o", "pgid=,lstart=,args="]
        answer, rows = self.call(ps), {}
        jobs = os.path.realpath(project.jobs_folder())
        for line in answer.splitlines():
            group, *since, args = (line.split(None, 6) + [""] * 7)[:7]
            folder = next((match[1] for pattern in PROCESSES if (match := re.match(pattern, args))), None)
            if folder and os.path.realpath(folder).startswith(jobs + os.sep) and group not in rows:
                name = os.path.basename(os.path.dirname(folder)).split("-", 2)[-1]
                began, host = " ".join(since[1:4]), os.uname().nodename
                rows[group] = [Row(None, name, "RUNNING", "background", "", began, host, f"{folder}/job.sh")]
        if not answer.strip():
            raise Unreachable("ps printed no processes")
        return rows

    def find(self, scripts: set[str], names: set[str], queue: dict[str, list[Row]]) -> dict[str, str]:
        return super().find(scripts, names | {row.name for rows in queue.values() for row in rows}, queue)

    def account(self, job_id: str, owner: Owner, listed: bool) -> dict:
        return {}  # the list of processes is complete

    def cancel(self, ids: list[str], kill: bool) -> None:
        import signal

        for job_id in ids:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.killpg(
                    int(job_id), signal.SIGKILL if kill else signal.SIGUSR2
                )  # run.py turns it into SIGTERM, as Grid Engine's
