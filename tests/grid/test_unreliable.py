"""The promise: whatever the scheduler's commands do, nothing hangs, nothing is submitted twice, and no state is made up.

The fake does what a real Grid Engine will not do on demand.
"""

import json
import os
import signal
import subprocess
import threading
import time

import pytest

from fake_gridengine import DOWN, EMPTY, HEAD
from sandbox import room, until

ROW = "<job_list><JB_job_number>101</JB_job_number><JB_name>worker</JB_name><state>r</state></job_list>"


@pytest.fixture
def site(site):
    """With no patience, to be quick."""
    site.limits.grace, site.limits.retry = 0.3, 0.3
    return site


def submit(site):
    return site.grid.submit_script("worker.py", log_dir="logs")


def calls(site):
    return len(site.engine.calls("qsub"))


def command(*words):
    """What `python grid.py ...` does."""
    room("commands").run(room("commands").parser().parse_args(words))


def lose_id(site, job):
    """As it is when the submitter was killed before it could write down the id."""
    path = job.folder / "1/submission.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"id": None}))
    return site.grid.Job(job.folder)


# --- A queue that cannot be read --------------------------------------------------------------------------------------

UNREADABLE = {
    "garbage": "garbage",
    "nothing": "",
    "cut": HEAD + "<queue_info><job_list><JB_job_num",
    "another page": "<html><body>503</body></html>",
    "a job without a number": HEAD + "<queue_info><job_list><state>r</state></job_list></queue_info></job_info>",
    "a notice before it": "Wartung am 1. März\n".encode("latin-1") + EMPTY.encode(),
    "binary": bytes(range(256)) * 20,
    "an encoding that does not exist": "<?xml version='1.0' encoding='utf-7½'?><job_info></job_info>",
}
PROGRAMS = {
    "down": f"echo '{DOWN}' >&2; exit 1",
    "no word": "exit 3",
    "killed": "kill -9 $$",
    "hangs": "exec sleep 100",
}


def is_unchanged(site, job):
    """The queue cannot be read: all who ask say so, and nobody concludes anything."""
    assert (job.state, job.reason) == ("PENDING", "the scheduler does not respond")
    with pytest.raises(site.grid.JobTimeout):
        job.wait(0)
    command("status")
    with pytest.raises(site.grid.SubmitError):
        site.grid.qstat()
    with pytest.raises(site.grid.SubmitError):
        site.grid.qdel(job)
    site.engine.refuse("qsub")
    with pytest.raises(site.grid.SubmitError, match="not known whether the job was submitted"):
        submit(site)
    assert not list(site.path.glob(".grid/*/1/lost.json"))
    (job.folder / "1/records/1.running").write_text("id: 101\nhost: node1\n")
    assert job.state == "RUNNING"
    (job.folder / "1/records/1.running").rename(job.folder / "1/records/1.exit-0")
    assert job.wait(10) is job and job.state == "DONE"


@pytest.mark.parametrize("answer", UNREADABLE.values(), ids=UNREADABLE)
def test_a_queue_that_cannot_be_read_changes_no_state(site, answer):
    job = submit(site)
    site.engine.answer("qstat", answer)
    is_unchanged(site, job)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_queue_that_does_not_answer_changes_no_state(site, program):
    job = submit(site)
    site.program("qstat", program)
    site.limits.call = 0.4
    is_unchanged(site, job)


def test_wherever_the_list_is_cut_no_job_has_vanished(site):
    job = submit(site)
    whole = HEAD + f"<queue_info>{ROW}</queue_info>\n</job_info>\n"
    scheduler = room("schedulers").scheduler("gridengine")
    for end in range(0, len(whole) - 1):
        scheduler.call = lambda words, cut=whole[:end]: cut
        try:
            assert "101" in scheduler.queue(), whole[:end]
        except site.grid.SubmitError:
            pass
    assert job.state == "PENDING"


def test_a_queue_that_recovers_is_believed_again(site):
    job = submit(site)
    site.engine.forget("101")
    site.engine.down("qstat", 1)
    with pytest.raises(site.grid.JobFailed, match="vanished: it left the queue without starting"):
        job.wait(30)
    assert len(site.engine.calls("qstat -xml")) > 1


# --- A list that is wrong ---------------------------------------------------------------------------------------------


def test_from_one_list_that_lacks_a_job_nothing_is_concluded(site):
    job = submit(site)
    site.engine.set_rows("101", ("r", ""))
    (job.folder / "1/records/1.running").write_text("id: 101\nhost: node1\n")
    site.engine.answer("qstat-xml", EMPTY)
    assert (job.state, job.reason) == ("RUNNING", "the scheduler does not respond")
    with pytest.raises(site.grid.GridError, match="has no failed tasks"):
        job.resubmit()
    assert not (job.folder / "1/lost.json").exists() and site.engine.calls("qacct") == []
    site.engine.recover("qstat")
    assert (job.state, job.reason) == ("RUNNING", "")


