"""The promise: many tasks are one job, however many submissions it takes, and only what failed runs again."""

import collections
import errno
import json
import os
import re
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import room, until

# Task k fails in a way of its own if its argument says so.
WORKER = """
import os, sys
from grid import typecast
number, how = typecast()
print("task", number, how)
if how == "code": sys.exit(3)
if how == "raise": raise ValueError(f"bad {number}")
if how == "kill": os.kill(os.getpid(), 9)
if how == "once" and not os.path.exists(f"seen-{number}"): open(f"seen-{number}", "w"); sys.exit(1)
"""


@pytest.fixture
def sandbox(sandbox):
    """A Sandbox with this worker."""
    sandbox.write("worker.py", WORKER)
    return sandbox


@pytest.fixture
def site(site):
    """A Sandbox with a fake Grid Engine; site.default(number) is how many tasks it takes unless the site says otherwise."""

    def default(number):
        room("schedulers").GridEngine.default_max_tasks = number

    site.default = default
    return site


def submit(sandbox, tasks, **keywords):
    return sandbox.grid.submit_array("worker.py", tasks, log_dir="logs", **keywords)


def numbered(count):
    return [[number, "x"] for number in range(1, count + 1)]


def finish(job):
    """Wait for the records of all tasks, and then for the job: so that no test sleeps for a second."""

    def ended():
        newest = job.files.newest(job.files.submissions())
        return len(newest) == len(job) and all(
            "exit" in one.records().get(task, {}) for task, (one, _) in newest.items()
        )

    until(ended, f"all tasks of {job} have ended")
    return job.wait(10)


def fail(sandbox, job, words=None):
    """Wait for the end of a job that is not DONE."""
    with pytest.raises(sandbox.grid.JobFailed, match=words) as caught:
        finish(job)
    return caught.value


def calls(site):
    """The options of each call of qsub, without those that are always there."""
    return [" ".join(words[words.index("-N") + 2 : -1]) for words in site.engine.calls("qsub")]


def tasks_of(job):
    """The tasks of each submission."""
    return [
        [int(line) for line in (job.folder / f"{one.number}/tasks").read_text().split()]
        for one in job.files.submissions()
    ]


# --- Tasks run --------------------------------------------------------------------------------------------------------


def test_every_task_gets_its_own_arguments_and_its_own_log(sandbox):
    tasks = [[number, f'it\'s "{number}"\n$HOME'] for number in range(1, 8)] + [[8.5, None]]
    job = finish(submit(sandbox, tasks))
    assert (len(job), job.state, job.exit_code, job.counts["DONE"]) == (8, "DONE", 0, 8)
    assert [task.args for task in job.tasks] == tasks
    for task, args in zip(job.tasks, tasks, strict=True):
        assert task.log() == f"task {args[0]} {args[1]}\n" and task.stdout.name == f"worker.o{job.id}.{task.number}"
    assert {path.parent for path in sandbox.path.glob("logs/*/*")} == {job.log_dir}


def test_the_failed_are_told_with_their_reasons_and_only_they_run_again(sandbox):
    tasks = [[number, {2: "code", 3: "raise", 5: "kill", 6: "once"}.get(number, "well")] for number in range(1, 8)]
    job = submit(sandbox, tasks)
    error = fail(sandbox, job, r"4 failed: 2-3,5-6; exit code 3. Task 2: exit code 3")
    assert error.job is job and "task 2 code" in str(error)
    ends = [(task.state, task.exit_code, task.reason) for task in job.tasks]
    killed = ("FAILED", 137, "killed by SIGKILL, as the system does when memory runs out")
    assert ends == [
        ("DONE", 0, ""),
        ("FAILED", 3, "exit code 3"),
        ("FAILED", 1, "ValueError: bad 3"),
        ("DONE", 0, ""),
        killed,
        ("FAILED", 1, "exit code 1"),
        ("DONE", 0, ""),
    ]
    first = job.id
    assert job.resubmit(memory="3G") is job
    assert job.files.submissions()[1].facts["resources"]["memory"] == 3 * 1024**3
    fail(sandbox, job, "4 done, 3 failed: 2-3,5")
    assert job.counts["DONE"] == 4 and job.tasks[5].state == "DONE" and job.id == first and len(job.ids) == 2
    records = sorted(str(path.relative_to(job.folder)) for path in job.folder.glob("*/records/6.*"))
    assert records == ["1/records/6.exit-1", "2/records/6.exit-0"]
    assert len(list(job.folder.glob("2/records/*"))) == 4, "others than the failed ran again"
    assert [len(list(job.log_dir.glob(f"*.o*.{number}"))) for number in range(1, 8)] == [1, 2, 2, 1, 2, 2, 1]
    again = sandbox.grid.Job(job.folder)  # a new process knows the same
    assert [task.state for task in again.tasks] == [task.state for task in job.tasks] and again.reason == job.reason


