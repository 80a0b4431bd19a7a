"""The promises about a job that runs: what it gets, where its output goes, and how it fails. In the background of this
machine; tests/engines has the same on real schedulers."""

import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from sandbox import room, until
from values import NASTY, same

PICKLE = "import pickle\nfrom grid import typecast\npickle.dump(typecast(), open('got', 'wb'))\n"


def test_dry_run_prints_script_and_command_and_does_nothing(sandbox, capsys):
    sandbox.write("worker.py", "")
    sandbox.program("qsub", "touch called")
    job = sandbox.submit("worker.py", [1], memory="3G", scheduler="gridengine", dry_run=True)
    printed = capsys.readouterr().out
    assert job.id is None and {*os.listdir()} - {"__pycache__"} == {"bin", "grid.py", "gridlib", "worker.py"}
    script, _, command = printed.partition(
        "# To submit it (the time in the folder's name will be that of the submission):\n"
    )
    assert "# tasks.jsonl, the arguments:\n[1]\n" in script
    assert script.startswith("#!/bin/bash") and f"grid_workdir={shlex.quote(os.getcwd())}" in script
    words = (
        "qsub -terse -notify -b n -j n -C  -S /bin/bash -wd / -o /dev/null -e /dev/null -N worker -l h_vmem=3G".split(
            " "
        )
    )
    assert shlex.split(command) == [*words, str(job.folder / "1" / "job.sh")]


def test_the_call_of_qsub_holds_what_was_asked_for(sandbox):
    sandbox.write("worker.py", "")
    sandbox.write("pyproject.toml", "[tool.grid.gridengine]\nmemory='mem'\ncuda='gpu'\nparallel_environment='smp'\n")
    sandbox.program("qsub", 'printf "%s\\0" "$@" >arguments; echo 7')
    keywords = dict(memory="1.5G", cuda=2, cores=4, walltime="1:30:00", queue="long", options=["-P", "a b"])
    sandbox.submit("worker.py", scheduler="gridengine", name="3 $x", **keywords)
    words = (sandbox.path / "arguments").read_text().split("\0")
    asked = "-N job_3_x -l mem=384M -l gpu=2 -pe smp 4 -l h_rt=5400 -q long -P".split()
    assert words[words.index("-N") : -2] == [*asked, "a b"] and words[-2].endswith("/job.sh")


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("a", "a"),
        ("3d", "job_3d"),
        ('it\'s a "test" $HOME;echo ü', "it_s_a_test_HOME_echo_"),
        ("", "job"),
        ("-x", "job_-x"),
    ],
)
def test_any_name_becomes_one_that_schedulers_take(grid, name, wanted):
    assert room("submit").job_name(name) == wanted
    assert len(room("submit").job_name("x" * 1000)) <= 110


@pytest.mark.parametrize(
    "text, size",
    [
        ("2G", "2G"),
        ("500M", "500M"),
        ("1.5g", "1536M"),
        ("2GB", "2G"),
        ("2GiB", "2G"),
        (".5K", "1K"),
        ("1T", "1024G"),
        ("1.1K", "2K"),
    ],
)
def test_memory_is_converted_and_never_falls_short(grid, text, size):
    assert room("resources").format_memory(room("resources").parse_memory(text)) == size


@pytest.mark.parametrize(
    "text, seconds", [(90, 90), ("90", 90), ("90m", 5400), ("1.5h", 5400), ("1d", 86400), ("1:30:00", 5400)]
)
def test_walltime_is_converted(grid, text, seconds):
    assert room("resources").parse_walltime(text) == seconds


def test_any_value_arrives(sandbox):
    sandbox.write("worker.py", PICKLE)
    args = [NASTY, {"a": {(1, 2.5): [None, True]}}, b"\0\xff", float("inf"), {1, "1"}, 1j, *NASTY]
    assert sandbox.run("worker.py", args).code == 0
    assert same(pickle.loads((sandbox.path / "got").read_bytes()), args)
    assert not list(sandbox.path.rglob("pwned"))


