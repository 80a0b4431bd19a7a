"""The fixture of these tests: a copy of the project in a new folder, and a fake Grid Engine that really runs its jobs."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PROJECT = TESTS.parent


class Project:
    """A copy of this project, in which tests may leave what they like."""

    def __init__(self, folder):
        self.path = folder / 'it\'s a "test" $HOME;echo ü'  # a name that breaks whatever is not quoted
        self.engine = folder / "engine"
        self.path.mkdir()
        for entry in PROJECT.iterdir():
            if entry.suffix == ".py":
                shutil.copy(entry, self.path)
            elif entry.name in (
                "gridlib",
                "experiment",
            ):  # copies, like grid.py: code finds its project by its own path
                shutil.copytree(entry, self.path / entry.name, ignore=shutil.ignore_patterns("__pycache__"))
            elif entry.name not in (
                "__pycache__",
                "env",
                "environment",
                "results",
                "logs",
                "pyproject.toml",
                ".grid",
                ".git",
            ):
                (self.path / entry.name).symlink_to(entry)  # your data, for instance
        # Jobs use the Python that runs the tests, and the site is one that these tests know.
        (self.path / "environment").mkdir()
        activate = f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
        (self.path / "environment" / "activate.sh").write_text(activate)
        (self.path / "pyproject.toml").write_text(
            '[tool.grid.gridengine]\nmemory = "h_vmem"\ncuda = "cuda"\nparallel_environment = "smp"\n'
        )
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith(("GRID_", "SGE_"))}
        self.environ |= {"PATH": f"{TESTS / 'bin'}:{os.environ['PATH']}", "FAKE_GRID_ENGINE": str(self.engine)}

    def run(self, *words, code=0, **variables):
        """Run python with these words in the project, wait for its jobs, and return what it printed and said."""
        environ = self.environ | variables
        done = subprocess.run([sys.executable, *words], cwd=self.path, env=environ, capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        limit = time.monotonic() + 600
        while len(list(self.engine.glob("*.exit"))) < len(self.calls()):
            assert time.monotonic() < limit, "a job does not end"
            time.sleep(0.05)
        return done

    def calls(self):
        """The arguments of all calls of qsub so far."""
        paths = sorted(self.engine.glob("*.args"), key=lambda path: int(path.stem))
        return [json.loads(path.read_text()) for path in paths]

    def results(self):
        """The folders of all finished runs, the oldest first."""
        return sorted(path.parent for path in self.path.glob("results/*/metrics.json"))

    def log(self):
        """All that jobs printed."""
        return "".join(path.read_text() for path in sorted(self.path.glob("logs/*")))


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)
