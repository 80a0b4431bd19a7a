"""The promise: processes that submit, run again, stop and watch one job at the same time do not get in each other's way.

The Grid Engine is a fake that takes two tasks at once. It waits wherever a test wants something to happen meanwhile.
"""

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest

from sandbox import room, until

ARRAY = "grid.submit_array('worker.py', [[n] for n in range(1, 7)], log_dir='logs')"
SINGLE = "grid.submit_script('worker.py', log_dir='logs')"
AGAIN = "grid.jobs()[0].resubmit()"
BEGIN = """
import grid
from gridlib import dispatch, project
from gridlib.schedulers import GridEngine
GridEngine.default_max_tasks = 2
"""
# Some network file systems have no locks, and there are those whose locks another machine does not see.
NO_LOCKS = """
import fcntl
def flock(*_): raise OSError(37, "No locks available")
fcntl.flock = flock
"""
OTHER_MACHINE = """
import fcntl, os
fcntl.flock = lambda *_: None
os.uname = lambda: os.uname_result(("Linux", "node2", "", "", ""))
"""


@pytest.fixture
def site(site):
    """site.elsewhere(code) runs code in another process."""
    room("schedulers").GridEngine.default_max_tasks = 2
    site.engine.limit("max_aj_tasks", 2)
    started = []

    def elsewhere(code, calls=None):
        """Returns when qsub has been called so often in all."""
        code = f"{BEGIN}\n{code}"
        started.append(subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True))
        if calls is not None:
            site.engine.wait_for_call("qsub", calls)
        return started[-1]

    site.elsewhere = elsewhere
    yield site
    for process in started:
        process.kill()
        process.wait()


class Meanwhile(threading.Thread):
    """A call that another thread makes; result() waits for it."""

    def __init__(self, call):
        super().__init__(daemon=True)
        self.call, self.found = call, None
        self.start()

    def run(self):
        try:
            self.found = self.call()
        except BaseException as error:
            self.found = error

    def result(self):
        self.join(60)
        assert not self.is_alive()
        return self.found


def submit(site, tasks=6, **keywords):
    return site.grid.submit_array("worker.py", [[n] for n in range(tasks)], log_dir="logs", **keywords)


def end(site, job, code=3):
    """All tasks of a job have ended."""
    for submission in job.files.submissions():
        site.engine.forget(*{submission.id} & set(site.engine.queue()))
    for task, (submission, _) in job.files.newest(job.files.submissions()).items():
        (job.folder / f"{submission.number}/records/{task}.exit-{code}").write_text(f"id: {submission.id}\n")


def make_old(job, number=1, age=None):
    """The last sign of life of a submission was long ago, or so many seconds."""
    path = job.folder / f"{number}/submission.json"
    when = 0 if age is None else time.time() - age
    os.utime(path, (when, when))


def lose_id(site, job, number=1):
    """As it is when the submitter was killed before it could write down the id."""
    path = job.folder / f"{number}/submission.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"id": None}))
    make_old(job, number)
    return site.grid.Job(job.folder)


def ended_with(process, words):
    """A process has failed with these words."""
    _, printed = process.communicate(timeout=60)
    return process.returncode == 1 and words in printed


# --- Who submits ------------------------------------------------------------------------------------------------------


def test_a_job_is_being_submitted_as_long_as_its_submitter_or_its_qsub_lives(site):
    site.engine.hold("qsub")
    process = site.elsewhere(ARRAY, 1)
    [job] = site.grid.jobs()
    make_old(job)  # however long it takes
    assert (job.counts["PENDING"], job.tasks[5].reason) == (6, "being submitted")
    process.kill()
    process.wait()
    assert job.tasks[0].reason == "being submitted", "qsub is still at work, and will submit it"
    with pytest.raises(site.grid.SubmitError, match=r"another process is submitting tasks of job \? \(worker\)"):
        job.resubmit()
    site.engine.release("qsub")
    until(site.engine.queue, "qsub has ended")
    until(lambda: job.counts["FAILED"] == 4, "it is known that the rest was not submitted")
    assert job.id == "101" and job.tasks[5].reason.startswith("never submitted")