def test_nothing_failed_is_nothing_to_run_again(sandbox):
    job = finish(submit(sandbox, [[1, "well"], [2, "well"]]))
    with pytest.raises(sandbox.grid.GridError, match="has no failed tasks: all 2 tasks done"):
        job.resubmit()
    assert finish(job.resubmit(failed=False)).state == "DONE" and len(list(job.folder.glob("*/records/*"))) == 4


def test_a_single_job_runs_again_as_well(sandbox):
    job = sandbox.submit(args=[1, "once"])
    fail(sandbox, job)
    assert finish(job.resubmit()).state == "DONE" and job.stdout.name == f"worker.o{job.ids[1]}"


def test_tasks_come_as_they_end_each_once(sandbox):
    job = submit(sandbox, [[number, "code" if number == 3 else "well"] for number in range(1, 6)], max_running=2)
    came = [(task.number, task.state) for task in job.as_completed(60)]
    assert sorted(came) == [(1, "DONE"), (2, "DONE"), (3, "FAILED"), (4, "DONE"), (5, "DONE")]
    counts = list(job.watch(60))
    assert counts[-1] == {"PENDING": 0, "RUNNING": 0, "DONE": 4, "FAILED": 1, "CANCELLED": 0}


def test_no_more_run_at_a_time_than_was_said(sandbox):
    text = "import os, time\nfrom grid import typecast\nopen(f'run-{typecast()[0]}', 'w')\n"
    text += "n = len([f for f in os.listdir('.') if f.startswith('run-')])\nprint(n)\ntime.sleep(0.2)\n"
    sandbox.write("worker.py", text + "os.remove(f'run-{typecast()[0]}')")
    job = finish(submit(sandbox, [[number] for number in range(6)], max_running=2))
    assert {int(task.log()) for task in job.tasks} <= {1, 2}


def test_an_array_is_stopped_as_a_whole(sandbox):
    code = "import os, sys, time\nif sys.argv[1] == '1': sys.exit(3)\nopen('ran', 'w')\ntime.sleep(100)"
    sandbox.write("worker.py", code)
    job = submit(sandbox, [[1], [2], [3]], max_running=1)
    until(lambda: os.path.exists("ran"), "the second task runs")
    job.cancel()
    with pytest.raises(sandbox.grid.JobFailed):
        job.wait(60)
    assert [task.state for task in job.tasks] == ["FAILED", "CANCELLED", "CANCELLED"], "the first had failed by itself"
    assert job.tasks[2].reason == "stopped on request before it began"


def test_a_job_after_an_array_needs_all_its_tasks(sandbox):
    good, bad = (submit(sandbox, [[1, how], [2, "well"]]) for how in ("well", "code"))
    after_good, after_bad = (submit(sandbox, [[9, "well"]], after=job) for job in (good, bad))
    assert finish(after_good).state == "DONE"
    fail(sandbox, after_bad, f"the job before this one, {re.escape(str(bad.folder))}, did not succeed")


def test_a_submission_makes_no_file_for_a_task(site):
    few, many = (submit(site, [[1, "x"]] * number) for number in (2, 5000))
    names = [sorted(path.name for path in job.folder.rglob("*")) for job in (few, many)]
    assert names[0] == names[1] and len(calls(site)) == 2


# --- As few submissions as the site takes -----------------------------------------------------------------------------


def test_more_tasks_than_the_site_takes_go_in_as_few_submissions_one_after_the_other(site):
    site.engine.limit("max_aj_tasks", 4)
    site.default(4)
    job = submit(site, numbered(10), max_running=3)
    assert calls(site) == ["-t 1-4 -tc 3", "-hold_jid 101 -t 1-4 -tc 3", "-hold_jid 102 -t 1-2 -tc 3"]
    assert (len(job), job.id, job.ids) == (10, "101", ["101", "102", "103"])
    assert tasks_of(job) == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert submit(site, [[1, "x"]] * 8).ids == ["104", "105"]
    assert calls(site)[3:] == ["-t 1-4", "-t 1-4"], "without max_running they need not wait for each other"


