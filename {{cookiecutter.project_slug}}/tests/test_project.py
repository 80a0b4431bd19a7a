"""Tests of this project that need no scheduler: tests/bin/qsub stands in for it.

Keep them for your own code: only SHORT and test_a_run_leaves_all_that_is_needed_to_show_it know what the example is.
"""

import inspect
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import PROJECT

STARTER = "my_script.py"
SHORT = ["--epochs", "2"]  # options with which a run takes seconds; the last word is the value of one


def test_starter_and_worker_have_the_same_defaults():
    from my_script import parse
    from my_script_local import train_and_evaluate

    options = vars(parse(["local"]))
    for name, parameter in inspect.signature(train_and_evaluate).parameters.items():
        assert options[name] == [parameter.default], name


def test_grid_and_local_give_the_same(project):
    project.run(STARTER, "local", *SHORT)
    project.run(STARTER, "grid", *SHORT)
    assert len(project.results()) == 2, project.log()
    local, grid = project.results()
    assert (local / "params.json").read_text() == (grid / "params.json").read_text()
    # approx: on another kind of processor, or with other settings of its libraries, the last digits may differ
    metrics = json.loads((local / "metrics.json").read_text())
    assert json.loads((grid / "metrics.json").read_text()) == pytest.approx(metrics)
    assert json.loads((local / "run.json").read_text())["job"] is None
    assert json.loads((grid / "run.json").read_text())["job"] == "1"


def test_a_run_leaves_all_that_is_needed_to_show_it(project):
    done = project.run(STARTER, "local", "--learning-rate", "0.01", "--hidden-layers", "16,8", "--seed", "3", *SHORT)
    [run] = project.results()
    assert done.stdout.endswith(f"results in {run.relative_to(project.path)}\n")
    assert json.loads((run / "params.json").read_text()) == {
        "learning_rate": 0.01,
        "hidden_layers": [16, 8],
        "epochs": 2,
        "batch_size": 32,
        "seed": 3,
    }
    assert 0 < json.loads((run / "metrics.json").read_text())["accuracy"] <= 1
    for name in ("learning_curve.png", "confusion_matrix.png"):
        assert (run / name).read_bytes().startswith(b"\x89PNG")


def test_runs_that_start_at_once_have_folders_of_their_own(tmp_path):
    from experiment.run import new_folder

    with ThreadPoolExecutor(20) as pool:
        folders = list(pool.map(lambda _: new_folder(tmp_path / "results", "20261231-235959"), range(100)))
    assert len(set(folders)) == len(list(tmp_path.glob("results/*"))) == 100


def test_a_sweep_on_the_grid_is_one_array_and_gives_the_same_as_here(project):
    twice = [*SHORT, SHORT[-1]]
    assert "run 2 of 2" in project.run(STARTER, "local", *twice).stdout
    assert "2 tasks" in project.run(STARTER, "grid", *twice, "--max-running", "1").stdout
    assert len(project.calls()) == len(list(project.path.glob(".grid/*"))) == 1
    assert len(project.results()) == 4, project.log()
    parameters, metrics, jobs = (
        [json.loads((run / name).read_text()) for run in project.results()]
        for name in ("params.json", "metrics.json", "run.json")
    )
    assert parameters == parameters[:1] * 4
    assert metrics == [pytest.approx(metrics[0])] * 4
    assert [(run["job"], run["task"]) for run in jobs] == [(None, None)] * 2 + [("1", "1"), ("1", "2")]

    shown = project.run("-m", "experiment.compare").stdout
    assert shown.startswith("4 runs") and " 1.2 " in shown
    assert len((project.path / "results" / "results.csv").read_text().splitlines()) == 5


def test_what_qsub_is_called_with(project):
    resources = "--memory 2G --gpus 1 --cores 2 --walltime 90m --name try-1".split()
    done = project.run(STARTER, "grid", *resources, *SHORT)
    assert "submitted job 1, try-1" in done.stdout
    [job] = project.path.glob(".grid/*")
    assert project.calls() == [
        "-terse -notify -b n -j n -C".split()
        + [""]
        + "-S /bin/bash -wd / -o /dev/null -e /dev/null -N try-1 -l h_vmem=1G -l cuda=1 -pe smp 2 -l h_rt=5400".split()
        + [str(job / "1" / "job.sh")]
    ]
    assert {path.name for path in project.path.glob("logs/*")} == {"try-1.o1", "try-1.e1"}


@pytest.mark.parametrize("options", [SHORT, [*SHORT, SHORT[-1]]], ids=["one run", "a sweep"])
def test_a_dry_run_submits_nothing_and_needs_no_package(project, options):
    # -S: without installed packages, as on a login node
    done = project.run("-S", STARTER, "grid", "--dry-run", *options)
    assert "qsub -terse" in done.stdout
    assert project.calls() == []
    assert not (project.path / ".grid").exists()


def test_without_a_scheduler_the_error_says_what_to_do(project):
    done = project.run(STARTER, "grid", code=1, PATH=str(project.engine))
    assert "make local" in done.stderr and "GRID_SCHEDULER=background" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project.path / ".grid").exists()


def test_a_failed_job_says_why(project):
    (project.path / "environment" / "activate.sh").write_text("echo no such module >&2; return 1")
    project.run(STARTER, "grid", *SHORT)
    assert (project.engine / "1.exit").read_text() == "1\n"
    assert "no such module" in project.log()
    assert "cannot activate the environment" in project.log()


@pytest.mark.parametrize("script", sorted(PROJECT.glob("environment/**/activate.sh")), ids=str)
def test_activation_fails_where_there_is_no_environment(project, script):
    copy = project.path / "environment" / "activate.sh"
    copy.write_text(script.read_text())
    done = subprocess.run(
        ["bash", "-euc", "source environment/activate.sh"], cwd=project.path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "create.sh" in done.stderr