def test_a_submission_that_ends_while_the_queue_is_read_is_no_failure(site):
    site.engine.hold("qsub")
    process = site.elsewhere(SINGLE, 1)
    site.engine.hold("qstat-xml")
    [job] = site.grid.jobs()
    look = Meanwhile(lambda: job.state)
    site.engine.wait_for_call("qstat")  # it has read the queue
    site.engine.release("qsub")
    assert process.wait(60) == 0
    site.engine.release("qstat-xml")
    assert look.result() == "PENDING" and site.engine.queue() == ["101"]


def test_a_job_that_begins_while_the_queue_is_read_has_not_vanished(site):
    site.engine.hold("qsub")
    process = site.elsewhere(SINGLE, 1)
    site.engine.hold("qstat-xml")
    [job] = site.grid.jobs()
    look = Meanwhile(lambda: job.state)
    site.engine.wait_for_call("qstat")
    site.engine.release("qsub")
    assert process.wait(60) == 0
    (job.folder / "1/records/1.running").write_text("id: 101\nhost: n1\n")
    site.engine.release("qstat-xml")
    assert look.result() == "RUNNING"
    assert (job.state, site.grid.Job(job.folder).id) == ("PENDING", "101"), "a verdict was written down"


def test_after_ctrl_c_a_qsub_that_is_still_at_work_is_waited_for(site):
    """qsub is a script of the site's, which Ctrl-C ends without its program."""
    site.program("qsub", 'gridengine qsub "$@"\nexit $?')
    site.engine.hold("qsub")
    process = site.elsewhere("import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n" + SINGLE, 1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) and not site.engine.queue()
    [job] = site.grid.jobs()
    make_old(job)
    assert (job.state, job.reason) == ("PENDING", "being submitted")
    with pytest.raises(site.grid.SubmitError, match="another process is submitting"):
        job.resubmit()
    site.engine.release("qsub")
    until(site.engine.queue, "qsub has ended")
    assert (job.state, job.id) == ("PENDING", "101")


def test_a_job_that_the_scheduler_takes_after_it_was_given_up_is_not_submitted_twice(site):
    """The master is overloaded: neither qsub nor qstat answers in time, and nobody has the lock any more."""
    late = (
        'exec >/dev/null 2>&1; for fd in /proc/$BASHPID/fd/*; do [ ${fd##*/} -lt 3 ] || eval "exec ${fd##*/}>&-"; done'
    )
    site.program("qsub", f'( {late}; exec setsid gridengine qsub "$@" ) & exec sleep 100')
    site.engine.hold("qsub")
    site.engine.down("qstat")
    site.limits.call, site.limits.retry = 1, 0.5
    with pytest.raises(site.grid.SubmitError, match="not known whether the job was submitted"):
        site.grid.submit_script("worker.py", log_dir="logs")
    site.limits.call = site.limits.retry = 60
    site.engine.recover("qstat")
    [job] = site.grid.jobs()
    assert (job.state, job.reason, job.files.is_locked()) == ("PENDING", "being submitted", False)
    with pytest.raises(site.grid.GridError, match="has no failed tasks"):
        job.resubmit()
    site.engine.release("qsub")
    until(site.engine.queue, "it is there")
    assert (site.grid.Job(job.folder).state, site.engine.queue()) == ("PENDING", ["101"])


def test_a_thread_that_watches_sees_what_another_one_submits(site):
    job = submit(site, 2)
    end(site, job)
    site.engine.hold("qsub")
    retry = Meanwhile(job.resubmit)
    site.engine.wait_for_call("qsub", 2)
    assert job.counts["PENDING"] == 2
    site.engine.release("qsub")
    assert retry.result() is job and job.counts["PENDING"] == 2


def test_one_process_at_a_time_runs_tasks_again(site):
    job = submit(site, 2)
    end(site, job)
    site.engine.hold("qsub")
    process = site.elsewhere(AGAIN, 2)
    with pytest.raises(site.grid.SubmitError, match=r"another process is submitting tasks of job 101 \(worker\)"):
        job.resubmit()
    site.engine.release("qsub")
    assert process.wait(60) == 0 and site.engine.queue() == ["102"]
    assert job.counts["PENDING"] == 2, "a Job that was made before does not see the retry of the other process"
    assert job.ids == ["101", "102"]
    with pytest.raises(site.grid.GridError, match="has no failed tasks"):
        job.resubmit()


