"""The promise: a job's end is known, with its reason, within ten seconds of the evidence, and no wait hangs.

docs/faults.md has the table of what a user sees; each of its lines is a test here.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

START = Path(__file__).with_name("start_gridengine.sh")
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


def waiting(folder, text="", **keywords):
    """A job that is held in the queue until release."""
    folder.write("worker.py", text)
    return folder.grid.submit_script("worker.py", log_dir="logs", options=["-h"], **keywords)


def release(job):
    subprocess.run(["qrls", job.id], check=True, capture_output=True)


def in_queue(job):
    return subprocess.run(["qstat", "-j", job.id], capture_output=True).returncode == 0


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


def test_all_of_the_job_killed_from_outside(folder):
    job, worker = running(folder)
    os.killpg(os.getpgid(worker), signal.SIGKILL)
    reason = "killed: by the system, as when memory runs out, or deleted by qdel"
    assert end(job, 20) == ("FAILED", 137, reason)


def test_over_its_memory(folder):
    folder.write("pyproject.toml", "[tool.grid.gridengine]\nmemory = 'h_vmem'\n")
    folder.write("worker.py", "x = bytearray(2_000_000_000)")
    state, code, reason = end(folder.grid.submit_script("worker.py", memory="500M", log_dir="logs"))
    assert (state, code, reason) == ("FAILED", 1, "MemoryError")


def test_over_its_time(folder):
    job, _ = running(folder, walltime=5)
    assert end(job) == ("FAILED", 143, "the walltime of 5 s was over")


def test_over_its_time_with_a_worker_that_does_not_leave(folder):
    job, _ = running(folder, "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEP, walltime=5)
    state, code, reason = end(job)
    assert (state, code) == ("FAILED", 137) and "over a limit" in reason


def test_the_warning_reaches_the_worker_once(folder):
    text = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: print('saved'))\nimport subprocess\n" + SLEEP
    text = text.replace(
        "time.sleep(100)", "\nfor _ in range(15): time.sleep(0.1)\n" * 1 + "\nwhile True: time.sleep(0.1)"
    )
    job, _ = running(folder, text, walltime=4)
    end(job)
    assert job.stdout.read_text() == "saved\n"


def test_cancelled_while_it_waits(folder):
    job = waiting(folder)
    assert job.state == "PENDING"
    job.cancel()
    assert end(job, 20) == ("CANCELLED", None, "stopped on request before it began")


def test_cancelled_while_it_runs(folder):
    job, _ = running(folder)
    assert job.state == "RUNNING"
    job.cancel()
    assert end(job, 20) == ("CANCELLED", 143, "stopped on request")
    job.cancel()  # once more does no harm
    assert job.state == "CANCELLED"


def test_deleted_outside_while_it_waits(folder):
    job = waiting(folder)
    subprocess.run(["qdel", job.id], check=True)
    assert end(job, 20) == ("FAILED", None, "vanished: it left the queue and never began; deleted there, or lost")


def test_deleted_outside_while_it_runs(folder):
    job, _ = running(folder)
    subprocess.run(["qdel", job.id], check=True)
    assert end(job, 20) == ("FAILED", 143, "stopped by the scheduler: deleted there, or over a limit")


@pytest.mark.parametrize("code", [99, 100])
def test_exit_codes_that_mean_something_to_grid_engine(folder, code):
    """99 would run the job again and again, 100 keep it in the queue for ever, and with it those that wait for it."""
    folder.write("worker.py", f"import sys; open('ran', 'a').write('x'); sys.exit({code})")
    job = folder.grid.submit_script("worker.py", log_dir="logs")
    after = folder.grid.submit_script("worker.py", log_dir="logs", after=job)
    assert end(job) == ("FAILED", code, f"exit code {code}")
    assert end(after, 30)[2].startswith(f"job {job.id}, on which this one waits, did not succeed")
    assert not in_queue(job) and (folder.path / "ran").read_text() == "x"


def test_a_limit_that_grid_py_did_not_set(folder):
    job, _ = running(folder, options=["-l", "h_rt=4"])
    assert end(job) == ("FAILED", 143, "stopped by the scheduler: deleted there, or over a limit")


def test_another_users_name_in_the_environment(folder, monkeypatch):
    monkeypatch.setenv("LOGNAME", "nobody")
    monkeypatch.setenv("USER", "nobody")
    job, _ = running(folder, SLEEP.replace("100", "3"))
    assert job.state == "RUNNING" and end(job) == ("DONE", 0, "")


def test_the_error_state_before_it_began(folder):
    folder.write("worker.py", "")
    job = folder.grid.submit_script("worker.py", log_dir="logs", options=["-S", "/nonexistent/shell"])
    state, code, reason = end(job)
    assert (state, code, reason) == ("FAILED", None, "in error state; the scheduler will not run it")
    assert "nonexistent" in folder.grid.why(job, state)


def test_the_working_directory_is_gone(folder):
    below = folder.path / "below"
    below.mkdir()
    folder.write("worker.py", "")
    os.chdir(below)
    job = folder.grid.submit_script("../worker.py", log_dir="../logs", options=["-h"])
    os.chdir(folder.path)
    below.rmdir()
    release(job)
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


def test_the_log_folder_removed_while_it_waits_is_made_again(folder):
    job = waiting(folder, "print('here')")
    shutil.rmtree("logs")
    release(job)
    assert end(job) == ("DONE", 0, "") and job.stdout.read_text() == "here\n"


def test_its_folder_removed_while_it_runs(folder):
    job, worker = running(folder, SLEEP.replace("100", "3"))
    shutil.rmtree(job.folder)
    assert end(job) == ("DONE", 0, "")


def test_what_can_never_be_had_stays_pending_and_says_why(folder):
    folder.write("worker.py", "")
    job = folder.grid.submit_script("worker.py", memory="100G", log_dir="logs")
    time.sleep(3)
    assert job.state == "PENDING"
    with pytest.raises(folder.grid.JobTimeout, match="not ended after 1 seconds"):
        job.wait(1)
    folder.wait_until(lambda: "mem" in folder.grid.why(job, "PENDING"), "the scheduler says what is missing")
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


def test_a_predecessor_that_is_deleted(folder):
    first = waiting(folder)
    second = folder.grid.submit_script("worker.py", log_dir="logs", after=first)
    subprocess.run(["qdel", first.id], check=True)
    state, code, reason = end(second)
    assert (state, code) == ("FAILED", 1) and f"job {first.id}" in reason


def test_without_accounting(folder):
    folder.program("qacct", 'exec /usr/bin/qacct -f /nonexistent "$@"')  # as where the file is not on the submit host
    folder.write("worker.py", "import sys; sys.exit(3)")
    assert end(folder.grid.submit_script("worker.py", log_dir="logs")) == ("FAILED", 3, "exit code 3")
    job, worker = running(folder)
    os.killpg(os.getpgid(worker), signal.SIGKILL)
    state, code, reason = end(job)
    assert (state, code) == ("FAILED", None) and reason.startswith("vanished: it began on localhost, and was killed")


def test_clocks_that_differ_by_an_hour(folder):
    folder.write("worker.py", "")
    code = "import time; real = time.time; time.time = lambda: real() {} 3600\n"
    code += "from grid import *; job = submit_script('worker.py', log_dir='logs'); job.wait(60); print(job.state)"
    for shift in "+-":
        done = subprocess.run([sys.executable, "-c", code.format(shift)], capture_output=True, text=True)
        assert done.stdout == "DONE\n", done.stderr


def test_two_hundred_jobs_cost_one_call_for_each_poll(folder):
    folder.program("qstat", 'echo x >>"$HOME/qstat"; exec /usr/bin/qstat "$@"')
    folder.write("worker.py", "import time; time.sleep(1)")
    jobs = [folder.grid.submit_script("worker.py", log_dir="logs", name=f"n{number}") for number in range(200)]
    (folder.home / "qstat").unlink(missing_ok=True)
    begin = time.monotonic()
    folder.grid.wait(jobs, 300)
    took = time.monotonic() - begin
    pause, polls, at = 0.5, 0, 0.0
    while at < took:
        at, pause, polls = at + pause, min(60, pause * 1.5), polls + 1
    calls = (folder.home / "qstat").read_text().count("x")
    assert calls <= polls, f"{calls} calls of qstat in {took:.0f} s for {polls} polls"
    assert {job.state for job in jobs} == {"DONE"} and len(jobs) == 200


def test_kill_9_of_the_submitter_at_any_moment(folder):
    """Afterwards every job in the queue is known, and none was submitted twice."""
    folder.write("worker.py", "")
    code = "from grid import *; submit_script('worker.py', log_dir='logs', options=['-h'])"
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True)
    whole = time.monotonic() - begin
    for number in range(20):
        process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        time.sleep(random.Random(number).uniform(0, whole))
        process.kill()
        process.wait()
    time.sleep(2)  # a qsub that had begun goes on to its end
    folder.grid.look(folder.grid.jobs())  # as the next status does
    text = subprocess.run(["qstat", "-j", "*"], capture_output=True, text=True).stdout
    scripts = re.findall(r"^script_file: +(.*)$", text, re.MULTILINE)
    ours = [script for script in scripts if script.startswith(str(folder.path))]
    assert len(ours) == len(set(ours)) >= 2, "a job was submitted twice"
    known = {str(job.folder / "job.sh") for job in folder.grid.jobs() if job.id}
    assert set(ours) == known, f"in the queue: {ours}, known: {known}"
    time.sleep(folder.grid.GRACE)
    for job in folder.grid.jobs():
        assert job.state == ("PENDING" if job.id else "FAILED")
        assert job.id or "never reached the scheduler" in job.reason


def stop_master():
    subprocess.run(["qconf", "-km"], check=True, capture_output=True)
    while subprocess.run(["pidof", "sge_qmaster"], capture_output=True).returncode == 0:
        time.sleep(0.1)


def start_engine():
    subprocess.run([START], check=True, capture_output=True, timeout=120)


def test_the_master_is_stopped_before_the_submission(folder):
    folder.write("worker.py", "")
    stop_master()
    try:
        folder.grid.RETRY_FOR = 2
        with pytest.raises(folder.grid.SubmitError, match="unable to send message to qmaster"):
            folder.grid.submit_script("worker.py", log_dir="logs")
        folder.grid.RETRY_FOR = 60
        code = "from grid import *; job = submit_script('worker.py', log_dir='logs'); job.wait(60); print(job.state)"
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        time.sleep(3)
    finally:
        start_engine()
    out, err = process.communicate(timeout=120)
    assert out == "DONE\n" and "does not answer; trying for 60 seconds" in err
    states = [job.state for job in folder.grid.jobs()]
    assert states.count("DONE") == 1 and len(folder.jobs()) <= 2


def test_the_master_restarts_during_wait(folder):
    job, _ = running(folder, SLEEP.replace("100", "12"))
    stop_master()
    try:
        assert (job.state, job.reason) == ("RUNNING", "the scheduler does not answer")
    finally:
        start_engine()
    assert end(job, 90) == ("DONE", 0, "")


def test_the_execution_daemon_is_killed_and_restarted(folder):
    job, _ = running(folder, SLEEP.replace("100", "8"))
    pids = subprocess.run(["pidof", "sge_execd"], capture_output=True, text=True).stdout.split()
    subprocess.run(["kill", "-9", *pids], check=True)
    start_engine()
    assert end(job, 90) == ("DONE", 0, "")