def test_ten_megabytes_of_arguments_arrive(sandbox):
    sandbox.write("worker.py", PICKLE)
    args = [[float(number) + 0.123456 for number in range(700_000)], "x" * 1_000_000, ["a\n"] * 100_000]
    assert sandbox.run("worker.py", args).code == 0
    assert pickle.loads((sandbox.path / "got").read_bytes()) == args


def test_the_job_runs_where_it_was_submitted_with_as_many_threads_as_cores(sandbox, monkeypatch):
    sandbox.write(
        "worker.py", "import os; print(os.getcwd(), os.environ['OMP_NUM_THREADS'], os.environ['GRID_JOB_ID'])"
    )
    below = sandbox.path / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    ended = sandbox.run("../worker.py", cores=3)
    assert (ended.out, ended.job.stdout.parent) == (f"{below} 3 {ended.job.id}\n", below / "logs")
    sandbox.grid.limit_threads(3)
    assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"] == "3"


def test_output_goes_to_the_home_directory_and_is_named_as_grid_engine_users_know_it(sandbox):
    sandbox.write("worker.py", "import sys; print('out'); print('err', file=sys.stderr)")
    ended = sandbox.run("worker.py", log_dir="~", name="trial")
    assert (sandbox.home / f"trial.o{ended.job.id}").read_text() == "out\n"
    assert (sandbox.home / f"trial.e{ended.job.id}").read_text() == "err\n"


def test_output_reaches_the_log_as_it_is_printed(sandbox):
    sandbox.write("worker.py", "import os, time\nprint('begun')\nwhile not os.path.exists('go'): time.sleep(0.05)")
    job = sandbox.submit("worker.py")
    until(lambda: job.stdout.exists() and job.stdout.read_text() == "begun\n", "printed is in the log")
    sandbox.write("go", "")
    assert sandbox.end(job).code == 0


WORKERS = {
    "argparse": (
        """
import argparse
from grid import typecast
parser = argparse.ArgumentParser()
parser.add_argument("--n", type=int)
parser.add_argument("--layers", type=typecast)
parser.add_argument("--names", nargs="+")
parser.add_argument("rest", nargs="*")
print(vars(parser.parse_args()))""",
        ["--n", 3, "--layers", [4, 2], "--names", "a b", "$HOME", 0.5, "--", "-x", True],
        "{'n': 3, 'layers': [4, 2], 'names': ['a b', '$HOME', '0.5'], 'rest': ['-x', 'True']}",
    ),
    "sys.argv": (
        "import sys; print(sys.argv[1:], ' '.join(sys.argv[1:]), sys.argv[0].endswith('worker.py'))",
        ["a b", 1.5, None, [1, "x"], "42"],
        """['a b', '1.5', 'None', "[1, 'x']", '42'] a b 1.5 None [1, 'x'] 42 True""",
    ),
    "click": (
        """
import click
@click.command()
@click.option("--n", type=int)
@click.argument("names", nargs=-1)
def main(n, names):
    print(n, names)
main()""",
        ["--n", 3, "a b", 1.5],
        "3 ('a b', '1.5')",
    ),
    "a process pool with spawn": (
        """
import multiprocessing
from grid import typecast
def square(x):
    return x * x
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print(pool.map(square, typecast()))""",
        [1, 2.5],
        "[1, 6.25]",
    ),
    "pickle of its own classes, and atexit": (
        """
import atexit, pickle, sys
class Model: pass
print(type(pickle.loads(pickle.dumps(Model()))) is Model, __name__, sys.modules["__main__"].Model is Model)
atexit.register(lambda: print(pickle.dumps(Model()) != b"", __file__.endswith("worker.py")))""",
        [],
        "True __main__ True\nTrue True",
    ),
}


@pytest.mark.parametrize("shape", WORKERS)
def test_a_script_of_any_shape_gets_what_it_expects(sandbox, shape):
    text, args, printed = WORKERS[shape]
    sandbox.write("worker.py", text)
    ended = sandbox.run("worker.py", args)
    assert (ended.out.strip(), ended.err, ended.code) == (printed, "", 0)


