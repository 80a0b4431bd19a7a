"""The promise of the whole: a generated project does on a real Grid Engine what it does here."""

import subprocess
import time

import pytest

from baking import NASTY_FOLDER, Bakery


@pytest.fixture(scope="module")
def project(template, tmp_path_factory, environ):
    """A project in a folder with a nasty name, for a site that calls memory mem; with an environment of its own."""
    folder = tmp_path_factory.mktemp("site") / NASTY_FOLDER
    folder.mkdir()
    # variables of this shell that choose other kernels in numpy's libraries would not reach a job
    environ = {name: value for name, value in environ.items() if not name.startswith(("OPENBLAS", "OMP", "MKL"))}
    project = Bakery(template, folder, environ)(memory_resource="mem", script_name="digits")
    project.run("make", "env")
    return project


def results(project, number):
    """The metrics of that many runs, as soon as they are there."""
    limit = time.monotonic() + 120
    while len(project.results()) < number:
        assert time.monotonic() < limit, f"{number} runs were started, these ended: {project.results()}"
        time.sleep(0.2)
    return project.results()


def test_make_grid_gives_what_make_local_gives(project):
    project.run("make", "local", "ARGS=--seed 3")
    [(here, wanted)] = results(project, 1).items()
    assert wanted["accuracy"] >= 0.95
    output = project.run("make", "grid", "ARGS=--seed 3 --gpus 1 --cores 2 --walltime 10m").stdout
    assert "submitted job" in output and "make stop JOB=" in output
    [got] = [metrics for name, metrics in results(project, 2).items() if name != here]
    assert got["accuracy"] == wanted["accuracy"] and got == pytest.approx(wanted)
    [record] = project.path.glob(".grid/*/record.json")
    assert '"mem=1G"' in record.read_text(encoding="utf-8"), "two cores share the 2G of the job"


def test_two_at_once_are_two_jobs_with_two_results(project):
    before = project.results()
    command = ["bash", "-c", "source environment/activate.sh && python digits.py grid --epochs 2"]
    how = dict(cwd=project.path, env=project.environ, stdout=subprocess.PIPE, text=True)
    both = [subprocess.Popen(command, **how) for _ in range(2)]
    printed = {process.communicate()[0].splitlines()[0] for process in both}
    assert len(printed) == 2, "both have the same job"
    results(project, len(before) + 2)


def test_make_status_shows_and_make_stop_stops(project):
    project.run("make", "grid", "ARGS=--epochs 100000")
    number = project.run("make", "status").stdout.splitlines()[-1].split()[0]
    assert f"<Job {number} digits>" in project.run("make", "stop", f"JOB={number}").stdout
    project.run("make", "log", f"JOB={number}")  # until it has ended
    last = project.run("make", "status").stdout.splitlines()[-1].split()
    assert last[:3] == [number, "digits", "CANCELLED"]
