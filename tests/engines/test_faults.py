"""The promise: a job's end is known, with its reason, within ten seconds of the evidence, and no wait hangs.

docs/faults.md has the table of what a user sees; each of its lines is a test here, on a real Grid Engine and a real Slurm.
"""

import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import delete_jobs, new_sandbox

from engines import STOPPED_OUTSIDE, VANISHED
from sandbox import room, until

SLEEP = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(100)"


def end(job, timeout=60):
    """Wait for a job; returns its state, exit code and reason."""
    try:
        job.wait(timeout)
    except Exception as error:
        assert type(error).__name__ == "JobFailed", error
        assert f"job {job.id}" in str(error) and error.job is job
    return job.state, job.exit_code, job.reason


def running(sandbox, text=SLEEP, **keywords):
    """A job that runs, and the process id of its worker."""
    sandbox.write("worker.py", text)
    (sandbox.path / "pid").unlink(missing_ok=True)
    job = sandbox.submit(**keywords)
    until(lambda: (sandbox.path / "pid").exists() and (sandbox.path / "pid").read_text(), f"{job} runs")
    return job, int((sandbox.path / "pid").read_text())


def waiting(sandbox, engine, text="", **keywords):
    """A job that is held in the queue until it is released."""
    sandbox.write("worker.py", text)
    return sandbox.submit(options=engine.hold, **keywords)


UNTIL_GO = """
import os, sys, time
open("pid", "w").write(str(os.getpid()))
while not os.path.exists("go"):
    time.sleep(0.05)
sys.exit({code})"""
IGNORE = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
SAVE = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: print('saved'))\n"


@pytest.fixture(scope="session")
def limited(engine, tmp_path_factory):
    """Jobs that run and have a limit of time, by name. They all begin at once, for Slurm's shortest is a minute."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        sandbox = new_sandbox(tmp_path_factory.mktemp("limited"), monkeypatch, engine)
        jobs = {
            "leaves": running(sandbox, walltime=engine.shortest)[0],
            "stays": running(sandbox, IGNORE + SLEEP, walltime=engine.shortest)[0],
            "saves and stays": running(sandbox, SAVE + SLEEP, walltime=engine.shortest)[0],
            "has a limit of its own": running(sandbox, options=engine.limit(engine.shortest))[0],
        }
        if (
            engine.name == "slurm"
        ):  # the usual way to be told before the limit: here at once, for a minute is the shortest
            options = ["--signal=B:HUP@60"]
            jobs["is warned"] = running(sandbox, walltime=engine.shortest, options=options)[0]
    yield jobs
    delete_jobs(jobs.values(), engine)


def test_jobs_with_a_limit_of_time_run_before_it(limited):
    """First of all: how they end is looked at further down."""
    assert {job.state for job in limited.values()} <= {"RUNNING", "FAILED"}


@pytest.mark.parametrize(
    "text, state, code, reason",
    [
        ("print('done')", "DONE", 0, ""),
        ("import sys; sys.exit(3)", "FAILED", 3, "exit code 3"),
        ("1 / 0", "FAILED", 1, "ZeroDivisionError: division by zero"),
        ("import os; print('lost', end=''); os._exit(4)", "FAILED", 4, "exit code 4"),
        ("import os; os.kill(os.getpid(), 11)", "FAILED", 139, "killed by SIGSEGV"),
    ],
)
def test_the_scripts_own_end(sandbox, text, state, code, reason):
    sandbox.write("worker.py", text)
    assert end(sandbox.submit()) == (state, code, reason)


def test_killed_from_outside(sandbox):
    job, worker = running(sandbox)
    os.kill(worker, signal.SIGKILL)
    assert end(job) == ("FAILED", 137, "killed by SIGKILL, as the system does when memory runs out")


def test_all_of_the_job_killed_from_outside(sandbox, engine):
    job, worker = running(sandbox)
    os.killpg(os.getpgid(worker), signal.SIGKILL)
    assert end(job, 20) == ("FAILED", 137, engine.reasons["killed with all"])


@pytest.mark.only("gridengine")  # the Slurm of these tests limits no memory: not every host has control groups
def test_over_its_memory(sandbox):
    sandbox.write("pyproject.toml", "[tool.grid.gridengine]\nmemory = 'h_vmem'\n")
    sandbox.write("worker.py", "x = bytearray(2_000_000_000)")
    state, code, reason = end(sandbox.grid.submit_script("worker.py", memory="500M", log_dir="logs"))
    assert (state, code, reason) == ("FAILED", 1, "MemoryError")


@pytest.mark.parametrize("name", ["HUP", "INT"])
@pytest.mark.parametrize("code", [0, 3])
def test_a_signal_to_the_jobs_shell_alone_ends_nothing(sandbox, engine, name, code):
    """The job ends when its script does, and as it does."""
    job, worker = running(sandbox, UNTIL_GO.format(code=code))
    engine.signal_shell(job, worker, name)
    assert job.state == "RUNNING" and os.path.exists(f"/proc/{worker}")
    sandbox.write("go", "")
    assert end(job) == (("FAILED", 3, "exit code 3") if code else ("DONE", 0, ""))
    assert f"signal: SIG{name}\n" in record_of(job)


@pytest.mark.parametrize("name, code", [("HUP", 129), ("INT", 130), ("XCPU", 152)])
def test_a_signal_that_kills_the_script_is_no_success(sandbox, engine, name, code):
    job, worker = running(sandbox)
    engine.signal_all(job, worker, name)
    state, exit_code, reason = end(job)
    assert (state, exit_code) == ("FAILED", code), reason
    assert reason in (f"killed by SIG{name}", "KeyboardInterrupt")


def record_of(job):
    """The text of the record of a single job that has ended."""
    [record] = job.folder.glob("*/records/*")
    return record.read_text()


def test_cancelled_while_it_waits(sandbox, engine):
    job = waiting(sandbox, engine)
    assert (job.state, job.reason) == ("PENDING", "held")
    job.cancel()
    assert end(job, 20) == ("CANCELLED", None, "stopped on request before it began")


def test_cancelled_while_it_runs(sandbox):
    job, _ = running(sandbox)
    assert job.state == "RUNNING"
    job.cancel()
    assert end(job, 20) == ("CANCELLED", 143, "stopped on request")
    job.cancel()  # once more does no harm
    assert job.state == "CANCELLED"


def test_a_script_with_a_pool_saves_once(sandbox, engine):
    text = """
