"""The promise of the whole: one generated project, unchanged, does on a real Grid Engine and on a real Slurm what it does here."""

import json
import subprocess

import pytest

from baking import NASTY_FOLDER, Bakery
from sandbox import until


@pytest.fixture(scope="session")
def project(template, tmp_path_factory, environ):
    """A project in a folder with a nasty name, for a site that calls memory mem; with an environment of its own."""
    folder = tmp_path_factory.mktemp("site") / NASTY_FOLDER
    folder.mkdir()
    # variables of this shell that choose other kernels in numpy's libraries would not reach a job
    environ = {name: value for name, value in environ.items() if not name.startswith(("OPENBLAS", "OMP", "MKL"))}
    project = Bakery(template, folder, environ)(memory_resource="mem", script_name="digits")
    project.run("make", "env")
    return project


@pytest.fixture(scope="session")
def wanted(project):
    """The metrics of make local."""
    before = project.results()
    project.run("make", "local", "ARGS=--seed 3")
    [metrics] = new_results(project, before, 1).values()
    assert metrics["accuracy"] >= 0.95
    return metrics


@pytest.fixture
def there(project, engine, monkeypatch):
    """The project with Grid Engine, which is taken where both are, or with Slurm."""
    chosen = {} if engine.name == "gridengine" else {"GRID_SCHEDULER": engine.name}
    monkeypatch.setattr(project, "environ", project.environ | chosen)
    return project


def new_results(project, before, number):
    """The metrics of that many runs after those before, as soon as they are there."""

    def new():
        found = {name: run for name, run in project.results().items() if name not in before}
        return found if len(found) >= number else None

    return until(new, f"{number} runs have left their results", 120)


def test_make_grid_gives_what_make_local_gives(there, wanted, engine):
    before, jobs = there.results(), set(there.path.glob(".grid/*"))
    output = there.run("make", "grid", "ARGS=--seed 3 --gpus 1 --cores 2 --walltime 10m").stdout
    assert "submitted job" in output and "make stop JOB=" in output
    [got] = new_results(there, before, 1).values()
    assert got["accuracy"] == wanted["accuracy"] and got == pytest.approx(wanted)
    [job] = set(there.path.glob(".grid/*")) - jobs
    facts = json.loads((job / "job.json").read_text(encoding="utf-8"))
    submission = json.loads((job / "1" / "submission.json").read_text(encoding="utf-8"))
    memory = {"gridengine": "mem=1G", "slurm": "--mem=2048M"}[engine.name]  # on Grid Engine two cores share it
    assert facts["scheduler"] == engine.name and memory in submission["command"]


def test_two_at_once_are_two_jobs_with_two_results(there):
    before = there.results()
    command = ["bash", "-c", "source environment/activate.sh && python digits.py grid --epochs 2"]
    how = dict(cwd=there.path, env=there.environ, stdout=subprocess.PIPE, text=True)
    both = [subprocess.Popen(command, **how) for _ in range(2)]
    printed = {process.communicate()[0].splitlines()[0] for process in both}
    assert len(printed) == 2, "both have the same job"
    new_results(there, before, 2)


def test_make_status_shows_and_make_stop_stops(there):
    there.run("make", "grid", "ARGS=--epochs 100000")
    number = there.run("make", "status").stdout.splitlines()[-1].split()[0]
    assert f"job {number} (digits): stop requested" in there.run("make", "stop", f"JOB={number}").stdout
    there.run("make", "log", f"JOB={number}")  # until it has ended
    last = there.run("make", "status").stdout.splitlines()[-1].split()
    assert last[:3] == [number, "digits", "CANCELLED"]
