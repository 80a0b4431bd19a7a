"""The promises about what is known of a job afterwards: where it came from, what it ran, and what gridctl.py shows."""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import pytest
from workplace import GRID


def git(*words):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *identity, *words], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(folder):
    """A git repository with a worker, a module beside it, data, and an ignored file."""
    folder.write("code/worker.py", "import helper, os, sys\nprint(helper.text, os.getcwd(), __file__)\n")
    folder.write("code/helper.py", "text = 'as it was'\n")
    folder.write("data.bin", "x" * (1024**2 + 1))
    folder.write("secret.py", "")
    folder.write(".gitignore", "secret.py\n/.grid\nlogs\n__pycache__\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    return folder


def held(folder, **keywords):
    """Submit a job that begins only when the test says go."""
    activate = f"while [ ! -e {folder.home}/go ]; do sleep 0.05; done"
    return folder.grid.submit_script("code/worker.py", [1], activate, log_dir="logs", **keywords)


def go(folder, job):
    (folder.home / "go").touch()
    return folder.end(job)


def test_the_record_tells_where_a_job_came_from(repository):
    (repository.home / "go").touch()
    job = held(repository)
    facts = json.loads((job.folder / "record.json").read_text())
    origin = facts["provenance"]
    assert facts["script"] == str(repository.path / "code" / "worker.py") and facts["pieces"][0]["id"] == job.id
    assert origin["git_commit"] == git("rev-parse", "HEAD") and origin["git_changes"] is False
    assert origin["command"] == sys.orig_argv and origin["python"].startswith(sys.executable)
    assert origin["user"] and origin["host"] and origin["submitted"].startswith(time.strftime("%Y-%m-"))
    repository.write("code/helper.py", "text = 'changed'\n")
    assert held(repository).record["provenance"]["git_changes"] is True
    ended = repository.end(job)
    assert ended.record["host"] and ended.record["python"].endswith(".".join(map(str, sys.version_info[:3])))


def test_outside_git_there_is_no_commit_in_the_record(folder):
    folder.write("worker.py", "")
    assert "git_commit" not in folder.run("worker.py").job.record["provenance"]


def test_a_script_edited_while_the_job_waits_is_said_in_its_log(repository):
    job = held(repository)
    repository.write("code/worker.py", "print('edited')")
    ended = go(repository, job)
    assert ended.out == "edited\n" and "worker.py has changed since the job was submitted" in ended.err


def test_a_snapshot_runs_the_code_as_it_was(repository):
    job = held(repository, snapshot=True)
    repository.write("code/worker.py", "1 / 0")
    repository.write("code/helper.py", "1 / 0")
    ended = go(repository, job)
    copy = job.folder / "snapshot" / "code" / "worker.py"
    assert (ended.out, ended.err) == (f"as it was {repository.path} {copy}\n", "")
    assert job.record["snapshot_without"] == ["data.bin"]
    assert not (job.folder / "snapshot" / "secret.py").exists() and not (job.folder / "snapshot" / ".grid").exists()


def test_a_snapshot_outside_git_is_of_the_python_files(repository):
    shutil.rmtree(".git")
    repository.write("code/data.csv", "")
    repository.write("code/env/pyvenv.cfg", "")
    repository.write("code/env/lib.py", "")
    repository.write("code/package/__init__.py", "")
    job = held(repository, snapshot=True)
    files = {path.relative_to(job.folder / "snapshot").as_posix() for path in (job.folder / "snapshot").rglob("*.*")}
    assert files == {"worker.py", "helper.py", "package/__init__.py"}
    assert "as it was" in go(repository, job).out


def test_a_job_waits_for_others_and_never_runs_after_a_failure(folder):
    folder.write("slow.py", "import time; time.sleep(1); open('made', 'w')")
    folder.write("bad.py", "import sys; sys.exit(2)")
    folder.write("worker.py", "open('made'); print('ran')")
    submit = folder.grid.submit_script
    slow, bad = submit("slow.py", log_dir="logs"), submit("bad.py", log_dir="logs")
    assert folder.end(submit("worker.py", log_dir="logs", after=slow)).out == "ran\n"
    ended = folder.end(submit("worker.py", log_dir="logs", after=[slow, bad]))
    assert ended.code == 1 and f"job {bad.id}, on which this one waits, did not succeed" in ended.reason
    assert ended.out == ""
    for wrong in ("123", [slow, 5], object()):
        with pytest.raises(folder.grid.ArgumentError, match="after is .*: pass a Job that was submitted"):
            submit("worker.py", after=wrong)


def test_jobs_and_wait(folder):
    folder.write("worker.py", "import sys, time\nfrom grid import typecast\ntime.sleep(0.5)\nsys.exit(*typecast())")
    jobs = [folder.grid.submit_script("worker.py", [code], log_dir="logs") for code in (0, 0, 3, 0)]
    assert [job.id for job in folder.grid.jobs()] == [job.id for job in jobs]
    with pytest.raises(folder.grid.JobFailed, match=f"job {jobs[2].id} worker is FAILED: exit code 3") as caught:
        folder.grid.wait(jobs, timeout=30)
    assert caught.value.job is jobs[2]
    with pytest.raises(folder.grid.JobFailed):
        folder.grid.wait(job for job in jobs)
    assert [job.state for job in folder.grid.jobs()] == ["DONE", "DONE", "FAILED", "DONE"]


def test_the_error_of_a_failed_job_shows_the_end_of_its_log(folder):
    folder.write("worker.py", "print('one'); [print(n) for n in range(50)]; 1 / 0")
    with pytest.raises(
        folder.grid.JobFailed, match=r"(?s)ZeroDivisionError.*; exit code 1. .*\n    47\n.*1 / 0"
    ) as caught:
        folder.grid.submit_script("worker.py", log_dir="logs").wait(30)
    assert "\n    1\n" not in str(caught.value)


class Shell:
    """gridctl.py in the folder."""

    def __init__(self, folder):
        shutil.copy(GRID.with_name("gridctl.py"), folder.path)
        self.folder = folder

    def __call__(self, *words, code=0):
        done = subprocess.run([sys.executable, "gridctl.py", *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == code and "Traceback" not in done.stderr, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def gridctl(folder):
    return Shell(folder)


def test_gridctl_without_jobs(gridctl):
    assert gridctl("status") == "this project has no jobs yet\n"
    assert "this project has no jobs yet" in gridctl("log", code=1)
    assert gridctl("stop", "all") == ""


def test_gridctl_shows_follows_and_stops(folder, gridctl):
    folder.write("worker.py", "import time; print('working'); time.sleep(100)")
    folder.write("quick.py", "print('quick'); 1 / 0")
    quick = folder.run("quick.py", [0.1, [64, 32]]).job
    job = folder.grid.submit_script("worker.py", log_dir="logs")
    folder.wait_until(lambda: job.stdout.exists() and job.stdout.read_text(), "it works")
    table = [re.split(r"  +", line) for line in gridctl("status").splitlines()]
    assert table[0] == ["id", "name", "state", "since", "host", "reason"]
    assert table[1][:3] == [quick.id, "quick", "FAILED"] and table[1][5] == "ZeroDivisionError: division by zero"
    assert table[2][:3] == [job.id, "worker", "RUNNING"]
    assert gridctl("log") == gridctl("log", job.id) == gridctl("log", "wor") == "working\n"
    assert gridctl("log", "quick", "-f").startswith("quick\nTraceback")
    assert "is FAILED: ZeroDivisionError" in gridctl("log", "-f", "quick")
    assert "names no job of this project; there are" in gridctl("show", "nothing", code=1)
    shown = gridctl("show", quick.id)
    assert "[0.1, [64, 32]]" in shown and '"script_sha256"' in shown and "ZeroDivisionError" in shown
    assert f"<Job {job.id} worker>: told the scheduler to stop it" in gridctl("stop")
    assert folder.end(job).code == 143
    assert "CANCELLED  " in gridctl("status") and "stopped on request" in gridctl("status")
    assert f"<Job {job.id} worker>: CANCELLED" in gridctl("stop", job.id)


def test_gridctl_never_guesses_which_job_is_meant(folder, gridctl):
    folder.write("worker.py", "")
    ids = [folder.run("worker.py", name=name).job.id for name in ("one", "once", "on", "on")]
    assert "on names several jobs" not in gridctl("show", "on") and gridctl("show", "on").startswith(ids[3])
    assert "o names several jobs; there are" in gridctl("stop", "o", code=1)


def test_a_broken_record_hides_no_other_job(folder, gridctl):
    folder.write("worker.py", "")
    first, second = folder.run("worker.py").job, folder.run("worker.py", name="other").job
    (first.folder / "record.json").write_text("{")
    printed = gridctl("status")
    assert "is passed by, its record.json is broken" in printed and f"{second.id}  other  DONE" in printed


def test_gridctl_cleans_what_is_old_and_over(folder, gridctl):
    folder.write("worker.py", "")
    folder.write("slow.py", "import time; time.sleep(100)")
    done = folder.run("worker.py").job
    running = folder.grid.submit_script("slow.py", log_dir="logs")
    assert gridctl("clean") == "" and done.folder.exists()
    time.sleep(1.5)
    assert "give it a unit" in gridctl("clean", "30", code=1)
    assert gridctl("clean", "1s") == f"removed {done.folder}\n"
    assert not done.folder.exists() and running.folder.exists()
    assert "AGE is" in gridctl("clean", "yesterday", code=1)
    running.cancel()