@pytest.mark.parametrize("told", [True, False])
def test_a_limit_that_only_shows_when_submitting_is_kept_to(site, told):
    site.engine.limit("max_aj_tasks", 10)
    if not told:
        site.engine.refuse("qconf", "denied")
    job = submit(site, numbered(25))
    assert sum(tasks_of(job), []) == list(range(1, 26)), "a task is lost, or is there twice"
    assert [len(tasks) for tasks in tasks_of(job)] == ([10, 10, 5] if told else [6, 6, 6, 6, 1])


def test_of_more_jobs_than_a_user_may_have_the_rest_is_not_lost(site):
    site.engine.limit("max_u_jobs", 1)
    site.engine.limit("max_aj_tasks", 4)
    site.default(4)
    site.limits.grace = 60
    partial = r"(?s)4 of 6 tasks are submitted, as job 101 \(worker\); .*allowed.*retry 101"
    with pytest.raises(site.grid.SubmitError, match=partial) as caught:
        submit(site, numbered(6))
    [job] = site.grid.jobs()
    assert caught.value.job.folder == job.folder
    site.engine.limit("max_u_jobs", 10)
    # at once, though for some seconds a status still says that they are on the way
    assert job.counts == {"PENDING": 6, "RUNNING": 0, "DONE": 0, "FAILED": 0, "CANCELLED": 0}
    site.limits.grace = 0
    assert job.counts == {"PENDING": 4, "RUNNING": 0, "DONE": 0, "FAILED": 2, "CANCELLED": 0}
    assert "never submitted" in job.tasks[4].reason
    site.limits.grace = 60
    assert (job.resubmit().ids, tasks_of(job)) == (["101", "102"], [[1, 2, 3, 4], [5, 6]])


def test_a_disk_that_is_full_for_the_second_submission_does_not_lose_the_first(site):
    site.engine.limit("max_aj_tasks", 4)
    site.default(4)
    write = room("project").write_whole

    def full(path, text):
        if str(path).endswith("2/tasks"):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, text)

    room("project").write_whole = full
    with pytest.raises(site.grid.SubmitError, match="(?s)4 of 6 tasks are submitted.*No space left"):
        submit(site, numbered(6))
    assert site.grid.jobs()[0].ids == ["101"]


def test_a_refused_array_leaves_nothing(site):
    site.engine.refuse("qsub", 'Unable to run job: unknown resource "mem"')
    with pytest.raises(site.grid.SubmitError, match="unknown resource"):
        submit(site, numbered(3))
    assert site.jobs() == []