def test_a_job_that_is_stopped_although_the_list_lacks_it_is_stopped(site):
    job = submit(site)
    site.engine.answer("qstat-xml", EMPTY)
    assert site.grid.qdel(job) == ["101"] and site.engine.queue() == []


def test_a_verdict_falls_when_the_queue_lists_the_job_again(site):
    """A master that has lost its state, and got it back."""
    job = submit(site)
    site.engine.forget("101")
    assert job.state == "FAILED" and job.reason.startswith("vanished")
    site.engine.add("101", script=str(job.folder / "1/job.sh"))
    assert site.grid.Job(job.folder).state == job.state == "RUNNING"


def test_a_record_that_arrives_late_wins(site):
    job = submit(site)
    site.engine.forget("101")
    assert job.state == "FAILED" and job.reason.startswith("vanished")
    (job.folder / "1/records/1.exit-0").write_text("id: 101\n")
    assert site.grid.Job(job.folder).state == job.state == "DONE"


def test_a_verdict_is_reached_once(site):
    """qacct reads the whole accounting file of a site."""
    job = submit(site)
    site.engine.forget("101")
    assert job.state == "FAILED"
    asked = len(site.engine.calls("qacct"))
    for _ in range(3):
        assert site.grid.Job(job.folder).state == "FAILED"
    assert len(site.engine.calls("qacct")) == asked


# --- Another job has our number ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner, name", [(None, "other"), ("somebody", "worker")])
def test_a_job_of_another_script_with_our_number_tells_nothing_of_ours(site, owner, name):
    job = submit(site)
    site.engine.forget("101")
    site.engine.add("101", name=name, owner=owner)
    site.engine.account("101", name=name, owner=owner)
    site.engine.account("101", name="other")
    assert job.state == "FAILED" and job.reason.startswith("vanished"), "neither its row nor its accounting is ours"
    assert site.grid.qdel(job) == [] and site.engine.queue() == ["101"]


def test_a_job_of_another_script_with_our_number_and_name_is_not_stopped(site):
    job = submit(site)
    site.engine.forget("101")
    site.engine.add("101", name="worker")
    job.cancel()
    assert site.grid.qdel(job) == [] and site.engine.queue() == ["101"] and site.engine.calls("qdel") == []


def test_the_accounting_of_our_own_job_counts(site):
    job = submit(site)
    site.engine.forget("101")
    site.engine.account("101", failed=37, exit_status=137)
    assert (job.state, job.exit_code) == ("FAILED", 137) and "over a limit" in job.reason


# --- qsub -------------------------------------------------------------------------------------------------------------


def test_a_qsub_that_hangs_is_a_clear_error(site):
    site.engine.hang("qsub")
    site.limits.call = 0.4
    with pytest.raises(site.grid.SubmitError, match="qsub did not respond within 0.4 s"):
        submit(site)
    assert calls(site) >= 1


def test_a_qsub_that_hangs_after_it_got_through_is_not_repeated(site):
    site.program("qsub", 'gridengine qsub "$@"; exec sleep 100')
    site.limits.call = 0.5
    assert submit(site).id == "101" and calls(site) == 1


def test_notices_around_the_id(site):
    site.program("qsub", 'echo "Dear user 7,"; gridengine qsub "$@"; echo "have a nice day"')
    assert submit(site).id == "101"


def test_an_id_and_a_failure_is_looked_up(site):
    site.program("qsub", "echo 41; exit 1")
    with pytest.raises(site.grid.SubmitError, match="qsub failed"):
        submit(site)
    site.program("qsub", 'gridengine qsub "$@"; exit 1')
    assert submit(site).id == "101" and calls(site) == 1


def test_no_id_and_no_failure_is_looked_up(site):
    site.engine.answer("qsub", "")
    with pytest.raises(site.grid.SubmitError, match="qsub printed no job id, but: nothing"):
        submit(site)
    assert site.jobs() == []
    site.engine.recover("qsub")
    site.program("qsub", 'gridengine qsub "$@" >/dev/null')
    assert submit(site).id == "101" and calls(site) == 2


def test_a_scheduler_that_comes_back_gets_the_job_once(site, capsys):
    site.engine.down("qsub", 1)
    site.limits.retry = 20
    assert submit(site).id == "101" and calls(site) == 2 and site.engine.queue() == ["101"]
    assert "qsub is not responding; retrying for 20 s" in capsys.readouterr().err