def test_one_thread_at_a_time_runs_tasks_again(site):
    job = submit(site)
    end(site, job)
    site.engine.hold("qsub")
    first = Meanwhile(job.resubmit)
    site.engine.wait_for_call("qsub", 4)
    assert "another process is submitting" in str(Meanwhile(job.resubmit).result())
    site.engine.release("qsub")
    assert first.result() is job and site.grid.Job(job.folder).ids == [str(101 + n) for n in range(6)]


@pytest.mark.parametrize("how", ["", NO_LOCKS, OTHER_MACHINE], ids=["locks", "no locks", "another machine's locks"])
def test_of_two_retries_that_choose_at_the_same_moment_one_submits(site, how):
    """Both have found the same tasks to be FAILED before either has submitted one of them."""
    job = submit(site, 2)
    end(site, job)
    choose = """
import os, time
submit = dispatch.submit
def wait(*words):
    open("chosen-NAME", "w").close()
    while not os.path.exists("go"): time.sleep(0.01)
    submit(*words)
dispatch.submit = wait
""".replace
    retries = [site.elsewhere((how if one else how and NO_LOCKS) + choose("NAME", str(one)) + AGAIN) for one in (0, 1)]
    if how:
        until(lambda: len(list(site.path.glob("chosen-*"))) == 2, "both have chosen")
    else:  # the lock keeps one of them from choosing at all
        until(lambda: any(retry.poll() for retry in retries), "one of them was refused")
    site.write("go", "")
    ends = [retry.communicate(timeout=60)[1] for retry in retries]
    assert sorted(retry.returncode for retry in retries) == [0, 1], ends
    assert any("another process is submitting tasks of job 101 (worker); try again later" in text for text in ends)
    assert site.engine.queue() == ["102"] and site.grid.Job(job.folder).ids == ["101", "102"]


@pytest.mark.parametrize("how", [NO_LOCKS, OTHER_MACHINE], ids=["no locks", "another machine's locks"])
def test_without_locks_nothing_is_submitted_twice(site, how):
    """As on some network file systems."""
    site.engine.hold("qsub", 2)
    first = site.elsewhere(NO_LOCKS + ARRAY, 2)
    assert ended_with(site.elsewhere(how + AGAIN), "has no failed tasks")
    site.engine.release("qsub")
    assert first.wait(60) == 0 and site.engine.queue() == ["101", "102", "103"]


def test_a_submission_that_a_retry_has_superseded_does_not_run_however_late_it_comes(site):
    """A qsub that hung for longer than anybody waits delivers what has been submitted again meanwhile."""
    site.write("worker.py", "import os; open('ran', 'a').write(os.environ['GRID_TASK'])")
    job = submit(site, 2)
    end(site, job)
    (job.folder / "1/records/1.exit-3").rename(job.folder / "1/records/1.exit-0")  # only task 2 runs again
    for record in job.folder.glob("1/records/2.*"):
        record.unlink()
    lose_id(site, job)
    assert job.tasks[1].state == "FAILED" and job.resubmit().ids == ["101", "102"]
    site.engine.add("90", script=str(job.folder / "1/job.sh"), tasks=2)
    site.engine.run(90, 2)
    assert not (site.path / "ran").exists() and not list(job.folder.glob("1/records/2.*"))
    site.engine.run(102, 1)
    assert (site.path / "ran").read_text() == "2" and [task.state for task in job.tasks] == ["DONE", "DONE"]


def test_a_process_that_was_forked_meanwhile_does_not_keep_the_job(site):
    site.engine.hold("qsub")
    submission = Meanwhile(lambda: submit(site, 1))
    site.engine.wait_for_call("qsub")
    program = subprocess.Popen(["sleep", "60"], close_fds=False)
    if not (child := os.fork()):
        time.sleep(60)
        os._exit(0)
    try:
        site.engine.release("qsub")
        job = submission.result()
        end(site, job)
        assert job.resubmit().ids == ["101", "102"]
    finally:
        program.kill()
        program.wait()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_job_travels_to_other_processes(site):
    job = submit(site)
    assert pickle.loads(pickle.dumps(job)).ids == job.ids


# --- Submitters that are killed ---------------------------------------------------------------------------------------


