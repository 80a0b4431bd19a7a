"""The promise: many tasks are one job, however many submissions it takes, and only what failed runs again."""

import collections
import os
import random
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
QSUB = 'echo "$@" >>calls; n=$(wc -l <calls); echo "$((100 + n)).1-5:1"'


@pytest.fixture
def worker(folder):
    return folder.write("worker.py", WORKER)


@pytest.fixture
def site(folder, worker):
    """A Grid Engine that takes whatever comes; calls has a line for each qsub."""
    folder.program("qsub", QSUB)
    folder.program("qconf", "exit 1")
    folder.write("calls", "")
    return folder


def submit(folder, tasks, **keywords):
    return folder.grid.submit_array("worker.py", tasks, log_dir="logs", **keywords)


def calls(folder):
    """The options of each call of qsub, without those that are always there."""
    return [line.split(" -N worker ")[1].split(" /")[0] for line in (folder.path / "calls").read_text().splitlines()]


def test_every_task_gets_its_own_arguments_and_its_own_log(folder, worker):
    tasks = [[number, f'it\'s "{number}"\n$HOME'] for number in range(1, 8)] + [[8.5, None]]
    job = submit(folder, tasks).wait(60)
    assert (len(job), job.state, job.exit_code, job.counts["DONE"]) == (8, "DONE", 0, 8)
    assert [task.args for task in job.tasks] == tasks
    for task, args in zip(job.tasks, tasks):
        assert task.log() == f"task {args[0]} {args[1]}\n" and task.stdout.name == f"worker.o{job.id}.{task.number}"
    assert {path.parent for path in folder.path.glob("logs/*/*")} == {job.log_dir}


def test_the_failed_are_told_with_their_reasons_and_only_they_run_again(folder, worker):
    tasks = [[number, {2: "code", 3: "raise", 5: "kill", 6: "once"}.get(number, "well")] for number in range(1, 8)]
    job = submit(folder, tasks)
    with pytest.raises(folder.grid.JobFailed, match=r"4 failed: 2-3,5-6; exit code 3. Task 2: exit code 3") as caught:
        job.wait(60)
    assert caught.value.job is job and "task 2 code" in str(caught.value)
    ends = [(task.state, task.exit_code, task.reason) for task in job.tasks]
    killed = ("FAILED", 137, "killed by SIGKILL, as the system does when memory runs out")
    assert ends == [
        *(("DONE", 0, ""), ("FAILED", 3, "exit code 3"), ("FAILED", 1, "ValueError: bad 3"), ("DONE", 0, "")),
        *(killed, ("FAILED", 1, "exit code 1"), ("DONE", 0, "")),
    ]
    first = job.id
    assert job.resubmit(memory="3G") is job and job.record["retries"][0]["request"]["memory"] == 3 * 1024**3
    with pytest.raises(folder.grid.JobFailed, match="4 done, 3 failed: 2-3,5|5 done, 3 failed: 2-3,5"):
        job.wait(60)
    assert job.counts["DONE"] == 4 and job.tasks[5].state == "DONE" and job.id == first and len(job.ids) == 2
    assert sorted(path.name for path in job.folder.glob("records/6.*")) == ["6.1.exit-1", "6.2.exit-0"]
    assert len(list(job.folder.glob("records/*.2.*"))) == 4, "others than the failed ran again"
    assert [len(list(job.log_dir.glob(f"*.o*.{number}"))) for number in range(1, 8)] == [1, 2, 2, 1, 2, 2, 1]
    again = folder.grid.Job(job.folder)  # a new process knows the same
    assert [task.state for task in again.tasks] == [task.state for task in job.tasks] and again.reason == job.reason


def test_nothing_failed_is_nothing_to_run_again(folder, worker):
    job = submit(folder, [[1, "well"], [2, "well"]]).wait(60)
    with pytest.raises(folder.grid.GridError, match="no task to run again: all 2 tasks done"):
        job.resubmit()
    assert job.resubmit(failed=False).wait(60).state == "DONE" and len(list(job.folder.glob("records/*"))) == 4


def test_a_single_job_runs_again_as_well(folder, worker):
    job = folder.grid.submit_script("worker.py", [1, "once"], log_dir="logs")
    with pytest.raises(folder.grid.JobFailed):
        job.wait(60)
    assert job.resubmit().wait(60).state == "DONE" and job.stdout.name == f"worker.o{job.ids[1]}"