import multiprocessing, signal, sys, time
def save(*_):
    print("saved" if multiprocessing.parent_process() is None else "told")
    sys.exit(7)
signal.signal(signal.SIGTERM, save)
multiprocessing.get_context("fork").Process(target=time.sleep, args=(1,)).start()
open("pid", "w").write("0")
time.sleep(100)"""
    job, _ = running(sandbox, text)
    time.sleep(0.3)
    job.cancel()
    assert end(job, 20) == ("CANCELLED", 7, "stopped on request")
    told = 1 if engine.name == "slurm" else 0  # which tells all processes of a job
    assert [job.stdout.read_text().count(word) for word in ("saved", "told")] == [1, told]


def test_deleted_outside_while_it_waits(sandbox, engine):
    job = waiting(sandbox, engine)
    engine.delete(job.id)
    assert end(job, 20) == ("FAILED", None, engine.reasons["deleted while it waits"])


def test_deleted_outside_while_it_runs(sandbox, engine):
    job, _ = running(sandbox)
    engine.delete(job.id)
    assert end(job, 20) == ("FAILED", 143, STOPPED_OUTSIDE)


@pytest.mark.only("gridengine")
@pytest.mark.parametrize("code", [99, 100])
def test_exit_codes_that_mean_something_to_grid_engine(sandbox, engine, code):
    """99 would run the job again and again, 100 keep it in the queue for ever, and with it those that wait for it."""
    sandbox.write("worker.py", f"import sys; open('ran', 'a').write('x'); sys.exit({code})")
    job = sandbox.submit()
    after = sandbox.submit(after=job)
    assert end(job) == ("FAILED", code, f"exit code {code}")
    assert end(after, 30)[2] == f"the job before this one, {job.folder}, did not succeed"
    assert not engine.in_queue(job.id) and (sandbox.path / "ran").read_text() == "x"


def test_another_users_name_in_the_environment(sandbox, monkeypatch):
    monkeypatch.setenv("LOGNAME", "nobody")
    monkeypatch.setenv("USER", "nobody")
    job, _ = running(sandbox, SLEEP.replace("100", "3"))
    assert job.state == "RUNNING" and end(job) == ("DONE", 0, "")


@pytest.mark.only("gridengine")
def test_the_error_state_of_grid_engine_before_it_began(sandbox):
    sandbox.write("worker.py", "")
    job = sandbox.submit(options=["-S", "/nonexistent/shell"])
    state, code, reason = end(job)
    assert (state, code, reason) == ("FAILED", None, "in error state; the scheduler will not run it")
    assert "nonexistent" in room("polling").pending_reason(job.files, job.status.stuck)


@pytest.mark.only("slurm")
def test_a_job_that_slurm_cannot_launch(sandbox):
    sandbox.write("worker.py", "")
    job = sandbox.submit(options=["--input=/nonexistent"])
    assert end(job) == ("FAILED", None, "Slurm could not start it: JobLaunchFailure")


@pytest.mark.only("slurm")
def test_slurm_runs_no_job_twice_unless_it_is_asked_to(sandbox):
    job, _ = running(sandbox, SLEEP.replace("100", "3"))
    assert subprocess.run(["scontrol", "requeue", job.id], capture_output=True).returncode != 0
    assert end(job) == ("DONE", 0, "")


def test_the_working_directory_is_gone(sandbox, engine):
    below = sandbox.path / "below"
    below.mkdir()
    sandbox.write("worker.py", "")
    os.chdir(below)
    job = sandbox.grid.submit_script("../worker.py", log_dir="../logs", options=engine.hold)
    os.chdir(sandbox.path)
    below.rmdir()
    engine.release(job)
    state, code, reason = end(job)
    assert (
        (state, code) == ("FAILED", 1)
        and f"cannot enter the working directory {below}" in reason
        and reason in job.stderr.read_text()
    )


@pytest.mark.parametrize(
    "activate, reason",
    [
        ("source env/activate", "cannot activate the environment: source env/activate"),
        ("exit 0", "the activation exited the job: exit 0"),
    ],
)
def test_the_activation_fails(sandbox, activate, reason):
    sandbox.write("worker.py", "open('ran', 'w')")
    job = sandbox.grid.submit_script("worker.py", [], activate, log_dir="logs")
    assert end(job) == ("FAILED", 1, reason) and not os.path.exists("ran")


def test_the_interpreter_is_missing(sandbox):
    sandbox.write("worker.py", "")
    state, code, reason = end(sandbox.grid.submit_script("worker.py", [], "PATH=/nowhere", log_dir="logs"))
    assert (state, code, reason) == ("FAILED", 1, "no python on PATH after: PATH=/nowhere")


def test_the_log_folder_removed_while_it_waits_is_made_again(sandbox, engine):
    job = waiting(sandbox, engine, "print('here')")
    shutil.rmtree("logs")
    engine.release(job)
    assert end(job) == ("DONE", 0, "") and job.stdout.read_text() == "here\n"


def test_its_folder_removed_while_it_runs(sandbox):
    job, worker = running(sandbox, SLEEP.replace("100", "3"))
    shutil.rmtree(job.folder)
    assert end(job) == ("DONE", 0, "")


def test_what_can_never_be_had_stays_pending_and_says_why(sandbox, engine):
    sandbox.write("worker.py", "")
    job = sandbox.submit(**engine.never)
    time.sleep(3)
    assert job.state == "PENDING"
    with pytest.raises(sandbox.grid.JobTimeout, match="still not finished after 1 s"):
        job.wait(1)
    until(lambda: engine.never_words in room("polling").pending_reason(job.files), "the scheduler says what is missing")
    job.cancel()


def test_a_predecessor_that_fails(sandbox):
    sandbox.write("bad.py", "import sys; sys.exit(3)")
    sandbox.write("good.py", "")
    sandbox.write("worker.py", "open('ran', 'w')")
    submit = sandbox.grid.submit_script
    bad, good = submit("bad.py", log_dir="logs"), submit("good.py", log_dir="logs")
    after_good = submit("worker.py", log_dir="logs", after=good)
    assert end(after_good) == ("DONE", 0, "") and good.state == "DONE" and os.path.exists("ran")
    os.remove("ran")
    state, code, reason = end(submit("worker.py", log_dir="logs", after=[good, bad]))
    assert (state, code) == ("FAILED", 1) and reason == f"the job before this one, {bad.folder}, did not succeed"
    assert not os.path.exists("ran")


def test_a_predecessor_that_is_deleted(sandbox, engine):
    first = waiting(sandbox, engine)
    second = sandbox.submit(after=first)
    engine.delete(first.id)
    state, code, reason = end(second)
    assert (state, code, reason) == ("FAILED", 1, f"the job before this one, {first.folder}, did not succeed")


def test_without_accounting(sandbox, engine):
    engine.hide_accounting(sandbox)
    sandbox.write("worker.py", "import sys; sys.exit(3)")
    assert end(sandbox.submit()) == ("FAILED", 3, "exit code 3")
    job, worker = running(sandbox)
    os.killpg(os.getpgid(worker), signal.SIGKILL)
    state, code, reason = end(job)
    assert (state, code) == ("FAILED", None)
    assert re.fullmatch(
        r"vanished: it started on \S+ and left no record of its end \(killed, with all its processes\)", reason
    )
    job = waiting(sandbox, engine)
    engine.delete(job.id)
    assert end(job) == ("FAILED", None, VANISHED)


def test_clocks_that_differ_by_an_hour(sandbox):
    sandbox.write("worker.py", "")
    code = "import time; real = time.time; time.time = lambda: real() {} 3600\n"
    code += "from grid import *; job = submit_script('worker.py', log_dir='logs'); job.wait(60); print(job.state)"
    for shift in "+-":
        done = subprocess.run([sys.executable, "-c", code.format(shift)], capture_output=True, text=True)
        assert done.stdout == "DONE\n", done.stderr


def test_two_hundred_jobs_cost_one_call_for_each_poll(sandbox, engine):
    sandbox.program(engine.lister, f'echo x >>"$HOME/calls"; exec /usr/bin/{engine.lister} "$@"')
    sandbox.write("worker.py", "import time; time.sleep(1)")
    with ThreadPoolExecutor(4) as some:
        submit = functools.partial(sandbox.grid.submit_script, "worker.py", log_dir="logs")
        jobs = list(some.map(lambda number: submit(name=f"n{number}"), range(200)))
    (sandbox.home / "calls").unlink(missing_ok=True)
    begin = time.monotonic()
    sandbox.grid.wait(jobs, 300)
    took = time.monotonic() - begin
    pause, polls, at = 0.5, 0, 0.0
    while at < took:
        at, pause, polls = at + pause, min(60, pause * 1.5), polls + 1
    calls = (sandbox.home / "calls").read_text().count("x")
    assert calls <= polls, f"{calls} calls of {engine.lister} in {took:.0f} s for {polls} polls"
    assert {job.state for job in jobs} == {"DONE"} and len(jobs) == 200


def test_over_its_time(limited, engine):
    """On Slurm, which looks at its limits once in a while, a minute or two after the start."""
    reason = f"walltime of {engine.shortest} s exceeded"
    assert end(limited["leaves"], 150) == ("FAILED", 143, reason)


def test_over_a_limit_of_time_that_grid_py_did_not_set(limited):
    assert end(limited["has a limit of its own"], 150) == ("FAILED", 143, STOPPED_OUTSIDE)


def test_over_its_time_with_a_worker_that_does_not_leave(limited, engine):
    assert end(limited["stays"], 150) == ("FAILED", 137, engine.reasons["over a limit"])


@pytest.mark.only("slurm")
def test_a_warning_to_the_shell_before_the_limit_is_no_end(limited, engine):
    assert end(limited["is warned"], 150) == ("FAILED", 143, f"walltime of {engine.shortest} s exceeded")
    assert "signal: SIGHUP\n" in record_of(limited["is warned"])


def test_the_warning_reaches_the_worker_once(limited):
    end(limited["saves and stays"], 150)
    assert limited["saves and stays"].stdout.read_text() == "saved\n"