def test_a_script_in_another_folder_imports_what_is_beside_it(sandbox):
    sandbox.write("code/helper.py", "x = 5")
    sandbox.write("code/worker.py", "import helper, sys; print(helper.x, sys.path[0])")
    assert sandbox.run("code/worker.py").out == f"5 {sandbox.path / 'code'}\n"


@pytest.mark.parametrize(
    "text, code, reason, err",
    [
        ("import sys; sys.exit(3)", 3, "", ""),
        ("import sys; sys.exit('no data')", 1, "no data", "no data\n"),
        (
            "def f():\n    return 1 / 0\nf()",
            1,
            "ZeroDivisionError: division by zero",
            'worker.py", line 3, in <module>',
        ),
        ("x = (", 1, "SyntaxError", "'(' was never closed"),
        ("import os; os._exit(5)", 5, "", ""),
        ("import os; os.kill(os.getpid(), 9)", 137, "", "Killed"),
    ],
)
def test_the_end_of_the_script_is_the_end_of_the_job(sandbox, text, code, reason, err):
    sandbox.write("worker.py", text)
    ended = sandbox.run("worker.py")
    assert ended.code == code and ended.reason.startswith(reason) and err in ended.err
    assert "run.py" not in ended.err and "gridlib" not in ended.err, "the traceback shows what is not the user's"


def broken(sandbox):
    """A virtual environment whose Python is gone."""
    sandbox.write("env/bin/activate", f"VIRTUAL_ENV={shlex.quote(str(sandbox.path / 'env'))}; export VIRTUAL_ENV\n")
    return "source env/bin/activate"


@pytest.mark.parametrize(
    "activate, cause",
    [
        ("source missing/activate", "cannot activate the environment: source missing/activate"),
        ("false", "cannot activate the environment: false"),
        (
            "source missing/activate; export X=1",
            "cannot activate the environment: source missing/activate; export X=1",
        ),
        ("source missing/activate\ntrue", "(?s)cannot activate the environment: source missing/activate.true"),
        ("source 'missing", "cannot activate the environment: source 'missing"),
        ("PATH=/nowhere:/bin/nothing", "no python on PATH after: PATH=/nowhere"),
        (broken, "env has no python on .*: make it again"),
    ],
)
def test_an_environment_that_fails_ends_the_job_and_names_the_cause(sandbox, activate, cause, monkeypatch):
    sandbox.write("worker.py", "open('ran', 'w')")
    activate = activate(sandbox) if callable(activate) else activate
    ended = sandbox.run("worker.py", [], activate)
    assert ended.code == 1 and not (sandbox.path / "ran").exists(), "it ran in the wrong environment"
    assert re.search(cause, ended.err) and re.search(cause, ended.reason)


def test_an_activation_may_try_things_that_fail(sandbox):
    """As conda's and module's scripts do, inside of files, and conditions on the command line."""
    sandbox.write("worker.py", "print('ran')")
    sandbox.write("activate", "false\nls missing 2>/dev/null\nexport X=1\n")
    assert (
        sandbox.run("worker.py", [], "[ -d /missing ] && false; source ./activate; if false; then :; fi").out == "ran\n"
    )


def test_a_real_environment_is_used(sandbox):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "env"], check=True)
    sandbox.write("worker.py", "import sys; print(sys.prefix)")
    activate = f"export VIRTUAL_ENV={shlex.quote(str(sandbox.path / 'env'))}; PATH=$VIRTUAL_ENV/bin:$PATH"
    assert sandbox.run("worker.py", [], activate).out == f"{sandbox.path / 'env'}\n"


