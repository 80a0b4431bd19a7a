"""A user's folder, in which tests submit jobs with a copy of grid.py and look at how they end."""

import compileall
import importlib
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

from baking import NASTY_FOLDER
from until import until

PROJECT = Path(__file__).resolve().parents[1] / "{{cookiecutter.project_slug}}"


@cache
def compiled_library():
    """A copy of grid.py and gridlib/, compiled once, so that neither tests nor their jobs compile it again."""
    folder = Path(tempfile.mkdtemp(prefix="library-"))
    shutil.copy2(PROJECT / "grid.py", folder)
    shutil.copytree(PROJECT / "gridlib", folder / "gridlib", ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(folder, quiet=1, force=True)
    return folder


def load(folder):
    """The module grid in a folder. It is the only one in this process from now on: its jobs are beside it."""
    for name in [name for name in sys.modules if name == "grid" or name.partition(".")[0] == "gridlib"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    sys.path.insert(0, str(folder))
    try:
        grid = importlib.import_module("grid")
        importlib.import_module("gridlib.submit")  # all rooms, while the folder is on the path
        importlib.import_module("gridlib.commands")
        return grid
    finally:
        sys.path.remove(str(folder))


def room(name):
    """A module of the gridlib that is loaded now: room("states")."""
    return sys.modules.get(f"gridlib.{name}") or importlib.import_module(f"gridlib.{name}")


class Sandbox:
    """A folder in which a user works, with a name that breaks whatever is not quoted: grid.py, gridlib/, what tests write."""

    def __init__(self, tmp_path, monkeypatch, scheduler):
        self.path = path = tmp_path / NASTY_FOLDER
        self.home = tmp_path / "home"
        self.home.mkdir()
        for name in [name for name in os.environ if name.startswith(("GRID_", "PYTHON"))]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(self.home))
        monkeypatch.setenv("GRID_SCHEDULER", scheduler)
        monkeypatch.setenv("PATH", f"{path / 'bin'}:{os.environ['PATH']}")
        shutil.copytree(compiled_library(), path)
        monkeypatch.chdir(path)
        self.grid = load(path)
        self.limits = room("project").limits

    def write(self, name, text):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def program(self, name, text):
        """A program on PATH, in place of a scheduler's own."""
        self.write(f"bin/{name}", f"#!/bin/bash\n{text}\n").chmod(0o755)

    def jobs(self):
        """The folders of all jobs."""
        return sorted(self.path.glob(".grid/*"))

    def submit(self, script="worker.py", args=(), *further, log_dir="logs", **keywords):
        return self.grid.submit_script(script, args, *further, log_dir=log_dir, **keywords)

    def run(self, *args, **keywords):
        """Submit, wait for the end, return the FinishedJob."""
        return self.end(self.submit(*args, **keywords))

    def end(self, job):
        """Wait until a single job has left the record of its end, and read it."""
        until(lambda: ends(job), f"{job} has left a record of its end")
        return FinishedJob(job)


def ends(job):
    """The records of tasks that have ended."""
    return [path for how in ("exit", "stopped") for path in job.folder.glob(f"*/records/*.{how}-*")]


class FinishedJob:
    """A single job that has ended: code, reason, out, err."""

    def __init__(self, job):
        self.job = job
        [end] = ends(job)
        self.code = int(end.name.rpartition("-")[2])
        self.record = dict(line.split(": ", 1) for line in end.read_text(encoding="utf-8").splitlines())
        self.reason = self.record.get("reason", "")
        self.out = job.stdout.read_text(encoding="utf-8", errors="surrogateescape")
        self.err = job.stderr.read_text(encoding="utf-8", errors="surrogateescape")
