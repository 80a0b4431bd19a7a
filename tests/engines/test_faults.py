"""The promise: a job's end is known, with its reason, within ten seconds of the evidence, and no wait hangs.

docs/faults.md has the table of what a user sees; each of its lines is a test here, on a real Grid Engine and a real Slurm.
"""

import functools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import delete_jobs, new_folder

SLEEP = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(100)"


def end(job, timeout=60):
    """Wait for a job; returns its state, exit code and reason."""
    try:
        job.wait(timeout)
    except Exception as error:
        assert type(error).__name__ == "JobFailed", error
        assert f"job {job.id}" in str(error) and error.job is job
    return job.state, job.exit_code, job.reason


def running(folder, text=SLEEP, **keywords):
    """A job that runs, and the process id of its worker."""
    folder.write("worker.py", text)
    (folder.path / "pid").unlink(missing_ok=True)
    job = folder.grid.submit_script("worker.py", log_dir="logs", **keywords)
    folder.wait_until(lambda: (folder.path / "pid").exists() and (folder.path / "pid").read_text(), f"{job} runs")
    return job, int((folder.path / "pid").read_text())


def waiting(folder, engine, text="", **keywords):
    """A job that is held in the queue until it is released."""
    folder.write("worker.py", text)
    return folder.grid.submit_script("worker.py", log_dir="logs", options=engine.hold, **keywords)


IGNORE = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
SAVE = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: print('saved'))\n"


@pytest.fixture(scope="session")
def limited(engine, tmp_path_factory):
    """Jobs that run and have a limit of time, by name. They all begin at once, for Slurm's shortest is a minute."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = new_folder(tmp_path_factory.mktemp("limited"), monkeypatch, engine)
        jobs = {
            "leaves": running(folder, walltime=engine.shortest)[0],
            "stays": running(folder, IGNORE + SLEEP, walltime=engine.shortest)[0],
            "saves and stays": running(folder, SAVE + SLEEP, walltime=engine.shortest)[0],
            "has a limit of its own": running(folder, options=engine.limit(engine.shortest))[0],
        }
    yield jobs
    delete_jobs(folder, engine)


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
def test_the_scripts_own_end(folder, text, state, code, reason):
    folder.write("worker.py", text)
    assert end(folder.grid.submit_script("worker.py", log_dir="logs")) == (state, code, reason)


def test_killed_from_outside(folder):
    job, worker = running(folder)
    os.kill(worker, signal.SIGKILL)
    assert end(job) == ("FAILED", 137, "killed by SIGKILL, as the system does when memory runs out")


def test_all_of_the_job_killed_from_outside(folder, engine):
    job, worker = running(folder)
    os.killpg(os.getpgid(worker), signal.SIGKILL)
    assert end(job, 20) == ("FAILED", 137, engine.reasons["killed with all"])


@pytest.mark.only("gridengine")  # the Slurm of these tests limits no memory: not every host has control groups
def test_over_its_memory(folder):
    folder.write("pyproject.toml", "[tool.grid.gridengine]\nmemory = 'h_vmem'\n")
    folder.write("worker.py", "x = bytearray(2_000_000_000)")
    state, code, reason = end(folder.grid.submit_script("worker.py", memory="500M", log_dir="logs"))
    assert (state, code, reason) == ("FAILED", 1, "MemoryError")


def test_cancelled_while_it_waits(folder, engine):
    job = waiting(folder, engine)
    assert (job.state, job.reason) == ("PENDING", "held")
    job.cancel()
    assert end(job, 20) == ("CANCELLED", None, "stopped on request before it began")


def test_cancelled_while_it_runs(folder):
    job, _ = running(folder)
    assert job.state == "RUNNING"
    job.cancel()
    assert end(job, 20) == ("CANCELLED", 143, "stopped on request")
    job.cancel()  # once more does no harm
    assert job.state == "CANCELLED"


def test_a_script_with_a_pool_saves_once(folder, engine):
    text = """
import multiprocessing, signal, sys, time
def save(*_):
    print("saved" if multiprocessing.parent_process() is None else "told")
    sys.exit(7)
