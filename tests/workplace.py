"""A user's folder, in which tests submit jobs with a copy of grid.py and look at how they end."""

import importlib.util
import os
import shutil
import time
from pathlib import Path

GRID = Path(__file__).resolve().parents[1] / "{{cookiecutter.project_slug}}" / "grid.py"


def load(path):
    """The module at a path; each folder has its own grid.py, and its jobs are beside it."""
    spec = importlib.util.spec_from_file_location("grid", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Folder:
    """A folder in which a user works, with a name that breaks whatever is not quoted: grid.py, and what tests write."""

    def __init__(self, tmp_path, monkeypatch, scheduler):
        self.path = path = tmp_path / 'it\'s a "test" $HOME;echo ü'
        self.home = tmp_path / "home"
        for new in (path, self.home):
            new.mkdir()
        for name in [name for name in os.environ if name.startswith(("GRID_", "PYTHON"))]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(self.home))
        monkeypatch.setenv("GRID_SCHEDULER", scheduler)
        monkeypatch.setenv("PATH", f"{path / 'bin'}:{os.environ['PATH']}")
        monkeypatch.chdir(path)
        self.grid = load(shutil.copy(GRID, path))

    def write(self, name, text):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def program(self, name, text):
        """A program on PATH, in place of a scheduler's own."""
        self.write(f"bin/{name}", f"#!/bin/bash\n{text}\n").chmod(0o755)

    def jobs(self):
        """The folders of all submissions."""
        return sorted(self.path.glob(".grid/*"))

    def run(self, script, args=(), *further, log_dir="logs", **keywords):
        """Submit, wait for the end, return the Ended."""
        return self.end(self.grid.submit_script(script, args, *further, log_dir=log_dir, **keywords))

    def end(self, job):
        """Wait until a job has left the record of its end, and read it."""
        self.wait_until(lambda: list(job.folder.glob("records/*.exit-*")), f"{job} has left a record of its end")
        return Ended(job)

    def wait_until(self, condition, what, timeout=60):
        limit = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < limit, f"after {timeout} s it is still not so that {what}"
            time.sleep(0.05)


class Ended:
    """A job that has ended: code, reason, out, err."""

    def __init__(self, job):
        self.job = job
        [end] = job.folder.glob("records/*.exit-*")
        self.code = int(end.name.rpartition("-")[2])
        self.record = dict(line.split(": ", 1) for line in end.read_text(encoding="utf-8").splitlines())
        self.reason = self.record.get("reason", "")
        self.out = job.stdout.read_text(encoding="utf-8", errors="surrogateescape")
        self.err = job.stderr.read_text(encoding="utf-8", errors="surrogateescape")
