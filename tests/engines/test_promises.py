"""What is promised of a job that goes well, on a real Grid Engine and a real Slurm."""

import json
import os
import pickle
import re
import subprocess
import sys

import pytest
from engines import ENGINES
from hypothesis import Phase, given, settings
from values import NASTY, same, values

PICKLE = "import pickle\nfrom grid import typecast\npickle.dump(typecast(), open('got', 'wb'))\n"


def nasty_values(number):
    """At least so many values, half of them made by hypothesis, the same at every run."""
    found = []

    @settings(max_examples=number, database=None, derandomize=True, phases=[Phase.generate], deadline=None)
    @given(values)
    def collect(value):
        found.append(value)

    collect()
    return found + NASTY + [{text: (text, [text])} for text in NASTY]


def test_hundreds_of_nasty_values_arrive_equal_in_value_and_type(folder):
    args = nasty_values(400)
    assert len(args) > 500
    folder.write("worker.py", PICKLE)
    assert folder.run("worker.py", args).code == 0
    got = pickle.loads((folder.path / "got").read_bytes())
    assert len(got) == len(args)
    assert not [(one, other) for one, other in zip(args, got) if not same(one, other)]
    assert not list(folder.path.rglob("pwned"))


def test_ten_megabytes_of_arguments_arrive(folder):
    folder.write("worker.py", PICKLE)
    args = [[number / 7 for number in range(500_000)], "x" * 2_000_000]
    assert folder.run("worker.py", args).code == 0
    assert pickle.loads((folder.path / "got").read_bytes()) == args


def test_output_and_error_files_are_where_grid_users_look(folder):
    folder.write("worker.py", "import os, sys; print('out', os.getcwd()); print('err', file=sys.stderr)")
    ended = folder.run("worker.py", log_dir="~", name="trial")
    assert (folder.home / f"trial.o{ended.job.id}").read_text() == f"out {folder.path}\n"
    assert (folder.home / f"trial.e{ended.job.id}").read_text() == "err\n"


def test_the_job_is_named_after_a_script_with_a_strange_name(folder, engine):
    folder.write("3 it's $HOME;ü.py", "")
    ended = folder.run("3 it's $HOME;ü.py")
    assert engine.facts(ended.job) == (ended.job.name, ended.code) == (ended.job.name, 0)


def test_what_is_asked_for_is_granted(folder, engine):
    folder.write("worker.py", f"import os; print(os.environ['OMP_NUM_THREADS'], os.environ['{engine.cores_variable}'])")
    wanted = dict(queue=engine.queue, cores=2, memory="2G", cuda=2, walltime=600)
    ended = folder.run("worker.py", **wanted)
    assert ended.out == "2 2\n"
    assert engine.granted(ended.job) == wanted


@pytest.mark.parametrize("code", [0, 3, 255])
def test_the_workers_exit_code_is_the_jobs(folder, engine, code):
    folder.write("worker.py", f"import sys; sys.exit({code})")
    ended = folder.run("worker.py")
    assert ended.code == code and engine.facts(ended.job)[1] == code


def test_an_activation_that_fails_ends_the_job_and_names_the_cause(folder, engine):
    folder.write("worker.py", "open('ran', 'w')")
    ended = folder.run("worker.py", [], "source env/bin/activate")
    assert ended.code == 1 and "grid: the environment cannot be activated: source env/bin/activate" in ended.err
    assert engine.facts(ended.job)[1] == 1 and not (folder.path / "ran").exists()


def test_a_virtual_environment_is_used(folder):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder.path.parent / "env"], check=True)
    folder.write("worker.py", "import sys; print(sys.prefix)")
    env = folder.path.parent / "env"
    assert folder.run("worker.py", [], f"source {env}/bin/activate").out == f"{env}\n"
    (env / "bin" / "python").unlink()
    ended = folder.run("worker.py", [], f"source {env}/bin/activate")
    assert ended.code == 1 and "has no python" in ended.err