def test_what_is_gone_when_the_job_starts_is_named(sandbox):
    """The working directory, the script, the Python: each may vanish while a job waits."""
    (sandbox.path / "there").mkdir()
    sandbox.write("there/worker.py", "")
    os.chdir("there")
    # a qsub that runs the job only after the test has removed something
    sandbox.program(
        "qsub",
        'echo $$; (until [ -e ../go ]; do sleep 0.05; done; JOB_ID=$$ /bin/bash -p "${@: -1}") >/dev/null 2>&1 &',
    )
    for remove, cause in (
        (lambda: os.remove("worker.py"), "cannot read the script: .*worker.py"),
        (lambda: shutil.rmtree(sandbox.path / "there"), "cannot enter the working directory .*there"),
    ):
        job = sandbox.submit("worker.py", scheduler="gridengine", log_dir=sandbox.path / "logs")
        remove()
        sandbox.write("go", "")
        ended = sandbox.end(job)
        assert ended.code == 1 and re.search(cause, ended.reason) and re.search(cause, ended.err)
        os.remove("/" + str(sandbox.path / "go"))
        sandbox.write("there/worker.py", "")
        os.chdir(sandbox.path / "there")


def test_a_job_can_be_run_again_by_hand(sandbox):
    sandbox.write("worker.py", "import sys; print(sys.argv[1:]); sys.exit(4)")
    ended = sandbox.run("worker.py", ["a b", 2])
    before = sorted(ended.job.folder.rglob("*"))
    by_hand = subprocess.run(
        ["bash", str(ended.job.folder / "1" / "job.sh"), "1"], capture_output=True, text=True, cwd="/"
    )
    assert (by_hand.stdout, by_hand.stderr, by_hand.returncode) == ("['a b', '2']\n", "", 4)
    assert sorted(ended.job.folder.rglob("*")) == before, "a run by hand must leave the record alone"


def test_the_folder_is_readable(sandbox):
    sandbox.write("worker.py", "")
    job = sandbox.run("worker.py", [0.1, [64, 32], "a b"]).job
    assert (job.folder / "tasks.jsonl").read_text() == '[0.1, [64, 32], "a b"]\n'
    assert [path.name for path in (job.folder / "1" / "records").iterdir()] == ["1.exit-0"]
    assert {path.name for path in job.folder.iterdir()} == {"job.json", "tasks.jsonl", "1"}
    assert {path.name for path in (job.folder / "1").iterdir()} == {"submission.json", "tasks", "job.sh", "records"}
    again = sandbox.grid.Job(job.folder)
    assert (again.id, again.name, again.scheduler) == (job.id, "worker", "background")


def test_two_submissions_at_once_are_two_jobs(sandbox):
    sandbox.write("worker.py", "")
    code = "from grid import *; print(submit_script('worker.py', log_dir='logs').folder)"
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({process.communicate()[0] for process in both}) == 4 == len(sandbox.jobs())


def test_qstat_shows_and_qdel_stops(sandbox, capsys):
    sandbox.write("worker.py", "import time; print('begun'); time.sleep(100)")
    jobs = [sandbox.submit("worker.py", name=name) for name in ("one", "two")]
    until(lambda: all(job.log() == "begun\n" for job in jobs), "both jobs run")
    sandbox.grid.qstat()
    printed = capsys.readouterr().out
    assert all(job.id in printed and job.name in printed for job in jobs) and printed.count("RUNNING") == 2
    assert sandbox.grid.qdel(jobs[0]) == [jobs[0].id]
    assert sandbox.end(jobs[0]).code == 143
    assert sandbox.grid.qdel() == [jobs[1].id]
    assert sandbox.end(jobs[1]).code == 143
    sandbox.grid.qstat()
    assert capsys.readouterr().out == "no jobs are waiting or running\n"


def test_a_worker_that_does_not_leave_is_killed_by_the_second_try(sandbox):
    sandbox.limits.grace = 0.5
    sandbox.write(
        "worker.py",
        """
import signal, time
signal.signal(15, lambda *_: open("told", "w"))
open("ready", "w")
while True:
    time.sleep(1)""",
    )
    job = sandbox.submit("worker.py")
    until(lambda: os.path.exists("ready"), "the script has begun")
    job.cancel()
    until((sandbox.path / "told").exists, "it was told to stop")
    assert job.state == "RUNNING"
    job.cancel()
    until(lambda: job.state == "CANCELLED", "it is killed")