signal.signal(signal.SIGTERM, save)
multiprocessing.get_context("fork").Process(target=time.sleep, args=(1,)).start()
open("pid", "w").write("0")
time.sleep(100)"""
    job, _ = running(folder, text)
    time.sleep(0.3)
    job.cancel()
    assert end(job, 20) == ("CANCELLED", 7, "stopped on request")
    told = 1 if engine.name == "slurm" else 0  # which tells all processes of a job
    assert [job.stdout.read_text().count(word) for word in ("saved", "told")] == [1, told]


def test_deleted_outside_while_it_waits(folder, engine):
    job = waiting(folder, engine)
    engine.delete(job.id)
    assert end(job, 20) == ("FAILED", None, engine.reasons["deleted while it waits"])


def test_deleted_outside_while_it_runs(folder, engine):
    job, _ = running(folder)
    engine.delete(job.id)
    assert end(job, 20) == ("FAILED", 143, "stopped by the scheduler: deleted there, or over a limit")


@pytest.mark.only("gridengine")
@pytest.mark.parametrize("code", [99, 100])
def test_exit_codes_that_mean_something_to_grid_engine(folder, engine, code):
    """99 would run the job again and again, 100 keep it in the queue for ever, and with it those that wait for it."""
    folder.write("worker.py", f"import sys; open('ran', 'a').write('x'); sys.exit({code})")
    job = folder.grid.submit_script("worker.py", log_dir="logs")
    after = folder.grid.submit_script("worker.py", log_dir="logs", after=job)
    assert end(job) == ("FAILED", code, f"exit code {code}")
    assert end(after, 30)[2].startswith(f"job {job.id}, on which this one waits, did not succeed")
    assert not engine.in_queue(job.id) and (folder.path / "ran").read_text() == "x"


def test_another_users_name_in_the_environment(folder, monkeypatch):
    monkeypatch.setenv("LOGNAME", "nobody")
    monkeypatch.setenv("USER", "nobody")
    job, _ = running(folder, SLEEP.replace("100", "3"))
    assert job.state == "RUNNING" and end(job) == ("DONE", 0, "")


@pytest.mark.only("gridengine")
def test_the_error_state_of_grid_engine_before_it_began(folder):
    folder.write("worker.py", "")
    job = folder.grid.submit_script("worker.py", log_dir="logs", options=["-S", "/nonexistent/shell"])
    state, code, reason = end(job)
    assert (state, code, reason) == ("FAILED", None, "in error state; the scheduler will not run it")
    assert "nonexistent" in folder.grid.why(job, state)


@pytest.mark.only("slurm")
def test_a_job_that_slurm_cannot_launch(folder):
    folder.write("worker.py", "")
    job = folder.grid.submit_script("worker.py", log_dir="logs", options=["--input=/nonexistent"])
    assert end(job) == ("FAILED", None, "Slurm could not start it: JobLaunchFailure")


@pytest.mark.only("slurm")
def test_slurm_runs_no_job_twice_unless_it_is_asked_to(folder):
    job, _ = running(folder, SLEEP.replace("100", "3"))
    assert subprocess.run(["scontrol", "requeue", job.id], capture_output=True).returncode != 0
    assert end(job) == ("DONE", 0, "")


def test_the_working_directory_is_gone(folder, engine):
    below = folder.path / "below"
    below.mkdir()
    folder.write("worker.py", "")
    os.chdir(below)
    job = folder.grid.submit_script("../worker.py", log_dir="../logs", options=engine.hold)
    os.chdir(folder.path)
    below.rmdir()
    engine.release(job)
    state, code, reason = end(job)
    assert (state, code) == ("FAILED", 1) and "cannot be entered" in reason and reason in job.stderr.read_text()


@pytest.mark.parametrize(
    "activate, reason",
    [
        ("source env/activate", "the environment cannot be activated: source env/activate"),
        ("exit 0", "the activation ended the job: exit 0"),
    ],
)
def test_the_activation_fails(folder, activate, reason):
    folder.write("worker.py", "open('ran', 'w')")
    job = folder.grid.submit_script("worker.py", [], activate, log_dir="logs")
    assert end(job) == ("FAILED", 1, reason) and not os.path.exists("ran")


def test_the_interpreter_is_missing(folder):
    folder.write("worker.py", "")
    state, code, reason = end(folder.grid.submit_script("worker.py", [], "PATH=/nowhere", log_dir="logs"))
    assert (state, code, reason) == ("FAILED", 1, "there is no python after: PATH=/nowhere")


def test_the_log_folder_removed_while_it_waits_is_made_again(folder, engine):
    job = waiting(folder, engine, "print('here')")
    shutil.rmtree("logs")
    engine.release(job)
    assert end(job) == ("DONE", 0, "") and job.stdout.read_text() == "here\n"


def test_its_folder_removed_while_it_runs(folder):
    job, worker = running(folder, SLEEP.replace("100", "3"))
    shutil.rmtree(job.folder)
    assert end(job) == ("DONE", 0, "")


def test_what_can_never_be_had_stays_pending_and_says_why(folder, engine):
    folder.write("worker.py", "")
    job = folder.grid.submit_script("worker.py", log_dir="logs", **engine.never)
    time.sleep(3)
    assert job.state == "PENDING"
    with pytest.raises(folder.grid.JobTimeout, match="not ended after 1 seconds"):
        job.wait(1)
    folder.wait_until(
        lambda: engine.never_words in folder.grid.why(job, "PENDING"), "the scheduler says what is missing"
    )
    job.cancel()


def test_a_predecessor_that_fails(folder):
    folder.write("bad.py", "import sys; sys.exit(3)")
    folder.write("good.py", "")
    folder.write("worker.py", "open('ran', 'w')")
    submit = folder.grid.submit_script
    bad, good = submit("bad.py", log_dir="logs"), submit("good.py", log_dir="logs")
    after_good = submit("worker.py", log_dir="logs", after=good)
    assert end(after_good) == ("DONE", 0, "") and good.state == "DONE" and os.path.exists("ran")
    os.remove("ran")
    state, code, reason = end(submit("worker.py", log_dir="logs", after=[good, bad]))
    assert (state, code) == ("FAILED", 1) and f"job {bad.id}, on which this one waits, did not succeed" in reason
    assert not os.path.exists("ran")


def test_a_predecessor_that_is_deleted(folder, engine):
    first = waiting(folder, engine)
    second = folder.grid.submit_script("worker.py", log_dir="logs", after=first)
    engine.delete(first.id)
    state, code, reason = end(second)
    assert (state, code) == ("FAILED", 1) and f"job {first.id}" in reason


def test_without_accounting(folder, engine):
    engine.hide_accounting(folder)
    folder.write("worker.py", "import sys; sys.exit(3)")
    assert end(folder.grid.submit_script("worker.py", log_dir="logs")) == ("FAILED", 3, "exit code 3")
    job, worker = running(folder)
    os.killpg(os.getpgid(worker), signal.SIGKILL)
    state, code, reason = end(job)
    assert (state, code) == ("FAILED", None) and reason.startswith("vanished: it began on ") and "was killed" in reason
    job = waiting(folder, engine)
    engine.delete(job.id)
    assert end(job) == ("FAILED", None, "vanished: it left the queue and never began; deleted there, or lost")


def test_clocks_that_differ_by_an_hour(folder):
    folder.write("worker.py", "")
    code = "import time; real = time.time; time.time = lambda: real() {} 3600\n"
    code += "from grid import *; job = submit_script('worker.py', log_dir='logs'); job.wait(60); print(job.state)"
    for shift in "+-":
        done = subprocess.run([sys.executable, "-c", code.format(shift)], capture_output=True, text=True)
        assert done.stdout == "DONE\n", done.stderr


def test_two_hundred_jobs_cost_one_call_for_each_poll(folder, engine):
    folder.program(engine.lister, f'echo x >>"$HOME/calls"; exec /usr/bin/{engine.lister} "$@"')
    folder.write("worker.py", "import time; time.sleep(1)")
    with ThreadPoolExecutor(4) as some:
        submit = functools.partial(folder.grid.submit_script, "worker.py", log_dir="logs")
        jobs = list(some.map(lambda number: submit(name=f"n{number}"), range(200)))
    (folder.home / "calls").unlink(missing_ok=True)
    begin = time.monotonic()
    folder.grid.wait(jobs, 300)
    took = time.monotonic() - begin
    pause, polls, at = 0.5, 0, 0.0
    while at < took:
        at, pause, polls = at + pause, min(60, pause * 1.5), polls + 1
    calls = (folder.home / "calls").read_text().count("x")
    assert calls <= polls, f"{calls} calls of {engine.lister} in {took:.0f} s for {polls} polls"
    assert {job.state for job in jobs} == {"DONE"} and len(jobs) == 200


def test_kill_9_of_the_submitter_at_any_moment(folder, engine):
    """Afterwards every job in the queue is known, and none was submitted twice."""
    folder.write("worker.py", "")
    code = f"from grid import *; submit_script('worker.py', log_dir='logs', options={engine.hold})"
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True)
    whole = time.monotonic() - begin
    for number in range(20):
        process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        time.sleep(random.Random(number).uniform(0, whole))
        process.kill()
        process.wait()
    time.sleep(2)  # a call of the scheduler that had begun goes on to its end
    folder.grid.look(folder.grid.jobs())  # as the next status does
    ours = [script for script in engine.scripts() if script.startswith(str(folder.path))]
    assert len(ours) == len(set(ours)) >= 2, "a job was submitted twice"
    known = {str(job.folder / "job.sh") for job in folder.grid.jobs() if job.id}
    assert set(ours) == known, f"in the queue: {ours}, known: {known}"
    time.sleep(folder.grid.GRACE)
    for job in folder.grid.jobs():
        assert job.state == ("PENDING" if job.id else "FAILED")
        assert job.id or "never reached the scheduler" in job.reason


def test_over_its_time(limited, engine):
    """On Slurm, which looks at its limits once in a while, a minute or two after the start."""
    reason = f"the walltime of {engine.shortest} s was over"
    assert end(limited["leaves"], 150) == ("FAILED", 143, reason)


def test_over_a_limit_of_time_that_grid_py_did_not_set(limited):
    stopped = "stopped by the scheduler: deleted there, or over a limit"
    assert end(limited["has a limit of its own"], 150) == ("FAILED", 143, stopped)


def test_over_its_time_with_a_worker_that_does_not_leave(limited, engine):
    assert end(limited["stays"], 150) == ("FAILED", 137, engine.reasons["over a limit"])


def test_the_warning_reaches_the_worker_once(limited):
    end(limited["saves and stays"], 150)
    assert limited["saves and stays"].stdout.read_text() == "saved\n"