def test_variables_of_the_terminal_stay_there(folder, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THIS_TERMINAL", "x")
    monkeypatch.setenv("PYTHONSTARTUP", "x")
    folder.write("worker.py", "import os; print(*sorted(os.environ))")
    names = folder.run("worker.py").out.split()
    assert "GRID_JOB_ID" in names
    assert not {"SECRET_OF_THIS_TERMINAL", "PYTHONSTARTUP", "SLURM_EXPORT_ENV"} & set(names)


def test_output_reaches_the_log_as_it_is_printed(folder):
    folder.write("worker.py", "import os, time\nprint('begun')\nwhile not os.path.exists('go'): time.sleep(0.05)")
    job = folder.grid.submit_script("worker.py", log_dir="logs")
    folder.wait_until(lambda: job.stdout.exists() and job.stdout.read_text() == "begun\n", "printed is in the log")
    folder.write("go", "")
    assert folder.end(job).code == 0


def test_the_record_tells_where_a_job_came_from_and_how_it_went(folder):
    folder.write("worker.py", "")
    for command in (
        ["init", "-q"],
        ["add", "worker.py"],
        ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm1"],
    ):
        subprocess.run(["git", *command], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    ended = folder.run("worker.py", [1])
    origin = json.loads((ended.job.folder / "record.json").read_text())["provenance"]
    assert (origin["git_commit"], origin["pid"]) == (commit, os.getpid())
    assert ended.record["id"] == ended.job.id and ended.record["host"]
    assert ended.record["python"] == f"{sys.executable} {sys.version.split()[0]}"
    assert origin["submitted"][:19] <= ended.record["started"] <= ended.record["ended"]


@pytest.mark.parametrize("snapshot, printed", [(True, "old\n"), (False, "new\n")])
def test_code_that_is_edited_while_the_job_waits(folder, engine, snapshot, printed):
    folder.write("worker.py", "print('old')")
    job = folder.grid.submit_script("worker.py", log_dir="logs", snapshot=snapshot, options=engine.hold)
    folder.write("worker.py", "print('new')")
    engine.release(job)
    ended = folder.end(job)
    assert ended.out == printed and ("has changed since" in ended.err) is (not snapshot)


def test_qstat_shows_and_qdel_stops_what_waits_and_what_runs(folder, engine, capsys):
    folder.write("worker.py", "import time; time.sleep(100)")
    running = folder.grid.submit_script("worker.py", name="runs", log_dir="logs")
    waiting = folder.grid.submit_script("worker.py", name="waits", log_dir="logs", options=engine.hold)
    array = folder.grid.submit_array("worker.py", [[]] * 12, name="many", log_dir="logs", options=engine.hold)
    folder.wait_until(lambda: list(running.folder.glob("records/*.running")), "the job runs")
    folder.grid.qstat()
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert re.fullmatch(r"id +name +state +since +where", lines["id"])
    date = "[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}"
    assert re.fullmatch(rf"{running.id} +runs +{engine.running} +{date} +\S+", lines[running.id])
    assert re.fullmatch(rf"{waiting.id} +waits +{engine.held} +{date} +held", lines[waiting.id])
    assert re.fullmatch(rf"{array.id} +many +{engine.held} +{date} +held, 12 tasks: 1-12", lines[array.id])
    assert folder.grid.qdel(waiting.id) == [waiting.id]
    assert folder.grid.qdel([running, array]) == [running.id, array.id]
    assert folder.end(running).code == 143
    for job in (running, waiting, array):
        folder.wait_until(lambda: not engine.in_queue(job.id), "the queue forgets the job")
    folder.grid.qstat()
    assert not {running.id, waiting.id, array.id} & set(capsys.readouterr().out.split())


def test_qdel_of_an_unknown_job_shows_the_schedulers_words(folder):
    with pytest.raises(folder.grid.SubmitError, match="99999999"):
        folder.grid.qdel(99999999)


def refusal(folder, engine, setting, keywords, advice):
    folder.write("worker.py", "")
    folder.write("pyproject.toml", f"[tool.grid.{engine.name}]\n{setting}\n")
    with pytest.raises(folder.grid.SubmitError, match=f"(?s){advice}"):
        folder.grid.submit_script("worker.py", log_dir="logs", **keywords)
    assert folder.jobs() == []


@pytest.mark.only("gridengine")
@pytest.mark.parametrize("setting, keywords, advice", ENGINES["gridengine"].refused)
def test_what_this_grid_engine_does_not_have_points_at_the_table(folder, engine, setting, keywords, advice):
    refusal(folder, engine, setting, keywords, advice)


@pytest.mark.only("slurm")
@pytest.mark.parametrize("setting, keywords, advice", ENGINES["slurm"].refused)
def test_what_this_slurm_does_not_have_points_at_the_table(folder, engine, setting, keywords, advice):
    refusal(folder, engine, setting, keywords, advice)


@pytest.mark.only("slurm")
def test_an_answer_with_the_name_of_a_slurm_cluster(folder):
    folder.program("sbatch", "/usr/bin/sbatch \"$@\" | sed 's/$/;tests/'")  # as where there are several clusters
    folder.write("worker.py", "print(1)")
    ended = folder.run("worker.py")
    assert ended.job.id.isdecimal() and ended.out == "1\n"
