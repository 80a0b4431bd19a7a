"""What is promised of a job that goes well, on a real Grid Engine and a real Slurm."""

import json
import os
import pickle
import re
import subprocess
import sys

import pytest
from hypothesis import Phase, given, settings

from engines import ENGINES
from sandbox import until
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


def test_hundreds_of_nasty_values_arrive_equal_in_value_and_type(sandbox):
    args = nasty_values(400)
    assert len(args) > 500
    sandbox.write("worker.py", PICKLE)
    assert sandbox.run("worker.py", args).code == 0
    got = pickle.loads((sandbox.path / "got").read_bytes())
    assert len(got) == len(args)
    assert not [(one, other) for one, other in zip(args, got) if not same(one, other)]
    assert not list(sandbox.path.rglob("pwned"))


def test_ten_megabytes_of_arguments_arrive(sandbox):
    sandbox.write("worker.py", PICKLE)
    args = [[number / 7 for number in range(500_000)], "x" * 2_000_000]
    assert sandbox.run("worker.py", args).code == 0
    assert pickle.loads((sandbox.path / "got").read_bytes()) == args


def test_output_and_error_files_are_where_grid_users_look(sandbox):
    sandbox.write("worker.py", "import os, sys; print('out', os.getcwd()); print('err', file=sys.stderr)")
    ended = sandbox.run("worker.py", log_dir="~", name="trial")
    assert (sandbox.home / f"trial.o{ended.job.id}").read_text() == f"out {sandbox.path}\n"
    assert (sandbox.home / f"trial.e{ended.job.id}").read_text() == "err\n"


def test_the_job_is_named_after_a_script_with_a_strange_name(sandbox, engine):
    sandbox.write("3 it's $HOME;ü.py", "")
    ended = sandbox.run("3 it's $HOME;ü.py")
    assert engine.facts(ended.job) == (ended.job.name, ended.code) == (ended.job.name, 0)


def test_what_is_asked_for_is_granted(sandbox, engine):
    sandbox.write(
        "worker.py", f"import os; print(os.environ['OMP_NUM_THREADS'], os.environ['{engine.cores_variable}'])"
    )
    wanted = dict(queue=engine.queue, cores=2, memory="2G", cuda=2, walltime=600)
    ended = sandbox.run("worker.py", **wanted)
    assert ended.out == "2 2\n"
    assert engine.granted(ended.job) == wanted


@pytest.mark.parametrize("code", [0, 3, 255])
def test_the_workers_exit_code_is_the_jobs(sandbox, engine, code):
    sandbox.write("worker.py", f"import sys; sys.exit({code})")
    ended = sandbox.run("worker.py")
    assert ended.code == code and engine.facts(ended.job)[1] == code


def test_an_activation_that_fails_ends_the_job_and_names_the_cause(sandbox, engine):
    sandbox.write("worker.py", "open('ran', 'w')")
    ended = sandbox.run("worker.py", [], "source env/bin/activate")
    assert ended.code == 1 and "grid: cannot activate the environment: source env/bin/activate" in ended.err
    assert engine.facts(ended.job)[1] == 1 and not (sandbox.path / "ran").exists()


def test_a_virtual_environment_is_used(sandbox):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", sandbox.path.parent / "env"], check=True)
    sandbox.write("worker.py", "import sys; print(sys.prefix)")
    env = sandbox.path.parent / "env"
    assert sandbox.run("worker.py", [], f"source {env}/bin/activate").out == f"{env}\n"
    (env / "bin" / "python").unlink()
    ended = sandbox.run("worker.py", [], f"source {env}/bin/activate")
    assert ended.code == 1 and "has no python" in ended.err