def test_a_scheduler_that_stays_away_is_a_clear_error(site):
    site.engine.down("qsub")
    with pytest.raises(site.grid.SubmitError, match="Connection refused"):
        submit(site)
    assert site.jobs() == [], "something half-submitted is left"


def test_when_nobody_can_tell_whether_the_job_is_there_its_folder_stays(site):
    site.program("qsub", "echo strange; exit 1")
    site.engine.down("qstat")
    with pytest.raises(site.grid.SubmitError, match="(?s)strange.*not known whether the job was submitted"):
        submit(site)
    site.limits.retry = 60
    [job] = site.grid.jobs()
    assert job.id is None and job.state == "PENDING"
    site.engine.recover("qstat")
    site.engine.add("41", script=str(job.folder / "1/job.sh"), state="qw")
    assert job.state == "PENDING" and site.grid.jobs()[0].id == "41"


def test_an_interrupted_submission_is_found_or_known_to_have_failed(site):
    site.limits.grace = 60
    job = lose_id(site, submit(site))
    site.engine.forget()
    path = job.folder / "1/submission.json"
    with job.files.lock():
        os.utime(path, (0, 0))
        again = site.grid.Job(job.folder)
        assert (again.state, again.reason) == ("PENDING", "being submitted"), "the submitter is alive"
    os.utime(path)
    assert (again.state, again.reason) == ("PENDING", "being submitted"), "a qsub may still be at work"
    os.utime(path, (0, 0))
    assert again.state == "FAILED" and "never submitted" in again.reason
    (job.folder / "1/records/1.exit-0").write_text("id: 99\n")  # the job itself tells its id
    assert site.grid.Job(job.folder).state == "DONE" and site.grid.Job(job.folder).id == "99"


@pytest.mark.parametrize(
    "answer", ["internal trouble\n", "", bytes(range(256)), "job_number:    101\nscript_file:   /x"]
)
@pytest.mark.parametrize("fails", [True, False])
def test_a_queue_that_cannot_tell_the_scripts_is_no_reason_to_submit_again(site, answer, fails):
    site.program("qsub", 'gridengine qsub "$@" >/dev/null; exit 1')
    (site.engine.refuse if fails else site.engine.answer)("qstat-j", answer)
    with pytest.raises(site.grid.SubmitError, match="not known whether the job was submitted"):
        submit(site)
    assert calls(site) == 1
    site.engine.recover("qstat")
    assert site.grid.jobs()[0].state == "PENDING" and site.grid.jobs()[0].id == "101"


def test_more_jobs_than_a_command_line_takes_do_not_hide_ours(site):
    job = lose_id(site, submit(site))
    site.engine.limit("crowd", 20_000)
    assert job.state == "PENDING" and job.id == "101"
    assert 40 <= len(site.engine.calls("qstat -j")) <= 42


def test_jobs_that_end_while_the_scripts_are_asked_for_do_not_hide_ours(site):
    """Some versions say nothing of those that are there, others nothing of those that are not."""
    job = submit(site)
    script = str(job.folder / "1/job.sh")
    scheduler = room("schedulers").scheduler("gridengine")
    assert scheduler.scripts(["100", "101", "102"], {}) == {"101": script}
    call = scheduler.call

    def old(words):
        if words[2] != "101":
            raise site.grid.SubmitError("qstat failed: Following jobs do not exist: \n100, 102")
        return call(words)

    scheduler.call = old
    assert scheduler.scripts(["100", "101", "102"], {}) == {"101": script}


def test_it_tries_for_as_long_as_it_says(site, monkeypatch):
    clock, calls = [0.0], []

    def no_answer(*_):
        calls.append(clock[0])
        raise room("errors").Unreachable("Connection refused")

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    monkeypatch.setattr(room("schedulers").Scheduler, "call", no_answer)
    site.limits.retry = 60
    with pytest.raises(site.grid.SubmitError, match="Connection refused"):
        submit(site)
    assert calls[-1] - calls[0] == pytest.approx(60)


# --- Copies of a job --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", ["exec sleep 100", "echo 101; exit 1", ":", PROGRAMS["down"]])
def test_a_job_that_has_ended_before_qsub_fails_is_not_repeated(site, after):
    """It is in the queue no more; its own record tells that it was there."""
    site.program("qsub", f'gridengine qsub "$@" >/dev/null; gridengine run 101; {after}')
    site.limits.call = 2
    job = submit(site)
    assert (job.id, job.state, calls(site)) == ("101", "DONE", 1)