def test_tasks_come_as_they_end_each_once(folder, worker):
    job = submit(folder, [[number, "code" if number == 3 else "well"] for number in range(1, 6)], max_running=2)
    came = [(task.number, task.state) for task in job.as_completed(60)]
    assert sorted(came) == [(1, "DONE"), (2, "DONE"), (3, "FAILED"), (4, "DONE"), (5, "DONE")]
    counts = list(job.watch(60))
    assert counts[-1] == {"PENDING": 0, "RUNNING": 0, "DONE": 4, "FAILED": 1, "CANCELLED": 0}


def test_no_more_run_at_a_time_than_was_said(folder):
    text = "import os, time\nfrom grid import typecast\nopen(f'run-{typecast()[0]}', 'w')\n"
    text += "n = len([f for f in os.listdir('.') if f.startswith('run-')])\nprint(n)\ntime.sleep(0.2)\n"
    folder.write("worker.py", text + "os.remove(f'run-{typecast()[0]}')")
    job = submit(folder, [[number] for number in range(6)], max_running=2).wait(60)
    assert {int(task.log()) for task in job.tasks} <= {1, 2}


def test_an_array_is_stopped_as_a_whole(folder):
    folder.write(
        "worker.py", "import os, sys, time\nif sys.argv[1] == '1': sys.exit(3)\nopen('ran', 'w')\ntime.sleep(100)"
    )
    job = submit(folder, [[1], [2], [3]], max_running=1)
    folder.wait_until(lambda: os.path.exists("ran"), "the second task runs")
    job.cancel()
    with pytest.raises(folder.grid.JobFailed):
        job.wait(60)
    assert [task.state for task in job.tasks] == ["FAILED", "CANCELLED", "CANCELLED"], "the first had failed by itself"
    assert job.tasks[2].reason == "stopped on request before it began"


def test_a_job_after_an_array_needs_all_its_tasks(folder, worker):
    good, bad = (submit(folder, [[1, how], [2, "well"]]) for how in ("well", "code"))
    after_good, after_bad = (submit(folder, [[9, "well"]], after=job) for job in (good, bad))
    assert after_good.wait(60).state == "DONE"
    with pytest.raises(folder.grid.JobFailed, match=f"job {bad.id}, on which this one waits, did not succeed"):
        after_bad.wait(60)


def test_a_submission_makes_no_file_for_a_task(site):
    few, many = (submit(site, [[1, "x"]] * number, scheduler="gridengine") for number in (2, 5000))
    names = [sorted(path.name for path in job.folder.rglob("*")) for job in (few, many)]
    assert names[0] == names[1] and len(calls(site)) == 2


def test_more_tasks_than_the_site_takes_go_in_as_few_pieces_one_after_the_other(site):
    site.program("qconf", "echo 'max_aj_tasks   4'")
    site.grid._GridEngine.usual_most = 4
    job = submit(site, [[number, "x"] for number in range(1, 11)], scheduler="gridengine", max_running=3)
    assert calls(site) == ["-t 1-4 -tc 3", "-hold_jid 101 -t 1-4 -tc 3", "-hold_jid 102 -t 1-2 -tc 3"]
    assert (len(job), job.id, job.ids) == (10, "101", ["101", "102", "103"])
    assert [(job.folder / f"job{end}.map").read_text() for end in ("", "-2", "-3")] == [
        "1\n2\n3\n4\n",
        "5\n6\n7\n8\n",
        "9\n10\n",
    ]
    assert submit(site, [[1, "x"]] * 8, scheduler="gridengine").ids == ["104", "105"]
    assert calls(site)[3:] == ["-t 1-4", "-t 1-4"], "without max_running the pieces need not wait for each other"


@pytest.mark.parametrize("qconf", ["echo 'max_aj_tasks 10'", "exit 1"])
def test_a_limit_that_only_shows_when_submitting_is_kept_to(site, qconf):
    site.program("qconf", qconf)
    refuse = 'Unable to run job: job rejected: the requested array has more than "10" tasks'
    site.program(
        "qsub", f"[ ${{@: -2:1}} != 1-25 ] && [ ${{@: -2:1}} != 1-12 ] || {{ echo '{refuse}' >&2; exit 1; }}; {QSUB}"
    )
    job = submit(site, [[number, "x"] for number in range(25)], scheduler="gridengine")
    maps = [[int(line) for line in (job.folder / piece["map"]).read_text().split()] for piece in job.record["pieces"]]
    assert sum(maps, []) == list(range(1, 26)), "a task is lost, or is there twice"
    assert [len(tasks) for tasks in maps] == ([10, 10, 5] if "10" in qconf else [6, 6, 6, 6, 1])


