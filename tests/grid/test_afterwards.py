"""The promises about what is known of a job afterwards: where it came from, what it ran, and what `python grid.py` shows."""

import json
import re
import shutil
import subprocess
import sys
import time

import pytest

from sandbox import until


def git(*words):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *identity, *words], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(sandbox):
    """A git repository with a worker, a module beside it, data, and an ignored file."""
    sandbox.write("code/worker.py", "import helper, os, sys\nprint(helper.text, os.getcwd(), __file__)\n")
    sandbox.write("code/helper.py", "text = 'as it was'\n")
    sandbox.write("data.bin", "x" * (1024**2 + 1))
    sandbox.write("secret.py", "")
    sandbox.write(".gitignore", "secret.py\n/.grid\nlogs\n__pycache__\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    return sandbox


def held(sandbox, **keywords):
    """Submit a job that begins only when the test says go."""
    activate = f"while [ ! -e {sandbox.home}/go ]; do sleep 0.05; done"
    return sandbox.submit("code/worker.py", [1], activate, **keywords)


def go(sandbox, job):
    (sandbox.home / "go").touch()
    return sandbox.end(job)


def test_the_record_tells_where_a_job_came_from(repository):
    (repository.home / "go").touch()
    job = held(repository)
    facts = json.loads((job.folder / "job.json").read_text())
    origin = json.loads((job.folder / "1" / "submission.json").read_text())
    assert facts["script"] == str(repository.path / "code" / "worker.py") and origin["id"] == job.id
    assert origin["git_commit"] == git("rev-parse", "HEAD") and origin["git_changes"] is False
    assert origin["python"].startswith(sys.executable)
    assert origin["user"] and origin["host"] and origin["submitted"].startswith(time.strftime("%Y-%m-"))
    repository.write("code/helper.py", "text = 'changed'\n")
    assert held(repository).files.submissions()[0].facts["git_changes"] is True
    ended = repository.end(job)
    assert ended.record["host"] and ended.record["python"].endswith(".".join(map(str, sys.version_info[:3])))


def test_outside_git_there_is_no_commit_in_the_record(sandbox):
    sandbox.write("worker.py", "")
    assert "git_commit" not in sandbox.run("worker.py").job.files.submissions()[0].facts


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
    assert job.facts["snapshot_without"] == ["data.bin"]
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


def test_a_job_waits_for_others_and_never_runs_after_a_failure(sandbox):
    sandbox.write("slow.py", "import os, time\nwhile not os.path.exists('go'): time.sleep(0.05)\nopen('made', 'w')")
    sandbox.write("bad.py", "import sys; sys.exit(2)")
    sandbox.write("worker.py", "open('made'); print('ran')")
    submit = sandbox.grid.submit_script
    slow, bad = submit("slow.py", log_dir="logs"), submit("bad.py", log_dir="logs")
    waits = submit("worker.py", log_dir="logs", after=slow)
    sandbox.end(bad)
    assert not list(waits.folder.glob("1/records/*"))
    sandbox.write("go", "")
    assert sandbox.end(waits).out == "ran\n"
    ended = sandbox.end(submit("worker.py", log_dir="logs", after=[slow, bad]))
    assert ended.code == 1 and f"the job before this one, {bad.folder}, did not succeed" in ended.reason
    assert ended.out == ""
    for wrong in ("123", [slow, 5], object()):
        with pytest.raises(
            sandbox.grid.ArgumentError, match="after must be a Job that was submitted, or a list of them, not"
        ):
            submit("worker.py", after=wrong)


def test_jobs_and_wait(sandbox):
    sandbox.write("worker.py", "import sys, time\nfrom grid import typecast\ntime.sleep(0.5)\nsys.exit(*typecast())")
    jobs = [sandbox.submit("worker.py", [code]) for code in (0, 0, 3, 0)]
    assert [job.id for job in sandbox.grid.jobs()] == [job.id for job in jobs]
    with pytest.raises(sandbox.grid.JobFailed, match=f"job {jobs[2].id} worker is FAILED: exit code 3") as caught:
        sandbox.grid.wait(jobs, timeout=30)
    assert caught.value.job is jobs[2]
    with pytest.raises(sandbox.grid.JobFailed):
        sandbox.grid.wait(job for job in jobs)
    assert [job.state for job in sandbox.grid.jobs()] == ["DONE", "DONE", "FAILED", "DONE"]


def test_the_error_of_a_failed_job_shows_the_end_of_its_log(sandbox):
    sandbox.write("worker.py", "print('one'); [print(n) for n in range(50)]; 1 / 0")
    with pytest.raises(
        sandbox.grid.JobFailed, match=r"(?s)ZeroDivisionError.*; exit code 1. .*\n    47\n.*1 / 0"
    ) as caught:
        sandbox.submit("worker.py").wait(30)
    assert "\n    1\n" not in str(caught.value)


class Shell:
    """`python grid.py` in the folder."""

    def __call__(self, *words, code=0):
        done = subprocess.run([sys.executable, "grid.py", *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == code and "Traceback" not in done.stderr, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def shell(sandbox):
    return Shell()


def test_the_shell_without_jobs(shell):
    assert shell("status") == "this project has no jobs yet\n"
    assert "this project has no jobs yet" in shell("log", code=1)
    assert shell("stop", "all") == ""


def test_the_shell_shows_follows_and_stops(sandbox, shell):
    sandbox.write("worker.py", "import time; print('working'); time.sleep(100)")
    sandbox.write("quick.py", "print('quick'); 1 / 0")
    quick = sandbox.run("quick.py", [0.1, [64, 32]]).job
    job = sandbox.submit("worker.py")
    until(lambda: job.stdout.exists() and job.stdout.read_text(), "it works")
    table = [re.split(r"  +", line) for line in shell("status").splitlines()]
    assert table[0] == ["id", "name", "state", "since", "host", "reason"]
    assert table[1][:3] == [quick.id, "quick", "FAILED"] and table[1][5] == "ZeroDivisionError: division by zero"
    assert table[2][:3] == [job.id, "worker", "RUNNING"]
    assert shell("log") == shell("log", job.id) == shell("log", "wor") == "working\n"
    assert shell("log", "quick", "-f").startswith("quick\nTraceback")
    assert "is FAILED: ZeroDivisionError" in shell("log", "-f", "quick")
    assert "nothing matches no job; jobs are" in shell("show", "nothing", code=1)
    shown = shell("show", quick.id)
    assert "[0.1, [64, 32]]" in shown and '"sha256"' in shown and "ZeroDivisionError" in shown
    assert f"job {job.id} (worker): stop requested" in shell("stop")
    assert sandbox.end(job).code == 143
    assert "CANCELLED  " in shell("status") and "stopped on request" in shell("status")
    assert f"job {job.id} (worker) has ended already: CANCELLED" in shell("stop", job.id)


def test_the_shell_never_guesses_which_job_is_meant(sandbox, shell):
    sandbox.write("worker.py", "")
    ids = [sandbox.run("worker.py", name=name).job.id for name in ("one", "once", "on", "on")]
    assert "on matches several jobs" not in shell("show", "on") and shell("show", "on").startswith(ids[3])
    assert "o matches several jobs; jobs are" in shell("stop", "o", code=1)


def test_a_broken_record_hides_no_other_job(sandbox, shell):
    sandbox.write("worker.py", "")
    first, second = sandbox.run("worker.py").job, sandbox.run("worker.py", name="other").job
    (first.folder / "job.json").write_text("{")
    printed = shell("status")
    assert (
        f"ignoring {first.folder}: its job.json cannot be read: " in printed and f"{second.id}  other  DONE" in printed
    )


def test_the_shell_cleans_what_is_old_and_over(sandbox, shell):
    sandbox.write("worker.py", "")
    sandbox.write("slow.py", "import time; time.sleep(100)")
    done = sandbox.run("worker.py").job
    running = sandbox.submit("slow.py")
    assert shell("clean") == "" and done.folder.exists()
    assert "AGE needs a unit, such as 30d" in shell("clean", "30", code=1)
    assert until(lambda: shell("clean", "1s"), "it is a second old") == f"removed {done.folder}\n"
    assert not done.folder.exists() and running.folder.exists()
    assert "AGE must be seconds, or a text" in shell("clean", "yesterday", code=1)
    running.cancel()
