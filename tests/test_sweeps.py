"""Many runs: the starter makes them, here and on the grid, and make results compares them."""

import csv
import itertools
import json
import math
import os
import random
import re
import signal
import subprocess
import time

import pytest

BACKGROUND = {"GRID_SCHEDULER": "background"}
SWEEP = "--learning-rate 0.01 0.001 --hidden-layers [8] [16,8] --epochs 2"
COMBINATIONS = list(itertools.product([0.01, 0.001], [[8], [16, 8]]))  # of SWEEP: the last varies fastest

# A worker that imports little and trains nothing; {} is what else it does.
QUICK = """
import os, time
from experiment.run import Run
from grid import typecast

def train_and_evaluate(learning_rate=0.002, hidden_layers=[128], epochs=30, batch_size=32, seed=0):
    run = Run(parameters=locals())
    {}
    run.finish({{"accuracy": 1 - 1 / (1 + epochs), "loss": 1 / epochs}})

if __name__ == "__main__":
    train_and_evaluate(*typecast())
"""


def runs(project):
    """(parameters, metrics, run.json) of each finished run, in the order of job, task and time."""
    found = []
    for path in project.path.glob("results/*/metrics.json"):
        parts = [json.loads((path.parent / name).read_text()) for name in ("params.json", "metrics.json", "run.json")]
        found.append(
            (int(parts[2]["job"] or 0), int(parts[2]["task"] or 0), parts[2]["started"], path.parent.name, parts)
        )
    return [parts for *_, parts in sorted(found)]


def quick(project, also="pass"):
    """Give a project a worker that needs no time."""
    (project.path / "my_script_local.py").write_text(QUICK.format(also))
    return project


def wait_until(condition, seconds=60):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.1)


# --- making them ------------------------------------------------------------------------------------------------------


def test_a_sweep_gives_the_same_here_and_on_the_grid_in_the_order_of_nested_loops(bake_with_env):
    project = bake_with_env()
    output = project.run("make", "local", f"ARGS={SWEEP}").stdout
    titles = [f"run {i + 1} of 4: learning_rate {a}, hidden_layers {b}" for i, (a, b) in enumerate(COMBINATIONS)]
    assert re.findall("^run .*", output, re.MULTILINE) == titles
    local = runs(project)
    assert [(one["learning_rate"], one["hidden_layers"]) for one, _, _ in local] == COMBINATIONS

    output = project.run("make", "grid", f"ARGS={SWEEP} --max-running 2 --wait", **BACKGROUND).stdout
    grid = runs(project)[4:]
    assert [one[:2] for one in grid] == [one[:2] for one in local]
    assert [about["task"] for _, _, about in grid] == ["1", "2", "3", "4"]
    [submission] = project.path.glob(".grid/*")
    assert {about["submission"] for _, _, about in grid} == {submission.name}
    assert len((submission / "tasks.jsonl").read_text().splitlines()) == 4

    assert "0 queued, 0 running, 4 done" in output
    best = max(metrics["accuracy"] for _, metrics, _ in grid)
    assert re.search(rf"^best: accuracy {best:.4f}, .*, in results/\d+-\d+-\d+\.[1-4]$", output, re.MULTILINE)


@pytest.mark.slow
def test_a_run_that_fails_does_not_stop_the_others_and_is_named(bake_with_env):
    project = bake_with_env()
    options = "ARGS=--learning-rate 0.01 -1 0.001 --epochs 1"
    done = project.run("make", "local", options, check=False)
    assert done.returncode == 2  # of make; the starter's is 1
    assert "Error 1" in done.stderr
    assert "3 runs in " in done.stdout and ", 1 failed" in done.stdout
    assert re.search(r"^    run 2, learning_rate -1: InvalidParameterError: ", done.stdout, re.MULTILINE)
    assert len(project.results()) == 2

    done = project.run("make", "grid", f"{options} --wait", check=False, **BACKGROUND)
    assert "Error 1" in done.stderr
    assert re.search(r"^    task 2 failed: InvalidParameterError: ", done.stdout, re.MULTILINE)
    assert len(project.results()) == 4

    assert "2 runs unfinished or failed: " in project.run("make", "results").stdout