def test_variables_of_the_terminal_stay_there(sandbox, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THIS_TERMINAL", "x")
    monkeypatch.setenv("PYTHONSTARTUP", "x")
    sandbox.write("worker.py", "import os; print(*sorted(os.environ))")
    names = sandbox.run("worker.py").out.split()
    assert "GRID_JOB_ID" in names
    assert not {"SECRET_OF_THIS_TERMINAL", "PYTHONSTARTUP", "SLURM_EXPORT_ENV"} & set(names)


def test_output_reaches_the_log_as_it_is_printed(sandbox):
    sandbox.write("worker.py", "import os, time\nprint('begun')\nwhile not os.path.exists('go'): time.sleep(0.05)")
    job = sandbox.submit()
    until(lambda: job.stdout.exists() and job.stdout.read_text() == "begun\n", "printed is in the log")
    sandbox.write("go", "")
    assert sandbox.end(job).code == 0


def test_the_record_tells_where_a_job_came_from_and_how_it_went(sandbox):
    sandbox.write("worker.py", "")
    for command in (
        ["init", "-q"],
        ["add", "worker.py"],
        ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm1"],
    ):
        subprocess.run(["git", *command], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    ended = sandbox.run("worker.py", [1])
    origin = json.loads((ended.job.folder / "1" / "submission.json").read_text())
    assert (origin["git_commit"], origin["pid"]) == (commit, os.getpid())
    assert ended.record["id"] == ended.job.id and ended.record["host"]
    assert ended.record["python"] == f"{sys.executable} {sys.version.split()[0]}"
    assert origin["submitted"][:19] <= ended.record["started"] <= ended.record["ended"]


@pytest.mark.parametrize("snapshot, printed", [(True, "old\n"), (False, "new\n")])
def test_code_that_is_edited_while_the_job_waits(sandbox, engine, snapshot, printed):
    sandbox.write("worker.py", "print('old')")
    job = sandbox.submit(snapshot=snapshot, options=engine.hold)
    sandbox.write("worker.py", "print('new')")
    engine.release(job)
    ended = sandbox.end(job)
    assert ended.out == printed and ("has changed since" in ended.err) is (not snapshot)


def test_qstat_shows_and_qdel_stops_what_waits_and_what_runs(sandbox, engine, capsys):
    sandbox.write("worker.py", "import time; time.sleep(100)")
    running = sandbox.submit(name="runs")
    waiting = sandbox.submit(name="waits", options=engine.hold)
    array = sandbox.grid.submit_array("worker.py", [[]] * 12, name="many", log_dir="logs", options=engine.hold)
    until(lambda: list(running.folder.glob("1/records/*.running")), "the job runs")
    sandbox.grid.qstat()
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert re.fullmatch(r"id +name +state +since +where", lines["id"])
    date = "[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}"
    assert re.fullmatch(rf"{running.id} +runs +{engine.running} +{date} +\S+", lines[running.id])
    assert re.fullmatch(rf"{waiting.id} +waits +{engine.held} +{date} +held", lines[waiting.id])
    assert re.fullmatch(rf"{array.id} +many +{engine.held} +{date} +held, 12 tasks: 1-12", lines[array.id])
    assert sandbox.grid.qdel(waiting.id) == [waiting.id]
    assert sandbox.grid.qdel([running, array]) == [running.id, array.id]
    assert sandbox.end(running).code == 143
    ids = {running.id, waiting.id, array.id}
    until(lambda: not any(map(engine.in_queue, ids)), "the queue forgets the jobs")
    sandbox.grid.qstat()
    assert not ids & set(capsys.readouterr().out.split())


def test_qdel_of_an_unknown_job_shows_the_schedulers_words(sandbox):
    with pytest.raises(sandbox.grid.SubmitError, match="99999999"):
        sandbox.grid.qdel(99999999)


def refusal(sandbox, engine, setting, keywords, advice):
    sandbox.write("worker.py", "")
    sandbox.write("pyproject.toml", f"[tool.grid.{engine.name}]\n{setting}\n")
    with pytest.raises(sandbox.grid.SubmitError, match=f"(?s){advice}"):
        sandbox.submit(**keywords)
    assert sandbox.jobs() == []


@pytest.mark.only("gridengine")
@pytest.mark.parametrize("setting, keywords, advice", ENGINES["gridengine"].refused)
def test_what_this_grid_engine_does_not_have_points_at_the_table(sandbox, engine, setting, keywords, advice):
    refusal(sandbox, engine, setting, keywords, advice)


@pytest.mark.only("slurm")
@pytest.mark.parametrize("setting, keywords, advice", ENGINES["slurm"].refused)
def test_what_this_slurm_does_not_have_points_at_the_table(sandbox, engine, setting, keywords, advice):
    refusal(sandbox, engine, setting, keywords, advice)


@pytest.mark.only("slurm")
def test_an_answer_with_the_name_of_a_slurm_cluster(sandbox):
    sandbox.program("sbatch", "/usr/bin/sbatch \"$@\" | sed 's/$/;tests/'")  # as where there are several clusters
    sandbox.write("worker.py", "print(1)")
    ended = sandbox.run("worker.py")
    assert ended.job.id.isdecimal() and ended.out == "1\n"