def test_a_second_copy_of_a_job_does_not_run(site):
    site.write("worker.py", "open('ran', 'a').write('x')")
    job = submit(site)
    site.engine.run(101)
    site.engine.add("102", script=str(job.folder / "1/job.sh"))
    site.engine.run(102)
    assert job.state == "DONE" and (site.path / "ran").read_text() == "x"


@pytest.mark.parametrize("pairs", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_of_two_copies_that_begin_at_the_same_moment_exactly_one_runs(site, pairs):
    """Four pairs at a time. What runs is no Python, to be quick."""
    site.write("env/python", '#!/bin/bash\necho "$GRID_TASK" >>"$HOME/ran"\n').chmod(0o755)
    job = site.grid.submit_array("worker.py", [[n] for n in range(pairs)], 'PATH="$PWD/env:$PATH"', log_dir="logs")
    pair = 'for id in 101 102; do JOB_ID=$id SGE_TASK_ID=$n bash -p "$0" & done; wait'
    lanes = f"for lane in {{1..4}}; do for ((n = lane; n <= {pairs}; n += 4)); do {pair}; done & done; wait"
    subprocess.run(["bash", "-c", lanes, job.folder / "1/job.sh"], check=True)
    assert sorted(map(int, (site.home / "ran").read_text().split())) == list(range(1, pairs + 1))
    assert len(list(job.folder.glob("1/records/*.exit-0"))) == len(list(job.folder.glob("1/records/*"))) == pairs


@pytest.mark.parametrize("lives", [True, False])
def test_of_two_copies_of_a_job_the_one_that_runs_counts(site, lives):
    job = submit(site)
    site.engine.forget("101")
    site.engine.account("101")
    (job.folder / "1/records/1.running").write_text("id: 43\nhost: n1\n")
    if lives:
        site.engine.add("43", script=str(job.folder / "1/job.sh"))
        assert (job.state, job.reason, job.id) == ("RUNNING", "", "43")
        assert site.grid.qdel(job) == ["43"] and site.engine.calls("qdel") == [["43"]]
    else:
        assert job.state == "FAILED" and job.reason.startswith("vanished: it started on n1")


def test_of_two_copies_of_an_array_the_one_that_lives_counts(site):
    """Each task runs in the copy that began it first."""
    job = site.grid.submit_array("worker.py", [[1], [2], [3]], log_dir="logs")
    (job.folder / "1/records/1.running").write_text("id: 101\nhost: n1\n")
    (job.folder / "1/records/2.running").write_text("id: 43\nhost: n1\n")
    site.engine.forget("101")
    site.engine.add("43", script=str(job.folder / "1/job.sh"), tasks=3)
    site.engine.set_rows("43", ("r", "2"), ("qw", "3"))
    assert {task.state for task in job.tasks} <= {"PENDING", "RUNNING"}
    assert [task.state for task in job.tasks] == ["FAILED", "RUNNING", "PENDING"]
    assert site.grid.Job(job.folder).ids == ["43"]
    job.cancel()
    assert site.engine.queue() == []


# --- Stops ------------------------------------------------------------------------------------------------------------


def test_the_words_of_a_script_are_not_those_of_the_scheduler(site):
    job = submit(site)
    (job.folder / "1/records/1.exit-1").write_text("id: 101\nreason: RuntimeError: the motor is in error state 7\n")
    assert (job.state, job.reason) == ("FAILED", "RuntimeError: the motor is in error state 7")
    job.cancel()
    assert site.engine.calls("qdel") == []
    site.engine.forget("101")
    assert job.resubmit().ids == ["101", "102"] and site.engine.calls("qdel") == []


def test_a_refused_cancel_is_not_remembered(site):
    job = submit(site)
    site.engine.refuse("qdel", "denied: you are no operator")
    with pytest.raises(site.grid.SubmitError, match="denied"):
        job.cancel()
    (job.folder / "1/records/1.exit-3").write_text("id: 101\n")
    assert (job.state, job.exit_code) == ("FAILED", 3)


def test_stopping_all_costs_one_call_for_all(site):
    for _ in range(10):
        submit(site)
    command("stop", "all")
    assert [len(words) for words in site.engine.calls("qdel")] == [10] and site.engine.queue() == []
    assert len(site.engine.calls("qstat -xml")) <= 2 and len(site.engine.calls("qstat -j")) <= 1


def test_waiting_can_be_interrupted_without_harm(sandbox):
    sandbox.write("worker.py", "import os, time\nwhile not os.path.exists('go'): time.sleep(0.02)")
    job = sandbox.submit()
    until(lambda: list(job.folder.glob("1/records/1.running")), "it runs")
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        job.wait()
    sandbox.write("go", "")
    assert job.wait(30).state == "DONE"