def test_of_more_jobs_than_a_user_may_have_the_rest_is_not_lost(site):
    site.program(
        "qsub", f"[ $(wc -l <calls) -lt 1 ] || {{ echo 'only 1 jobs are allowed per user' >&2; exit 25; }}; {QSUB}"
    )
    site.program("qconf", "exit 1")
    site.grid._GridEngine.usual_most = 4
    partial = "(?s)4 of 6 tasks are submitted, as <Job 101 .*allowed.*retry 101"
    with pytest.raises(site.grid.SubmitError, match=partial) as caught:
        submit(site, [[number, "x"] for number in range(1, 7)], scheduler="gridengine")
    [job] = site.grid.jobs()
    assert caught.value.job.folder == job.folder
    line = "<job_list><JB_job_number>101</JB_job_number><state>qw</state><tasks>1-4:1</tasks></job_list>"
    site.program("qstat", f"echo '<job_info><queue_info>{line}</queue_info></job_info>'")
    site.program("qsub", QSUB)
    # at once, though for some seconds a status still says that they are on the way
    assert job.counts == {"PENDING": 6, "RUNNING": 0, "DONE": 0, "FAILED": 0, "CANCELLED": 0}
    site.grid.GRACE = 0
    assert job.counts == {"PENDING": 4, "RUNNING": 0, "DONE": 0, "FAILED": 2, "CANCELLED": 0}
    assert "never reached the scheduler" in job.tasks[4].reason
    site.grid.GRACE = 5
    assert (job.resubmit().ids, (job.folder / "job-2.map").read_text()) == (["101", "102"], "5\n6\n")


def test_in_the_background_a_retry_waits_for_its_turn_as_well(folder):
    folder.write(
        "worker.py",
        "import os, sys, time\nif sys.argv[1] == '1' and not os.path.exists('once'): open('once', 'w'); sys.exit(3)\n"
        "open('runs', 'x')\ntime.sleep(2)\nos.remove('runs')",
    )
    job = submit(folder, [[1], [2]], max_running=1)
    folder.wait_until(lambda: os.path.exists("runs"), "the second task runs")
    job.resubmit().wait(60)
    assert [task.state for task in job.tasks] == ["DONE", "DONE"]


def test_what_counts_for_the_next_job_is_how_the_newest_attempt_ended(folder):
    folder.write("worker.py", "import os, sys; sys.exit(os.path.exists('bad'))")
    before = submit(folder, [[1], [2]]).wait(60)
    folder.write("bad", "")
    with pytest.raises(folder.grid.JobFailed):
        before.resubmit(failed=False).wait(60)
    (folder.path / "bad").unlink()
    with pytest.raises(folder.grid.JobFailed, match="on which this one waits, did not succeed"):
        submit(folder, [[3]], after=before).wait(60)
    before.resubmit().wait(60)
    assert submit(folder, [[3]], after=before).wait(60).state == "DONE"


def test_a_disk_that_is_full_for_the_second_piece_does_not_lose_the_first(site):
    site.grid._GridEngine.usual_most = 4
    save = site.grid._save

    def full(path, text):
        if str(path).endswith("job-2.map"):
            raise OSError("No space left on device")
        save(path, text)

    site.grid._save = full
    with pytest.raises(site.grid.SubmitError, match="(?s)4 of 6 tasks are submitted.*No space left"):
        submit(site, [[number, "x"] for number in range(1, 7)], scheduler="gridengine")
    assert site.grid.jobs()[0].ids == ["101"]


def test_a_refused_array_leaves_nothing(site):
    site.program("qsub", "echo 'Unable to run job: unknown resource \"mem\"' >&2; exit 1")
    with pytest.raises(site.grid.SubmitError, match="unknown resource"):
        submit(site, [[1, "x"]] * 3, scheduler="gridengine")
    assert site.jobs() == []


def test_a_refused_retry_leaves_the_job_as_it_was(folder, worker):
    job = submit(folder, [[1, "code"], [2, "well"]])
    with pytest.raises(folder.grid.JobFailed):
        job.wait(60)
    before = job.record["pieces"].copy(), sorted(job.folder.rglob("*"))
    with pytest.raises(folder.grid.ArgumentError, match="memory is 'lots'"):
        job.resubmit(memory="lots")
    with pytest.raises(folder.grid.ArgumentError, match="resubmit takes no argument 'memry'; did you mean 'memory'"):
        job.resubmit(memry="1G")
    assert before == (folder.grid.Job(job.folder).record["pieces"], sorted(job.folder.rglob("*")))


