"""The promise: whoever submits, retries or stops is killed with kill -9 at any moment, no task is lost, none runs twice.

What really happened is known from outside: the submit command writes down what the scheduler took, and each run of a task
leaves a byte in a file of its own, and how it ended in another one.
"""

import random
import subprocess
import sys
import time

import pytest

from sandbox import until
from test_arrays import TAKE_AT_MOST

# ok ends well, fail fails and stay runs, until there is a file called mended: then all end well
WORKER = """
import os, sys, time
from grid import typecast
[how] = typecast()
folder, number, _, task = os.environ["GRID_RECORD"].removesuffix(".running").rsplit("/", 3)
me = f"{os.path.basename(folder)}.{number}.{task}"
with open(f"began/{me}", "a") as file:
    file.write("x")
while how == "stay" and not os.path.exists("mended"):
    time.sleep(0.2)
code = 3 if how == "fail" and not os.path.exists("mended") else 0
open(f"ended/{me}", "w").write(str(code))
sys.exit(code)
"""
ACTIONS = {
    "single": "grid.submit_script('worker.py', ['fail'], log_dir='logs')",
    "array": "grid.submit_array('worker.py', [['ok'], ['fail'], ['stay'], ['ok'], ['fail']], log_dir='logs')",
    "retry": "grid.Job({folder!r}).resubmit()",
    "stop": "grid.Job({folder!r}).cancel()",
}


class Site:
    """Processes that submit, retry and stop, and what is known of their jobs from outside."""

    def __init__(self, sandbox, engine):
        self.sandbox, self.engine = sandbox, engine
        sandbox.write("worker.py", WORKER)
        for name in ("began", "ended"):
            (sandbox.path / name).mkdir()
        # what the scheduler took: the paths of job scripts, a line each. (To print into a dead process would end sbatch.)
        call = f'answer=$(/usr/bin/{engine.submitter} "$@") || exit\nprintf "%s\\n" "${{@: -1}}" >>"$HOME/taken"'
        sandbox.program(engine.submitter, f'{call}\nprintf "%s\\n" "$answer"')

    def start(self, action, folder=None):
        code = TAKE_AT_MOST.format(most=2) + ACTIONS[action].format(folder=str(folder))
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([sys.executable, "-c", code], start_new_session=True, **quiet)

    def duration(self, action, folder=None):
        """How long an action takes when nobody kills it."""
        begin = time.monotonic()
        self.start(action, folder).wait()
        return time.monotonic() - begin

    def taken(self):
        path = self.sandbox.home / "taken"
        return path.read_text().splitlines() if path.exists() else []

    def wrong(self):
        """What a look shows otherwise than it is: a line for each task."""
        live = set(self.engine.scripts())
        taken, found = set(self.taken()), []
        for job in self.sandbox.grid.jobs():
            submissions = job.files.submissions()
            newest = job.files.newest(submissions)
            for task in job.tasks:
                submission, _ = newest.get(task.number, (None, 0))
                stopped = (submission or submissions[-1]).stopped() is not None
                expected = self.expected(job, submission, task.number, taken, live, stopped)
                if task.state not in expected:
                    found.append(
                        f"{job} {task.number} of {submission and submission.path}: {task.status}, not {expected}"
                    )
        return found

    def expected(self, job, submission, task, taken, live, stopped):
        if submission is None or submission.script not in taken:
            return {"CANCELLED"} if stopped else {"FAILED"}
        me = f"{job.folder.name}.{submission.number}.{task}"
        began, ended = (self.sandbox.path / name / me for name in ("began", "ended"))
        if ended.exists() and ended.read_text():
            return {"DONE"} if ended.read_text() == "0" else {"FAILED"}
        if submission.script in live:  # of an array some tasks may be stopped before the others
            return {"RUNNING" if began.exists() else "PENDING"} | ({"CANCELLED"} if stopped else set())
        return {"CANCELLED"} if stopped else set()

    def settle(self, what):
        """Wait until every look is right."""
        try:
            until(lambda: not self.wrong(), what, 120)
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *self.wrong()])) from None


@pytest.mark.parametrize("moments", [20, pytest.param(60, marks=pytest.mark.long)])
def test_kill_9_of_whoever_submits_retries_and_stops_at_any_moment(sandbox, engine, moments):
    site, choice = Site(sandbox, engine), random.Random(moments)
    durations = {action: site.duration(action) for action in ("single", "array")}
    first, second = sandbox.grid.jobs()
    until(lambda: first.state == "FAILED", "there is a task to run again")
    durations |= {"retry": site.duration("retry", first.folder), "stop": site.duration("stop", second.folder)}

    killed = 0
    for number in range(moments):
        action = list(ACTIONS)[number % 4]
        jobs = sandbox.grid.jobs()
        process = site.start(action, choice.choice(jobs[-8:]).folder)
        time.sleep(choice.uniform(0.05, durations[action]))  # the moment is what is tried
        process.kill()
        killed += process.wait() == -9
    assert killed > moments / 2, "most had ended before they were killed"

    site.settle("all states are right after the kills")
    check_none_is_lost_or_doubled(sandbox, engine, site)
    sandbox.write("mended", "")
    jobs = sandbox.grid.jobs()
    until(lambda: all(job.state not in ("PENDING", "RUNNING") for job in jobs), "what was submitted has ended", 120)
    site.settle("all states are right at the end")
    for job in jobs:
        if job.state != "DONE":
            job.resubmit()
    sandbox.grid.wait(jobs, 120)
    check_none_is_lost_or_doubled(sandbox, engine, site)
    for job in jobs:
        well = [path.name.split(".")[0] for path in job.folder.glob("*/records/*.exit-0")]
        assert sorted(map(int, well)) == list(range(1, len(job) + 1)), "a task that did well ran once more"


def check_none_is_lost_or_doubled(sandbox, engine, site):
    taken, jobs = site.taken(), sandbox.grid.jobs()
    assert len(taken) == len(set(taken)), "something was submitted twice"
    known = {submission.script for job in jobs for submission in job.files.submissions() if submission.id}
    assert set(taken) == known, "the scheduler took what nobody knows, or an id stands for nothing"
    ours = {script for script in engine.scripts() if script.startswith(str(sandbox.path))}
    assert ours <= known, "there is a job in the queue that nobody knows"
    runs = {path.name: path.read_text() for path in sandbox.path.glob("began/*")}
    assert set(runs.values()) <= {"x"}, f"tasks ran twice: {[name for name in runs if runs[name] != 'x']}"


@pytest.mark.parametrize("wrote", ["nothing", "tasks"])
def test_a_retry_that_was_killed_at_its_very_beginning_hinders_no_other(sandbox, wrote):
    sandbox.write("worker.py", "import os, sys; sys.exit(0 if os.path.exists('mended') else 3)")
    job = sandbox.submit()
    until(lambda: job.state == "FAILED", "it has failed")
    (job.folder / "2").mkdir()
    if wrote == "tasks":
        (job.folder / "2" / "tasks").write_text("1\n")
        until(lambda: job.state == "FAILED", "it is no longer seen as being submitted")
        assert job.reason == "never submitted: the submission was interrupted"
    sandbox.write("mended", "")
    job.resubmit().wait(60)
    assert [path.name for path in sorted(job.folder.glob("[0-9]*"))] == ["1", "2", "3"]