def test_a_submission_killed_between_two_calls_loses_nothing(sandbox):
    code = """
import grid, os
from gridlib import dispatch
from gridlib.schedulers import Background
Background.default_max_tasks = 2
call = dispatch.submit_exactly_once
def die(engine, job, submission, *more):
    if submission.number == 2: os.kill(os.getpid(), 9)
    return call(engine, job, submission, *more)
dispatch.submit_exactly_once = die
grid.submit_array('worker.py', [[n, 'well'] for n in range(1, 6)], log_dir='logs')
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    [job] = sandbox.grid.jobs()
    sandbox.limits.grace = 0
    until(lambda: job.state == "FAILED", "it is known that the rest was not submitted")
    assert [task.state for task in job.tasks] == ["DONE", "DONE", "FAILED", "FAILED", "FAILED"]
    assert job.tasks[4].reason == "never submitted: the submission was interrupted"
    assert finish(job.resubmit()).state == "DONE"
    ran = collections.Counter(path.name.split(".")[0] for path in job.folder.glob("*/records/*.exit-0"))
    assert ran == {str(number): 1 for number in range(1, 6)}, "a task ran twice, or never"


def test_a_status_that_finds_an_id_does_not_undo_what_the_submission_writes_meanwhile(site):
    site.engine.limit("max_aj_tasks", 4)
    site.default(4)
    job = submit(site, numbered(6))
    path = job.folder / "1/submission.json"
    whole = path.read_text()
    # another process has read it when there was only the first submission, still without an id
    path.write_text(json.dumps(json.loads(whole) | {"id": None}))
    stale = room("submission").Submission(str(job.folder / "1"))
    path.write_text(whole)
    stale.save_id("101")
    assert json.loads(path.read_text()) == json.loads(whole) and site.grid.Job(job.folder).ids == ["101", "102"]


# --- Retries ----------------------------------------------------------------------------------------------------------


def test_in_the_background_a_retry_waits_for_its_turn_as_well(sandbox):
    sandbox.write(
        "worker.py",
        "import os, sys, time\nif sys.argv[1] == '1' and not os.path.exists('once'): open('once', 'w'); sys.exit(3)\n"
        "open('runs', 'x')\nwhile not os.path.exists('go'): time.sleep(0.02)\nos.remove('runs')",
    )
    job = submit(sandbox, [[1], [2]], max_running=1)
    until(lambda: os.path.exists("runs"), "the second task runs")
    job.resubmit()
    background = room("schedulers").scheduler("background")
    until(lambda: job.ids[1] in background.queue(), "the retry is there")
    time.sleep(0.3)  # if it did not wait, it would fail now
    sandbox.write("go", "")
    assert [task.state for task in finish(job).tasks] == ["DONE", "DONE"]


def test_what_counts_for_the_next_job_is_how_the_newest_run_of_a_task_ended(sandbox):
    sandbox.write("worker.py", "import os, sys; sys.exit(os.path.exists('bad'))")
    before = finish(submit(sandbox, [[1], [2]]))
    sandbox.write("bad", "")
    fail(sandbox, before.resubmit(failed=False))
    (sandbox.path / "bad").unlink()
    fail(sandbox, submit(sandbox, [[3]], after=before), "the job before this one, .*, did not succeed")
    finish(before.resubmit())
    assert finish(submit(sandbox, [[3]], after=before)).state == "DONE"


def test_a_refused_retry_leaves_the_job_as_it_was(sandbox):
    job = submit(sandbox, [[1, "code"], [2, "well"]])
    fail(sandbox, job)
    before = sorted(job.folder.rglob("*"))
    with pytest.raises(sandbox.grid.ArgumentError, match="memory must be a number with a unit .*, not 'lots'"):
        job.resubmit(memory="lots")
    with pytest.raises(sandbox.grid.ArgumentError, match="memry"):
        job.resubmit(memry="1G")
    assert before == sorted(job.folder.rglob("*"))


def test_a_job_after_one_that_runs_again_waits_for_its_new_end(sandbox):
    sandbox.write("worker.py", "import os, sys, time; time.sleep(0.2); sys.exit(not os.path.exists('good'))")
    job = submit(sandbox, [[n] for n in range(4)], max_running=1)
    fail(sandbox, job)
    sandbox.write("good", "")
    after = submit(sandbox, [[7]], after=job.resubmit())
    assert finish(after).state == job.state == "DONE"


def test_a_script_that_is_gone_cannot_run_again(sandbox):
    job = submit(sandbox, [[1, "code"]])
    fail(sandbox, job)
    os.remove("worker.py")
    with pytest.raises(sandbox.grid.ArgumentError, match="no such script: .*worker.py"):
        job.resubmit()
    assert len(job.ids) == 1 and job.state == "FAILED"


def test_a_retry_of_a_snapshot_runs_the_snapshot_and_says_nothing_of_a_change(sandbox):
    job = submit(sandbox, [[1, "once"]], snapshot=True)
    fail(sandbox, job)
    os.remove("worker.py")
    assert finish(job.resubmit()).state == "DONE" and job.tasks[0].log() == "task 1 once\n"


def test_each_submission_is_compared_with_the_script_that_it_was_submitted_with(sandbox):
    code = "import os, sys, time\nwhile sys.argv[1] == 'slow' and not os.path.exists('go'): time.sleep(0.02)\n"
    sandbox.write("worker.py", code + "sys.exit(3 * (sys.argv[1] == 'bad'))")
    job = submit(sandbox, [["bad"], ["slow"], ["late"]], max_running=1)
    until((job.folder / "1/records/2.running").exists, "the second task runs")
    sandbox.write("worker.py", code)
    job.resubmit()  # of the first one, which waits for the end of the others
    sandbox.write("go", "")
    finish(job)
    assert "changed" not in job.tasks[0].log(), "it was submitted with the script as it is now"
    assert "worker.py has changed since the job was submitted" in job.tasks[2].log()


# --- States of many tasks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [3, 3000])
def test_one_question_for_all_tasks(site, number):
    """However many tasks: the scheduler is asked once for each look."""
    job = submit(site, [[1, "x"]] * number)
    assert job.counts["PENDING"] == number and len(site.engine.calls("qstat")) == 1
    assert {task.state for task in job.tasks} == {"PENDING"} and len(site.engine.calls("qstat")) == 2


def test_one_question_for_all_jobs(site):
    for _ in range(5):
        submit(site, numbered(2))
    jobs = [job.files for job in site.grid.jobs()]
    assert {status.state for status in room("polling").poll(jobs)} == {"PENDING"}
    assert len(site.engine.calls("qstat")) == 1


def test_tasks_of_one_array_are_told_apart_in_the_queue(site):
    job = submit(site, numbered(5))
    site.engine.set_rows("101", ("r", "1"), ("Eqw", "2"), ("qw", "3-5:1"))
    assert [task.state for task in job.tasks] == ["RUNNING", "FAILED", "PENDING", "PENDING", "PENDING"]


def test_tasks_that_vanish_are_told_apart_by_one_look_into_the_accounting(site):
    job = submit(site, numbered(4))
    for index, failed, code in ((1, 0, 0), (2, 37, 137), (4, 0, 5)):
        site.engine.account("101", index, failed, code)
    site.engine.forget("101")
    site.limits.grace = 0
    ends = [(task.state, task.reason) for task in job.tasks]
    assert ends[0] == ("DONE", "according to the accounting")
    assert ends[1] == ("FAILED", "killed by Grid Engine: over a limit of time or memory (h_rt, h_cpu, h_vmem)")
    assert ends[2][0] == "FAILED" and ends[2][1].startswith("vanished")
    assert ends[3] == ("FAILED", "Grid Engine's accounting: failed 0, exit code 5")
    assert site.grid.Job(job.folder).counts["FAILED"] == 3 and len(site.engine.calls("qacct")) == 1


def test_a_record_that_a_child_of_the_script_writes_too_late_is_no_running_job(sandbox):
    before = finish(submit(sandbox, [[1, "well"]]))
    (before.folder / "1/records/1.running").write_text("reason: late\n")
    assert before.state == "DONE" and finish(submit(sandbox, [[2, "well"]], after=before)).state == "DONE"


# --- By hand, and without submitting ----------------------------------------------------------------------------------


def test_by_hand_a_task_is_called_by_its_number(sandbox):
    job = submit(sandbox, [[1, "once"], [2, "well"], [3, "once"]])
    fail(sandbox, job)
    finish(job.resubmit())
    done = subprocess.run(["bash", job.folder / "2/job.sh", "3"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "task 3 once\n")


def test_a_dry_run_shows_what_would_be_submitted(site, capsys):
    site.default(40)
    job = submit(site, numbered(100), dry_run=True, max_running=2)
    printed = capsys.readouterr().out
    assert "-t 1-40 -tc 2" in printed and '[20, "x"]\n# ... and 80 more lines' in printed
    assert "The 100 tasks are several submissions of 40" in printed
    assert job.id is None and site.jobs() == [] and calls(site) == []


@pytest.mark.parametrize(
    "tasks, keywords, message",
    [
        ([], {}, "tasks must be a list with the list of arguments of each task"),
        (5, {}, "tasks must be a list with the list of arguments of each task"),
        ([[1], 2], {}, "task 2: args must be a list of arguments"),
        (
            [[1]] * 4710 + [[1, [object]]],
            {},
            "task 4711: argument 2 holds <class 'object'> of type builtins.type, which",
        ),
        ([[1]], {"max_running": 0}, "max_running must be a whole number, 1 or more, not 0"),
        ([[1]], {"max_runing": 2}, "max_runing"),
        ([[1]], {"memory": "2"}, "memory must be a number with a unit"),
    ],
)
def test_a_bad_array_is_refused_before_anything_is_done(site, tasks, keywords, message):
    kind = TypeError if "max_runing" in keywords else site.grid.ArgumentError
    with pytest.raises(kind, match=re.escape(message)):
        submit(site, tasks, **keywords)
    assert site.jobs() == [] and calls(site) == []


def test_tasks_of_different_lengths_are_allowed(sandbox):
    sandbox.write("worker.py", "from grid import typecast; print(typecast())")
    job = finish(submit(sandbox, [[], [1, 2, 3], ["x"]]))
    assert [task.log() for task in job.tasks] == ["[]\n", "[1, 2, 3]\n", "['x']\n"]


# --- Numbers ----------------------------------------------------------------------------------------------------------


def test_numbers_are_read_as_they_are_written(grid):
    @given(st.sets(st.integers(0, 10_000)))
    def check(numbers):
        assert room("project").parse_ranges(room("project").format_ranges(numbers)) == sorted(numbers)

    check()


@pytest.mark.parametrize(
    "text, numbers",
    [("3,5-9", [3, 5, 6, 7, 8, 9]), ("20-30:5%2", [20, 25, 30]), ("4-6:1,9", [4, 5, 6, 9]), ("7", [7]), ("", [])],
)
def test_the_indexes_that_schedulers_write_are_understood(grid, text, numbers):
    assert room("project").parse_ranges(text) == numbers