def test_a_job_after_one_that_runs_again_waits_for_its_new_end(folder):
    folder.write("worker.py", "import os, sys, time; time.sleep(0.2); sys.exit(not os.path.exists('good'))")
    job = submit(folder, [[n] for n in range(6)], max_running=1)
    with pytest.raises(folder.grid.JobFailed):
        job.wait(60)
    folder.write("good", "")
    after = submit(folder, [[7]], after=job.resubmit())
    assert after.wait(60).state == job.state == "DONE"


def test_a_script_that_is_gone_cannot_run_again(folder, worker):
    job = submit(folder, [[1, "code"]])
    with pytest.raises(folder.grid.JobFailed):
        job.wait(60)
    os.remove("worker.py")
    with pytest.raises(folder.grid.ArgumentError, match="there is no script .*worker.py"):
        job.resubmit()
    assert len(job.ids) == 1 and job.state == "FAILED"


def test_a_retry_of_a_snapshot_runs_the_snapshot_and_says_nothing_of_a_change(folder, worker):
    job = submit(folder, [[1, "once"]], snapshot=True)
    with pytest.raises(folder.grid.JobFailed):
        job.wait(60)
    os.remove("worker.py")
    assert job.resubmit().wait(60).state == "DONE" and job.tasks[0].log() == "task 1 once\n"


def test_each_attempt_is_compared_with_the_script_that_it_was_submitted_with(folder):
    code = "import os, sys, time\nwhile sys.argv[1] == 'slow' and not os.path.exists('go'): time.sleep(0.05)\n"
    folder.write("worker.py", code + "sys.exit(3 * (sys.argv[1] == 'bad'))")
    job = submit(folder, [["bad"], ["slow"], ["late"]], max_running=1)
    folder.wait_until((job.folder / "records/2.1.running").exists, "the second task runs")
    folder.write("worker.py", code)
    job.resubmit()  # of the first one, which waits for the end of the others
    folder.write("go", "")
    job.wait(60)
    assert "changed" not in job.tasks[0].log(), "it was submitted with the script as it is now"
    assert "worker.py has changed since the job was submitted" in job.tasks[2].log()


@pytest.mark.parametrize("number", [3, 3000])
def test_one_question_for_all_tasks(site, number):
    """However many tasks: the scheduler is asked once for each poll."""
    job = submit(site, [[1, "x"]] * number, scheduler="gridengine")
    line = f"<job_list><JB_job_number>101</JB_job_number><state>qw</state><tasks>1-{number}:1</tasks></job_list>"
    site.program("qstat", f"echo x >>asked; echo '<job_info><queue_info>{line}</queue_info></job_info>'")
    assert job.counts["PENDING"] == number and {task.state for task in job.tasks} == {"PENDING"}
    assert (site.path / "asked").read_text() == "x\n"


def test_tasks_that_vanish_are_told_apart_by_one_look_into_the_accounting(site):
    job = submit(site, [[number, "x"] for number in range(1, 5)], scheduler="gridengine")
    part = "=" * 62 + "\ntaskid       {}\nfailed       {}\nexit_status  {}\n"
    site.write("accounting", "".join(part.format(*facts) for facts in ((1, 0, 0), (2, 37, 137), (4, 0, 5))))
    site.program("qacct", "echo x >>asked; cat accounting")
    site.grid.GRACE = 0
    assert [task.state for task in job.tasks] == ["DONE", "FAILED", "FAILED", "FAILED"]
    reasons = [
        "as the acc",
        "killed by Grid Engine: over",
        "vanished",
        "Grid Engine's accounting: failed 0, exit code 5",
    ]
    assert all(task.reason.startswith(reason) for task, reason in zip(job.tasks, reasons))
    assert site.grid.Job(job.folder).counts["FAILED"] == 3 and (site.path / "asked").read_text() == "x\n"


def test_a_submission_killed_between_two_pieces_loses_nothing(folder, worker):
    code = "import grid, os\ngrid._Background.usual_most = 2\ncall = grid._call_until_it_has_the_job\n"
    code += "def die(engine, job, piece):\n    if len(job.record['pieces']) == 2: os.kill(os.getpid(), 9)\n"
    code += "    return call(engine, job, piece)\ngrid._call_until_it_has_the_job = die\n"
    code += "grid.submit_array('worker.py', [[n, 'well'] for n in range(1, 6)], log_dir='logs')"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    [job] = folder.grid.jobs()
    folder.grid.GRACE = 0
    folder.wait_until(lambda: job.state == "FAILED", "it is known that the rest was not submitted")
    assert [task.state for task in job.tasks] == ["DONE", "DONE", "FAILED", "FAILED", "FAILED"]
    assert job.tasks[4].reason == "it never reached the scheduler: the submission was interrupted"
    assert job.resubmit().wait(60).state == "DONE"
    ran = collections.Counter(name.name.split(".")[0] for name in job.folder.glob("records/*.exit-0"))
    assert ran == {str(number): 1 for number in range(1, 6)}, "a task ran twice, or never"


