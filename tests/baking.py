"""Makes projects from the template with cookiecutter, as a user does, and runs commands in them."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

from until import until

TEMPLATE = Path(__file__).resolve().parent.parent
QUESTIONS = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))

# A folder that breaks whatever is not quoted; no name of a folder may break anything.
NASTY_FOLDER = 'it\'s a "test" $HOME;echo ü'

BACKGROUND = {"GRID_SCHEDULER": "background"}


class Project:
    """A generated project."""

    def __init__(self, path, environ, output=""):
        self.path = path
        self.environ = environ
        self.output = output  # what cookiecutter and its hooks printed

    def run(self, *command, check=True, timeout=300, **variables):
        """Run a command in the project's folder; with check, it must succeed."""
        done = subprocess.run(
            command,
            cwd=self.path,
            env=self.environ | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check:
            assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
        return done

    def read(self, name):
        """The text of one of its files."""
        return (self.path / name).read_text(encoding="utf-8")

    def files(self):
        """The names of all its files, without git's own."""
        found = (path.relative_to(self.path) for path in self.path.rglob("*") if path.is_file())
        return {name.as_posix() for name in found if name.parts[0] != ".git"}

    def jobs(self):
        """The folders of all its jobs, the oldest first."""
        return sorted(path for path in self.path.glob(".grid/*") if path.is_dir())

    def results(self):
        """The metrics of each finished run, by the name of its folder."""
        return {
            path.parent.name: json.loads(path.read_text(encoding="utf-8"))
            for path in self.path.glob("results/*/metrics.json")
        }

    def wait_for_results(self, number):
        """Wait until that many runs have finished, and return their metrics."""

        def what():
            logs = "\n".join(path.read_text(encoding="utf-8") for path in self.path.glob("logs/*"))
            return f"{number} finished runs; there are: {self.results()}\n{logs}"

        until(lambda: len(self.results()) >= number, what)
        return list(self.results().values())


def without_schedulers(environ):
    """A PATH like that of environ, on which no scheduler is found, whatever this machine has."""
    schedulers = {"qsub", "qconf", "sbatch", "sinfo"}
    folders = environ["PATH"].split(os.pathsep)
    for number, folder in enumerate(folders):
        names = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if names & schedulers:
            folders[number] = links = os.path.join(environ["HOME"], "programs" + folder.replace("/", "-"))
            if not os.path.isdir(links):
                os.mkdir(links)
                for name in names - schedulers:
                    os.symlink(os.path.join(folder, name), os.path.join(links, name))
    return os.pathsep.join(folders)


class Bakery:
    """Makes projects with cookiecutter, offline. Call it with the answers that are not the defaults.

    The schedulers of this machine change nothing, unless PATH is among the variables.
    """

    def __init__(self, template, folder, environ):
        self.template = template
        self.folder = folder
        self.environ = environ
        self.number = 0

    def cook(self, answers, typed=False, into=None, **variables):
        """Run cookiecutter; returns the process and the folder that the project should be in."""
        if into is None:
            self.number += 1
            into = self.folder / str(self.number)
        into.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "cookiecutter", str(self.template), "--output-dir", str(into)]
        if not typed:
            command += ["--no-input", *(f"{name}={answer}" for name, answer in answers.items())]
        done = subprocess.run(
            command,
            cwd=into,
            env=self.environ | {"PATH": without_schedulers(self.environ)} | variables,
            input="".join(f"{line}\n" for line in typed_lines(answers)) if typed else "",
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done, into

    def __call__(self, typed=False, into=None, variables=None, **answers):
        """Make a project. With typed=True the answers are typed at the prompts, as a person does."""
        variables = variables or {}
        done, into = self.cook(answers, typed, into, **variables)
        assert done.returncode == 0, f"cookiecutter failed with {answers}:\n{done.stdout}\n{done.stderr}"
        (path,) = (path for path in into.iterdir() if (path / "grid.py").is_file())
        return Project(path, self.environ | variables, done.stdout + done.stderr)


def typed_lines(answers):
    """What a person types who gives these answers: one line a question, an empty one for the default."""
    for name, default in QUESTIONS.items():
        if not name.startswith("_"):
            answer = answers.get(name, "")
            yield str(default.index(answer) + 1) if isinstance(default, list) and answer else str(answer)


def once(tmp_path_factory, name, make):
    """The folder and the text of what `make(folder)` makes and returns: made once for all workers of one run.

    The first worker that needs it makes it, the others wait. Nobody may change what all of them use.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # a worker has a folder of its own in that of the run
    folder, text = root / name, root / f"{name}.txt"
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # free again when the file is closed
        if not text.exists():
            folder.mkdir()  # fails where it has failed before
            text.write_text(make(folder), encoding="utf-8")
    return folder, text.read_text(encoding="utf-8")