def test_a_first_submission_that_is_interrupted_before_it_is_whole_is_no_job(site):
    """Nothing was given to the scheduler before all that a job needs was written."""
    die = "write = project.write_whole\ndef die(path, text):\n"
    die += "    if str(path).endswith('job.json'): __import__('os').kill(__import__('os').getpid(), 9)\n"
    die += "    write(path, text)\nproject.write_whole = die\n"
    assert site.elsewhere(die + SINGLE).wait(60) == -signal.SIGKILL
    assert len(site.jobs()) == 1 and site.grid.jobs() == [] and site.engine.calls("qsub") == []
    job = submit(site, 2)
    assert [one.id for one in site.grid.jobs()] == [job.id] == ["101"]


@pytest.mark.parametrize("last", ["mkdir", "tasks"])
def test_a_retry_that_is_killed_while_it_makes_its_folder_does_not_hinder_the_next_one(site, last):
    job = submit(site, 2)
    end(site, job)
    (job.folder / "2/records").mkdir(parents=True)
    if last == "tasks":
        (job.folder / "2/tasks").write_text("1\n2\n")
        assert job.counts["PENDING"] == 2, "it may still be submitted"
        os.utime(job.folder / "2", (0, 0))
    assert job.counts["FAILED"] == 2
    assert job.resubmit().ids == ["101", "102"] and job.counts["PENDING"] == 2


# --- The clock of the file server -------------------------------------------------------------------------------------


@pytest.fixture(params=[3600, -3600], ids=["an hour ahead", "an hour behind"])
def other_clock(request, site, monkeypatch):
    """The clock of the file server differs from this machine's."""
    stat = os.stat

    def shifted(path, **more):
        found = stat(path, **more)
        if not str(path).startswith(str(site.path)):
            return found
        names = ("st_atime", "st_mtime", "st_ctime")
        facts = {name: getattr(found, name) + request.param for name in names}
        facts |= {f"{name}_ns": getattr(found, f"{name}_ns") + request.param * 10**9 for name in names}
        return os.stat_result(tuple(found)[:10], facts)

    monkeypatch.setattr(os, "stat", shifted)