def test_a_record_that_a_child_of_the_script_writes_too_late_is_no_running_job(folder):
    folder.write("worker.py", "")
    before = submit(folder, [[1]]).wait(60)
    (before.folder / "records/1.1.running").write_text("reason: late\n")
    assert before.state == "DONE" and submit(folder, [[2]], after=before).wait(60).state == "DONE"


def test_by_hand_a_task_is_called_by_its_number(folder, worker):
    job = submit(folder, [[1, "once"], [2, "well"], [3, "once"]])
    with pytest.raises(folder.grid.JobFailed):
        job.wait(60)
    job.resubmit().wait(60)
    done = subprocess.run(["bash", job.folder / "job-2.sh", "3"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "task 3 once\n")


def test_a_dry_run_shows_what_would_be_submitted(site, capsys):
    site.grid._GridEngine.usual_most = 40
    job = submit(site, [[number, "x"] for number in range(100)], dry_run=True, scheduler="gridengine", max_running=2)
    printed = capsys.readouterr().out
    assert (
        "-t 1-40 -tc 2" in printed
        and '[19, "x"]\n# ... and 80 more lines' in printed
        and "several pieces of 40" in printed
    )
    assert job.id is None and site.jobs() == [] and calls(site) == []


@pytest.mark.parametrize(
    "tasks, keywords, message",
    [
        ([], {}, "tasks is []: pass a list with the list of arguments of each task"),
        (5, {}, "tasks is 5: pass a list with"),
        ([[1], 2], {}, "task 2: args is 2: pass a list of arguments"),
        (
            [[1]] * 4710 + [[1, [object]]],
            {},
            "task 4711: argument 2 holds <class 'object'> of type builtins.type, which",
        ),
        ([[1]], {"max_running": 0}, "max_running is 0: pass a whole number, 1 or more"),
        ([[1]], {"max_runing": 2}, "submit_array has no argument 'max_runing'; did you mean 'max_running'"),
        ([[1]], {"memory": "2"}, "memory is '2': pass a number and a unit"),
    ],
)
def test_a_bad_array_is_refused_before_anything_is_done(site, tasks, keywords, message):
    with pytest.raises(site.grid.ArgumentError, match=re.escape(message)):
        submit(site, tasks, scheduler="gridengine", **keywords)
    assert site.jobs() == [] and calls(site) == []


def test_tasks_of_different_lengths_are_allowed(folder):
    folder.write("worker.py", "from grid import typecast; print(typecast())")
    job = submit(folder, [[], [1, 2, 3], ["x"]]).wait(60)
    assert [task.log() for task in job.tasks] == ["[]\n", "[1, 2, 3]\n", "['x']\n"]


@given(st.sets(st.integers(0, 10_000)))
def test_numbers_are_read_as_they_are_written(grid, numbers):
    assert grid._numbers(grid._ranges(numbers)) == sorted(numbers)


@pytest.mark.parametrize(
    "text, numbers",
    [("3,5-9", [3, 5, 6, 7, 8, 9]), ("20-30:5%2", [20, 25, 30]), ("4-6:1,9", [4, 5, 6, 9]), ("7", [7]), ("", [])],
)
def test_the_indexes_that_schedulers_write_are_understood(grid, text, numbers):
    assert grid._numbers(text) == numbers


def test_a_status_that_finds_an_id_does_not_undo_what_the_submission_writes_meanwhile(site):
    site.grid._GridEngine.usual_most = 4
    job = submit(site, [[number, "x"] for number in range(1, 7)], scheduler="gridengine")
    whole = (job.folder / "record.json").read_text()
    # another process has read the record when only the first piece was in it, still without an id
    job.record["pieces"] = [job.record["pieces"][0] | {"id": None}]
    job.save()
    other = site.grid.Job(job.folder)
    (job.folder / "record.json").write_text(whole)
    other.know_id(other.record["pieces"][0], "101")
    assert (job.folder / "record.json").read_text() == whole and site.grid.Job(job.folder).ids == ["101", "102"]