def test_of_two_jobs_only_the_one_that_was_told_before_is_killed(sandbox):
    text = """
import os, signal, sys, time
def save(*_):
    open(f"told-{sys.argv[1]}", "w")
signal.signal(signal.SIGTERM, save)
open(f"ready-{sys.argv[1]}", "w")
while not os.path.exists("end"): time.sleep(0.05)
"""
    sandbox.write("worker.py", text)
    sandbox.limits.grace = 0.2
    first, second = (sandbox.submit(args=[number]) for number in (1, 2))
    until(lambda: all(os.path.exists(f"ready-{number}") for number in (1, 2)), "both run")
    sandbox.grid.qdel(first)
    until(lambda: os.path.exists("told-1"), "the first one was told")
    assert sorted(sandbox.grid.qdel([first, second])) == sorted([first.id, second.id])
    until(lambda: first.state == "CANCELLED", "the second stop kills the first job")
    until(lambda: os.path.exists("told-2"), "the second job was told, not killed")
    assert second.state == "RUNNING"
    sandbox.write("end", "")
    assert sandbox.end(second).code == 0


def test_the_processes_of_a_pool_leave_the_signal_to_the_worker(sandbox):
    text = """
import multiprocessing, signal, sys, time
def save(*_):
    print("saved")
    sys.exit(7)
signal.signal(signal.SIGTERM, save)
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(2,))
child.start()
open("ready", "w")
time.sleep(100)"""
    sandbox.write("worker.py", text)
    job = sandbox.submit("worker.py")
    until(lambda: os.path.exists("ready"), "the script has begun")
    job.cancel()
    assert sandbox.end(job).out == "saved\n"


def test_a_job_whose_folder_is_gone_can_save_when_it_is_stopped(sandbox):
    code = (
        "import signal, sys, time\ndef save(*_): open('saved', 'w'); sys.exit(1)\nsignal.signal(signal.SIGTERM, save)\n"
    )
    sandbox.write("worker.py", code + "open('runs', 'w')\nwhile True: time.sleep(0.1)")
    job = sandbox.submit("worker.py")
    until((sandbox.path / "runs").exists, "it runs")
    shutil.rmtree(job.folder)
    assert sandbox.grid.qdel(job) == [job.id]
    until((sandbox.path / "saved").exists, "it was told to stop by a signal that it can handle")


def test_its_folder_removed_while_it_runs(sandbox):
    sandbox.write("worker.py", "import os, time\nopen('runs', 'w')\nwhile not os.path.exists('go'): time.sleep(0.05)")
    job = sandbox.submit("worker.py")
    until((sandbox.path / "runs").exists, "it runs")
    shutil.rmtree(job.folder)
    assert job.state == "RUNNING"
    sandbox.write("go", "")
    assert job.wait(20).state == "DONE"


@pytest.mark.parametrize("activate, code", [("exit 0", 1), ("exit 9", 9)])
def test_an_activation_that_ends_the_job_is_no_success(sandbox, activate, code):
    sandbox.write("worker.py", "open('ran', 'w')")
    job = sandbox.submit("worker.py", [], activate)
    assert sandbox.end(job).code == code and job.state == "FAILED" and not (sandbox.path / "ran").exists()


def test_an_activation_may_use_any_variable(sandbox):
    sandbox.write("worker.py", "print('ran')")
    names = "folder name record task id grid file python index after code end note fail path begun".split()
    ended = sandbox.run("worker.py", [], "; ".join(f"{name}=/nowhere" for name in names))
    assert (ended.out, ended.code) == ("ran\n", 0)


def test_a_stopped_job_can_save_and_leave(sandbox):
    text = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(7)))\n"
    sandbox.write("worker.py", text + "open('ready', 'w')\ntime.sleep(100)")
    job = sandbox.submit("worker.py")
    until(lambda: os.path.exists("ready"), "the script has begun")
    sandbox.grid.qdel(job)
    assert sandbox.end(job).code == 7 and job.stdout.read_text() == "saved\n"


def test_a_failure_of_its_own_after_the_walltime_keeps_its_reason(sandbox):
    """Not every engine ends a job at the second."""
    sandbox.write("worker.py", "import time; time.sleep(1.2); 1 / 0")
    assert sandbox.run("worker.py", walltime=1).reason == "ZeroDivisionError: division by zero"