def test_one_run_changes_nothing_for_the_next(bake_with_env):
    project = quick(bake_with_env(), "hidden_layers.append(8)")
    project.run("make", "local", "ARGS=--epochs 1 2 3")
    assert [one["hidden_layers"] for one, _, _ in runs(project)] == [[128]] * 3


def interrupt(project, command, begun, **variables):
    """Start a command, press Ctrl-C when that many runs have begun; returns its exit code and what it said."""
    # no make: a signal to one process is not Ctrl-C, which reaches all of a terminal
    shell = ["bash", "-c", f"source environment/activate.sh && exec python my_script.py {command}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(shell, cwd=project.path, env=project.environ | variables, **pipes) as process:
        try:
            wait_until(lambda: len(list(project.path.glob("results/*/params.json"))) >= begun)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, output


def test_ctrl_c_tells_what_is_done_and_where(bake_with_env):
    project = bake_with_env()
    code, output = interrupt(project, "local --learning-rate 0.01 --epochs 1 2 100000 3", begun=3)
    assert code == 130
    first, second = sorted(project.results())
    assert f"stopped: 2 of 4 runs are done, in results/{first} to results/{second}" in output
    assert "Traceback" not in output


def test_ctrl_c_while_waiting_leaves_the_job_running_and_tells_how_to_stop_it(bake_with_env):
    project = quick(bake_with_env(), "while not os.path.exists('go'): time.sleep(0.05)")
    code, output = interrupt(project, "grid --epochs 1 2 --wait", begun=1, **BACKGROUND)
    assert code == 130
    assert re.search(r"stopped waiting; job (\d+) keeps running: .*make stop JOB=\1 stops it", output)
    (project.path / "go").touch()
    wait_until(lambda: len(project.results()) == 2)


@pytest.mark.slow
def test_a_sweep_is_submitted_and_waited_for_by_a_python_without_packages(bake_with_env):
    project = quick(bake_with_env())
    shell = "source environment/activate.sh && python -S my_script.py grid --epochs 1 2 --wait"
    output = project.run("bash", "-c", shell, **BACKGROUND).stdout
    assert "0 queued, 0 running, 2 done" in output and "best: " in output
    output = project.run("bash", "-c", shell.replace("1 2", "1"), **BACKGROUND).stdout
    assert re.search(r"^1 task in .* none failed\naccuracy 0\.\d+, loss [\d.]+, in results/", output, re.MULTILINE)


@pytest.mark.parametrize("epochs, code", [("2", 0), ("1 9", 1)], ids=["done", "one failed"])
def test_make_grid_piped_into_head_fails_only_if_the_job_does(bake_with_env, epochs, code):
    project = quick(bake_with_env(), "assert epochs < 9")
    shell = f"source environment/activate.sh && exec python my_script.py grid --epochs {epochs} --wait"
    reader, output = os.pipe()
    os.close(reader)  # as if head had read its line and gone
    environ = project.environ | BACKGROUND
    done = subprocess.run(["bash", "-c", shell], cwd=project.path, env=environ, stdout=output, stderr=subprocess.PIPE)
    os.close(output)
    assert (done.returncode, done.stderr.count(b"Error")) == (code, 0), done.stderr
    assert len(project.results()) == 1


def test_mode_local_refuses_what_only_the_grid_can_do(bake_with_env):
    done = bake_with_env().run("make", "local", "ARGS=--max-running 2", check=False)
    assert "need mode grid" in done.stderr


# --- one run ----------------------------------------------------------------------------------------------------------

METRICS_OF_NUMPY_AND_TORCH = """
import numpy
from experiment.run import Progress, Run

class Tensor:
    def tolist(self):
        return 0.25

run, progress = Run({"rate": numpy.float32(0.5)}), Progress(epochs=1)
for _ in progress:
    progress.report(training={"accuracy": numpy.float32(0.2150000035762787), "loss": Tensor()})
run.plot_learning_curve(progress.history)
run.finish({"accuracy": numpy.array(0.2150000035762787), "loss": Tensor()})
"""


def test_metrics_may_be_scalars_of_numpy_or_torch(bake_with_env):
    project = bake_with_env()
    (project.path / "run_once.py").write_text(METRICS_OF_NUMPY_AND_TORCH)
    output = project.run("bash", "-c", "source environment/activate.sh && python run_once.py").stdout
    first, last, _ = output.splitlines()
    assert first == "epoch 1/1: training accuracy 0.2150 loss 0.2500"
    assert last == "accuracy 0.2150, loss 0.2500"
    [metrics] = project.results().values()
    assert metrics == {"accuracy": 0.2150000035762787, "loss": 0.25}


# --- compare runs -----------------------------------------------------------------------------------------------------

# Compares as often as it reads a line of options, so that pandas and matplotlib are imported once for all tests.
# Warnings are errors, for a picture may lack what they are about.
COMPARE = """
import contextlib, io, json, sys, traceback
from experiment import compare

for line in sys.stdin:
    code, output, errors = 0, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            compare.main(json.loads(line))
        except SystemExit as error:
            code = 1
            print(error, file=sys.stderr)
        except Exception:
            code = 1
            traceback.print_exc()
    print(json.dumps([code, output.getvalue(), errors.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def comparer(uv_project):
    """A process that compares runs."""
    command = [uv_project.path / "env" / "bin" / "python", "-W", "error", "-c", COMPARE]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=uv_project.path, env=uv_project.environ, **pipes) as process:
        yield process
        process.stdin.close()


class Results:
    """A folder of made-up results."""

    def __init__(self, root, comparer):
        self.root = root
        self.comparer = comparer
        self.root.mkdir()

    def add(self, params, metrics, history=None, **metadata):
        folder = self.root / f"20261231-235959-{len(list(self.root.iterdir())) + 1}"
        folder.mkdir()
        parts = {"params": params, "metrics": metrics, "run": {"duration": 1.5, "job": None, "task": None} | metadata}
        parts |= {"history": history} if history else {}
        for name, part in parts.items():
            (folder / f"{name}.json").write_text(json.dumps(part))
        return folder

    def compare(self, *options, code=0):
        """What is printed; with a code of 1, the error."""
        self.comparer.stdin.write(json.dumps(["--root", str(self.root), *options]) + "\n")
        self.comparer.stdin.flush()
        got, output, errors = json.loads(self.comparer.stdout.readline())
        assert got == code, output + errors
        return errors if code else output

    def table(self, name="results.csv"):
        with open(self.root / name, newline="") as file:
            return list(csv.DictReader(file))

    def pictures(self):
        paths = sorted(self.root.glob("*.png"))
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
        return [path.name for path in paths]


@pytest.fixture
def results(tmp_path, comparer):
    return Results(tmp_path / "results", comparer)


def test_no_results_is_told_in_a_line(bake_with_env):
    done = bake_with_env().run("make", "results")
    assert done.stdout.count("\n") == 1 and "no results" in done.stdout


def test_a_python_without_packages_is_told_how_to_compare(bake_with_env):
    project = quick(bake_with_env())
    project.run("make", "local")
    shell = "source environment/activate.sh && python -S -m experiment.compare"
    done = project.run("bash", "-c", shell, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "No module named 'pandas'" in done.stderr and "make results" in done.stderr


def test_one_run_is_shown_without_a_comparison(results):
    results.add({"rate": 0.1}, {"accuracy": 0.5}, [{"training": {"loss": 1.0}}])
    output = results.compare()
    assert output.startswith("1 run\n") and "rate 0.1" in output
    assert results.pictures() == ["learning_curves.png"]


def test_the_best_come_first_and_losses_sort_the_other_way(results):
    for accuracy, loss in [(0.5, 0.3), (0.9, 0.2), (math.nan, math.inf), (0.7, 0.1)]:
        results.add({"rate": accuracy}, {"accuracy": accuracy, "loss": loss})
    assert results.compare().startswith("4 runs, highest accuracy first\n")
    assert [row["accuracy"] for row in results.table()] == ["0.9", "0.7", "0.5", ""]
    assert results.compare("--metric", "loss").startswith("4 runs, lowest loss first\n")
    assert [row["loss"] for row in results.table()] == ["0.1", "0.2", "0.3", "inf"]
    assert "no run has a metric speed; there are accuracy, loss" in results.compare("--metric", "speed", code=1)


def test_the_table_has_parameters_duration_and_job(results):
    results.add({"rate": 0.1, "layers": [8, 8], "seed": 1}, {"score": 1}, job="4711", task="7", duration=7300)
    results.add({"rate": 0.2, "layers": [8], "seed": 1}, {"score": 2}, job="12", task="1")
    results.add({"rate": 0.2, "layers": "a, b", "score": "x", "job": 3}, {"score": 3})
    output = results.compare()
    assert re.search(r"1 +0\.1 +\[8, 8\] .*2 h 1 min +4711\.7 +20261231-235959-1$", output, re.MULTILINE)
    third, second, first = results.table()
    assert (first["rate"], first["layers"], first["duration"], first["job"]) == ("0.1", "[8, 8]", "7300", "4711.7")
    assert (second["job"], second["score"]) == ("12", "2")
    assert (third["layers"], third["score (parameter)"], third["job (parameter)"]) == ("a, b", "x", "3")
    assert third["job"] == third["seed"] == ""


def test_in_the_table_none_is_told_from_a_parameter_that_a_run_does_not_have(results):
    results.add({"dropout": None}, {"accuracy": 0.9}, duration=None)
    results.add({"dropout": 0.5}, {"accuracy": 0.8})
    results.add({}, {"accuracy": 0.7})
    results.compare()
    assert [row["dropout"] for row in results.table()] == ["None", "0.5", ""]
    assert [row["duration"] for row in results.table()] == ["", "1.5", "1.5"]


def test_a_look_at_one_job_shows_only_its_runs_and_changes_no_file_of_all_runs(results):
    runs = [results.add({"rate": i / 10}, {"accuracy": i / 10}, job=str(12 + i % 2), task=str(i)) for i in range(1, 7)]
    unfinished, other = runs[1], runs[0]
    (unfinished / "metrics.json").unlink()
    (other / "metrics.json").write_text("{")
    output = results.compare()
    assert (
        f"1 run unfinished or failed: {unfinished.name}\n" in output and f"1 run cannot be read: {other.name}" in output
    )
    before = {path.name: path.read_bytes() for path in results.root.iterdir() if path.is_file()}
    assert set(before) == {"results.csv", "sweep.png"}

    output = results.compare("--job", "12")
    assert output.startswith("2 runs") and f"1 run unfinished or failed: {unfinished.name}\n" in output
    assert "cannot be read" not in output and " 13." not in output
    assert [row["job"] for row in results.table("results-12.csv")] == ["12.6", "12.4"]
    assert results.pictures() == ["sweep-12.png", "sweep.png"]
    assert {name: (results.root / name).read_bytes() for name in before} == before
    assert results.compare("--job", "no/../such").startswith("no results of job no/../such in ")


@pytest.mark.slow
def test_the_runs_of_one_job_are_those_of_its_retries_too(bake_with_env):
    project = quick(bake_with_env())
    project.run("make", "grid", "ARGS=--epochs 1 2 --wait", **BACKGROUND)
    project.run("make", "local", "ARGS=--epochs 1")
    again = "import grid; job = grid.jobs()[0].resubmit(failed=False).wait(); print(*job.ids)"
    ids = project.run("bash", "-c", f"source environment/activate.sh && python -c '{again}'").stdout.split()
    for job in (*ids, "my_script"):
        output = project.run("make", "results", f"JOB={job}").stdout
        assert output.startswith("4 runs"), job
        assert set(re.findall(r" (\d+)\.[12] +\d+-", output)) == set(ids)


def test_broken_runs_are_listed_and_do_no_harm(results):
    results.add({"rate": 0.1}, {"accuracy": 0.5})
    broken = [results.add({"rate": 0.2}, {"accuracy": 0.6}) for _ in range(5)]
    (broken[0] / "metrics.json").write_text('{"accuracy": 0.')
    (broken[1] / "params.json").write_bytes(b"\xff\x00")
    (broken[2] / "metrics.json").write_text("[1, 2]")
    (broken[3] / "metrics.json").write_text('{"accuracy": "good"}')
    (broken[4] / "metrics.json").unlink()
    (results.root / "half").mkdir()
    (results.root / "notes.txt").write_text("mine")
    output = results.compare()
    assert f"2 runs unfinished or failed: {broken[4].name}, half" in output
    assert f"4 runs cannot be read: {broken[0].name}: cannot read metrics.json" in output
    assert len(results.table()) == 1
    for folder in results.root.glob("2*-1"):
        (folder / "metrics.json").unlink()
    assert "no results" in results.compare()


RATES, WIDTHS = [0, 0.0001, 0.001, 0.01], [[8], [16, 8], [128]]
SHAPES = {
    "one number": [{"rate": rate} for rate in RATES],
    "one that is no number": [{"kind": kind} for kind in ("sgd", "a$b$c", None, True, [1], {"a": 1}, "_x", "x" * 99)],
    "repetitions": [{"rate": rate, "seed": seed} for rate in RATES for seed in range(3)],
    "repetitions only": [{"seed": seed} for seed in range(3)],
    "lines": [{"rate": rate, "layers": layers} for rate in RATES for layers in WIDTHS],
    "a map": [{"rate": i / 7, "width": j} for i in range(8) for j in range(9)],
    "a map of kinds": [{"a": a, "b": b} for a in "xyz" for b in "xyz"],
    "a map with gaps": [{"a": a, "b": b} for a in "xyz" for b in "xyz" if a + b != "yy"],
    "three": [{"rate": a, "layers": b, "epochs": c} for a in RATES for b in WIDTHS for c in (5, 10)],
    "four": [dict(zip("abcd", values)) for values in itertools.product([1, 2], [0.1, 1], "xy", [None, 1])],
    "random": [{name: random.Random(f"{name}{i}").random() for name in "abcdefghijk"} for i in range(30)],
    "different parameters": [{"a": 1}, {"a": 2}, {"b": 1}, {"b": 2, "c": [1]}, {}],
}


def test_each_kind_of_sweep_has_a_picture(tmp_path, comparer):
    for shape, parameters in SHAPES.items():
        results = Results(tmp_path / shape, comparer)
        for i, params in enumerate(parameters):
            history = [{"training": {"loss": 1 / epoch}, "validation": {"loss": math.nan}} for epoch in (1, 2)]
            results.add(params, {"accuracy": math.sin(i) ** 2, "loss": 10**i if i < 5 else math.inf}, history)
        for metric, first in (("accuracy", "highest"), ("loss", "lowest")):
            output = results.compare("--metric", metric)
            assert output.startswith(f"{len(parameters)} runs, {first} {metric} first"), shape
            assert results.pictures() == ["learning_curves.png", "sweep.png"], shape


def test_a_picture_of_another_time_does_not_stay(results):
    other = results.add({"rate": 0.1}, {"accuracy": 0.5}, ["not", "a history"])
    results.add({"rate": 0.2}, {"accuracy": 0.6})
    results.compare()
    assert results.pictures() == ["sweep.png"]
    (other / "metrics.json").unlink()
    results.compare()
    assert results.pictures() == []


@pytest.mark.parametrize("number", [500, pytest.param(2000, marks=pytest.mark.long)])
def test_many_runs_are_compared_as_few_are(results, number):
    chance = random.Random(1)
    for i in range(1, number + 1):
        params = {"rate": 10 ** chance.uniform(-4, 0), "width": chance.choice([8, 16, 32]), "seed": i}
        results.add(params, {"accuracy": chance.random()}, job="1", task=str(i))
    output = results.compare()
    assert output.startswith(f"{number:,} runs") and f"and {number - 20:,} more" in output
    assert len(results.table()) == number
    assert results.pictures() == ["sweep.png"]