@pytest.mark.parametrize("locks", [True, False])
def test_a_clock_of_the_file_server_that_is_wrong_makes_no_difference(site, other_clock, locks, monkeypatch):
    job = lose_id(site, submit(site, 2))
    site.engine.forget()
    make_old(job, age=-1)  # it was submitted just now
    site.limits.grace = 5
    if not locks:
        import fcntl

        def flock(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", flock)
    assert (job.counts["PENDING"], job.tasks[0].reason) == (
        2,
        "being submitted",
    ), "FAILED at once: a retry runs it twice"
    make_old(job, age=100)  # a qsub may take two minutes, if no lock tells that it is no more
    assert job.counts["FAILED" if locks else "PENDING"] == 2
    make_old(job, age=200)
    assert job.counts["FAILED"] == 2, "pending for an hour"


# --- Who stops --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("submissions", [0, 1, 2])
def test_a_job_stopped_while_it_is_submitted_is_stopped_whole(site, submissions):
    site.engine.hold("qsub", submissions + 1)
    process = site.elsewhere(ARRAY, submissions + 1)
    [job] = site.grid.jobs()
    job.cancel()
    site.engine.release("qsub")
    assert ended_with(process, "was stopped while it was submitted")
    assert len(site.engine.calls("qsub")) == submissions + 1, "more was submitted after the stop"
    assert site.engine.queue() == [], "a submission was left in the queue"
    until(lambda: job.counts["CANCELLED"] == 6, "all tasks are seen as cancelled")


@pytest.mark.parametrize("look", [1, 2])
def test_a_stop_is_not_lost_when_the_submission_ends_while_the_queue_is_read(site, look):
    """While the queue is read for the state of the job, and while it is read again to stop it."""
    site.engine.hold("qsub")
    process = site.elsewhere(SINGLE, 1)
    site.engine.hold("qstat-xml", look)
    [job] = site.grid.jobs()
    stop = Meanwhile(job.cancel)
    site.engine.wait_for_call("qstat", look)
    site.engine.release("qsub")
    process.wait(60)
    site.engine.release("qstat-xml")
    assert stop.result() is None and site.engine.queue() == [], "cancel() returned, and the job goes on"


def test_a_stop_reaches_a_retry_that_another_process_has_made(site):
    job = submit(site, 2)
    end(site, job)
    assert job.state == "FAILED"
    site.grid.Job(job.folder).resubmit()
    assert site.grid.qdel(job) == ["102"] and site.engine.queue() == []


def test_a_stop_reaches_a_retry_that_another_process_is_making(site):
    job = submit(site)
    end(site, job)
    assert job.state == "FAILED"
    site.engine.hold("qsub", 5)
    told = []
    room("schedulers").GridEngine.cancel = lambda engine, ids, kill: told.append((ids, kill))
    process = site.elsewhere(AGAIN, 5)  # the second submission of the retry
    site.grid.qdel(job)
    site.engine.release("qsub")
    assert ended_with(process, "was stopped while it was submitted")
    assert told == [(["104"], False)], "told twice to stop at the first time, which kills in the background"
    assert site.engine.queue() == ["104"] and len(site.engine.calls("qsub")) == 5


def test_a_stop_while_a_retry_is_prepared_is_not_lost(site):
    job = submit(site)
    end(site, job)
    site.engine.add("103", script=str(job.folder / "3/job.sh"), tasks=2)
    for task in (5, 6):
        (job.folder / f"3/records/{task}.exit-3").unlink()
    site.engine.hold("qstat-xml", 1, 1)
    process = site.elsewhere(AGAIN)
    site.engine.wait_for_call("qstat")  # it has the lock, and asks the scheduler now
    assert job.files.is_locked()
    job.cancel()
    site.engine.release("qstat-xml")
    assert ended_with(process, "was stopped while it was submitted")
    assert site.engine.queue() == []


def test_a_submitter_that_cannot_stop_its_job_says_so(site):
    site.engine.hold("qsub")
    site.engine.down("qdel")
    process = site.elsewhere(SINGLE, 1)
    site.grid.jobs()[0].cancel()
    site.engine.release("qsub")
    assert ended_with(process, "but 101 may keep running: qdel failed") and site.engine.queue() == ["101"]


def test_a_stop_of_what_nobody_knew_to_be_submitted_is_carried_out_when_it_is_found(site):
    """qsub fails after the scheduler has got the job, which cannot be asked; meanwhile comes the stop."""
    site.program("qsub", 'gridengine qsub "$@" >/dev/null; until [ -e go ]; do sleep 0.02; done; exit 1')
    process = site.elsewhere(f"project.limits.retry = 0.5\n{SINGLE}", 1)
    [job] = site.grid.jobs()
    until(site.engine.queue, "the scheduler has it")
    site.engine.refuse("qstat-j")
    assert site.grid.qdel(job) == [], "it has an id already"
    site.engine.down("qstat")
    site.write("go", "")
    assert ended_with(process, "not known")
    site.engine.recover("qstat")
    until(lambda: site.grid.jobs()[0].state == "CANCELLED", "the job is stopped")
    assert site.engine.queue() == []


def test_a_stop_of_what_is_found_is_tried_until_the_scheduler_obeys(site):
    job = submit(site, 1)
    job.files.submissions()[0].mark_stopped()
    site.engine.down("qdel")
    job = lose_id(site, job)
    assert job.counts["PENDING"] == 1
    site.engine.recover("qdel")
    until(lambda: site.grid.Job(job.folder).counts["CANCELLED"] == 1, "it is stopped")
    assert site.engine.queue() == []


def test_a_job_without_an_id_cannot_be_stopped_but_all_others_are(site):
    job = lose_id(site, submit(site, 1))
    site.engine.forget()
    other = submit(site, 1)
    with pytest.raises(site.grid.SubmitError, match="cannot be stopped: its id is not known") as caught:
        site.grid.qdel([job, other])
    assert caught.value.job is job and site.engine.queue() == []


def test_marks_that_cannot_be_read_for_a_moment_stop_nothing(site, monkeypatch):
    job = submit(site)
    job.cancel()
    assert job.state == "CANCELLED"
    stat = os.stat

    def stale(path, **more):
        if str(path).endswith("stopped") and len(site.engine.calls("qsub")) == 4:
            raise OSError(errno.ESTALE, "Stale file handle")
        return stat(path, **more)

    monkeypatch.setattr(os, "stat", stale)
    assert len(job.resubmit().ids) == 6


# --- What the disk does -----------------------------------------------------------------------------------------------


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_stays_full_does_not_lose_what_is_in_the_queue(site):
    write = room("project").write_whole
    room("project").write_whole = lambda *file: (full if site.engine.calls("qsub") else write)(*file)
    with pytest.raises(site.grid.SubmitError, match="(?s)2 of 6 tasks are submitted.*No space left"):
        submit(site)
    room("project").write_whole = write
    assert site.engine.queue() == ["101"]
    site.limits.grace = 0
    [job] = site.grid.jobs()
    assert job.counts["PENDING"] == 2 and job.id == "101"
    assert [path.name for path in job.folder.glob("[0-9]*")] == ["1"], "half a submission is left"


def test_a_disk_that_is_full_from_the_beginning_leaves_nothing(site):
    room("project").write_whole = full
    with pytest.raises(site.grid.SubmitError, match="cannot write the folder .*: .*No space left"):
        submit(site)
    assert site.jobs() == []


def test_a_disk_that_is_full_for_a_retry_is_a_clear_error(site):
    job = submit(site, 1)
    end(site, job)
    write, room("project").write_whole = room("project").write_whole, full
    with pytest.raises(site.grid.SubmitError, match="cannot submit from .*: .*No space left"):
        job.resubmit()
    room("project").write_whole = write
    assert (job.state, len(job.files.submissions()), site.engine.queue()) == ("FAILED", 1, [])


def test_a_job_that_has_filled_the_disk_can_be_stopped(site):
    job = submit(site, 2)
    room("project").write_whole = room("submission").Submission.mark_stopped = full
    job.cancel()
    assert site.engine.queue() == []


def test_a_folder_in_which_one_may_only_read_tells_its_states(site, monkeypatch):
    job = submit(site, 2)
    (job.folder / "1/records/1.running").write_text("id: 101\nhost: n1\n")

    def refused(*_, **__):
        raise PermissionError("Operation not permitted")

    room("project").write_whole = refused
    monkeypatch.setattr(os, "utime", refused)
    site.engine.forget()
    assert [task.reason.partition(":")[0] for task in job.tasks] == ["vanished", "vanished"]
    assert "started on n1" in job.tasks[0].reason


def test_a_broken_record_of_the_job_before_does_no_harm(site):
    before = submit(site, 1)
    job = submit(site, 1, after=before)
    end(site, job)
    (before.folder / "job.json").write_text("{")
    assert job.resubmit().ids == ["102", "103"]
    assert waits_for(site) == "101"


# --- Chains -----------------------------------------------------------------------------------------------------------


def waits_for(site, call=-1):
    """What the last job that was submitted waits for, or that of another call."""
    words = site.engine.calls("qsub")[call]
    return words[words.index("-hold_jid") + 1] if "-hold_jid" in words else None


def test_no_more_run_at_a_time_than_was_said_also_when_some_run_again(site):
    job = submit(site, 4, max_running=1)
    assert waits_for(site) == "101"
    (job.folder / "1/records/1.exit-3").write_text("id: 101\n")
    job.resubmit()
    assert waits_for(site) == "102"
    # nor after an interruption between the submission and the writing down of its id
    site.engine.forget()
    job = lose_id(site, job, 3)
    until(lambda: job.tasks[0].state == "FAILED", "it is known that it was not submitted")
    job.resubmit()
    assert waits_for(site, 3) == "102"


def test_a_job_that_runs_again_waits_for_the_retries_of_the_one_before_it(site):
    before = submit(site, 1)
    after = submit(site, 1, after=before)
    for job in (before, after):
        end(site, job)
        site.grid.Job(job.folder).resubmit()
    assert waits_for(site) == "101,103" and site.grid.Job(after.folder).ids == ["102", "104"]


# --- What a look costs ------------------------------------------------------------------------------------------------


def test_a_look_at_one_job_opens_no_file_of_the_others(site):
    job = submit(site, 2)
    opened, here = [], threading.get_ident()

    def count(event, arguments):
        if event in ("open", "os.listdir", "os.scandir") and opened is not None and threading.get_ident() == here:
            opened.append(arguments[0])

    sys.addaudithook(count)  # for ever, so it must be cheap
    try:
        counts = []
        for others in (0, 2500):
            for number in range(others):
                folder = site.path / f".grid/20260101-000000-old-{number}"
                folder.mkdir()
                os.link(job.folder / "job.json", folder / "job.json")
            opened.clear()
            assert job.state == "PENDING" and site.grid.Job(job.folder).tasks[1].state == "PENDING"
            counts.append(len(opened))
    finally:
        opened = None
    assert counts[0] == counts[1] > 0
