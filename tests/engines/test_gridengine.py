"""The promises on a real Grid Engine."""

import pickle
import re
import subprocess
import sys

import pytest
from hypothesis import Phase, given, settings
from values import NASTY, same, values

PICKLE = "import pickle\nfrom grid import typecast\npickle.dump(typecast(), open('got', 'wb'))\n"


def accounting(folder, job):
    """What Grid Engine says of a job that has ended, a dict."""
    asked = {}

    def answered():
        done = subprocess.run(["qacct", "-j", job.id], capture_output=True, text=True)
        asked.update(re.findall(r"^(\w+) +(.*?) *$", done.stdout, re.MULTILINE))
        return done.returncode == 0

    folder.wait_until(answered, f"the accounting knows {job}")
    return asked


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


def test_output_and_error_files_are_where_grid_engine_users_look(folder):
    folder.write("worker.py", "import os, sys; print('out', os.getcwd()); print('err', file=sys.stderr)")
    ended = folder.run("worker.py", log_dir="~", name="trial")
    assert (folder.home / f"trial.o{ended.job.id}").read_text() == f"out {folder.path}\n"
    assert (folder.home / f"trial.e{ended.job.id}").read_text() == "err\n"


def test_the_job_is_named_after_a_script_with_a_strange_name(folder):
    folder.write("3 it's $HOME;ü.py", "")
    ended = folder.run("3 it's $HOME;ü.py")
    assert (ended.code, accounting(folder, ended.job)["jobname"]) == (0, ended.job.name)


def test_what_is_asked_for_is_granted(folder):
    folder.write("worker.py", "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['NSLOTS'])")
    ended = folder.run("worker.py", memory="2G", cuda=1, cores=2, walltime="10m", queue="all.q")
    assert ended.out == "2 2\n"
    facts = accounting(folder, ended.job)
    assert (facts["granted_pe"], facts["slots"], facts["qname"]) == ("smp", "2", "all.q")
    granted = dict(word.split("=") for word in facts["category"].partition("-l ")[2].split()[0].split(","))
    # memory counts per slot
    assert granted == {"cuda": "1", "h_rt": "600", "mem": "1G"}


@pytest.mark.parametrize("code", [0, 3, 255])
def test_the_workers_exit_code_is_the_jobs(folder, code):
    folder.write("worker.py", f"import sys; sys.exit({code})")
    ended = folder.run("worker.py")
    assert ended.code == code and accounting(folder, ended.job)["exit_status"].split()[0] == str(code)


def test_an_activation_that_fails_ends_the_job_and_names_the_cause(folder):
    folder.write("worker.py", "open('ran', 'w')")
    ended = folder.run("worker.py", [], "source env/bin/activate")
    assert ended.code == 1 and "grid: the environment cannot be activated: source env/bin/activate" in ended.err
    assert accounting(folder, ended.job)["exit_status"] == "1" and not (folder.path / "ran").exists()


def test_a_virtual_environment_is_used(folder):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder.path.parent / "env"], check=True)
    folder.write("worker.py", "import sys; print(sys.prefix)")
    env = folder.path.parent / "env"
    assert folder.run("worker.py", [], f"source {env}/bin/activate").out == f"{env}\n"
    (env / "bin" / "python").unlink()
    ended = folder.run("worker.py", [], f"source {env}/bin/activate")
    assert ended.code == 1 and "has no python" in ended.err


def test_output_reaches_the_log_as_it_is_printed(folder):
    folder.write("worker.py", "import os, time\nprint('begun')\nwhile not os.path.exists('go'): time.sleep(0.05)")
    job = folder.grid.submit_script("worker.py", log_dir="logs")
    folder.wait_until(lambda: job.stdout.exists() and job.stdout.read_text() == "begun\n", "printed is in the log")
    folder.write("go", "")
    assert folder.end(job).code == 0


def test_qstat_shows_and_qdel_stops_what_waits_and_what_runs(folder, capsys):
    folder.write("worker.py", "import time; time.sleep(100)")
    running = folder.grid.submit_script("worker.py", name="runs", log_dir="logs")
    waiting = folder.grid.submit_script("worker.py", name="waits", log_dir="logs", options=["-h"])
    folder.wait_until(lambda: list(running.folder.glob("records/*.running")), "the job runs")
    folder.grid.qstat()
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert re.search(r"runs +RUNNING \(.\)", lines[running.id]) and re.search(
        r"waits +PENDING \(hqw\)", lines[waiting.id]
    )
    assert folder.grid.qdel(waiting.id) == [waiting.id]
    assert folder.grid.qdel(running) == [running.id]
    assert folder.end(running).code == 143
    folder.wait_until(lambda: subprocess.run(["qstat", "-j", running.id]).returncode, "the queue forgets the job")
    folder.grid.qstat()
    printed = capsys.readouterr().out
    assert waiting.id not in printed and running.id not in printed


def test_qdel_of_an_unknown_job_shows_the_schedulers_words(folder):
    with pytest.raises(folder.grid.SubmitError, match="99999999"):
        folder.grid.qdel(99999999)


@pytest.mark.parametrize(
    "setting, keywords, advice",
    [
        ("cuda = 'gpu'", {"cuda": 1}, 'write cuda = "NAME" into'),
        ("memory = 'ram'", {"memory": "1G"}, 'write memory = "NAME" into'),
        ("parallel_environment = 'mpi'", {"cores": 2}, 'write parallel_environment = "NAME" into'),
    ],
)
def test_a_resource_that_this_site_does_not_have_points_at_the_table(folder, setting, keywords, advice):
    folder.write("worker.py", "")
    folder.write("pyproject.toml", f"[tool.grid.gridengine]\n{setting}\n")
    with pytest.raises(folder.grid.SubmitError, match=f"(?s)Unable to run job.*{advice}"):
        folder.grid.submit_script("worker.py", log_dir="logs", **keywords)
    assert folder.jobs() == []
