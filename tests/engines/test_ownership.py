"""The promise: a job is its cluster, user, script and number together. What is not about this very job does not count.

An id alone may be another job's; a list that lacks a job may be another cluster's, or wrong; a file may be somebody else's.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

from engines import VANISHED
from sandbox import until
from test_faults import UNTIL_GO, end, running, waiting


def test_seen_from_another_cluster_a_job_is_not_lost_and_cannot_be_stopped_or_run_again(sandbox, engine, monkeypatch):
    job, _ = running(sandbox, UNTIL_GO.format(code=0))
    with monkeypatch.context() as there:
        engine.elsewhere(sandbox, there)
        state, _, reason, *_ = job.status
        assert state == "RUNNING" and "it was submitted as" in reason and reason.endswith("ask there")
        with pytest.raises(sandbox.grid.SubmitError, match="was submitted as .*: stop it there"):
            job.cancel()
        with pytest.raises(sandbox.grid.GridError, match="has no failed tasks"):
            job.resubmit()
    shutil.rmtree(sandbox.path / "bin")  # home again
    assert job.state == "RUNNING" and engine.in_queue(job.id) and job.ids == [job.id]
    sandbox.write("go", "")
    assert end(job) == ("DONE", 0, "")


def test_two_paths_to_one_folder_show_the_same_job(sandbox, engine):
    sandbox.write("worker.py", "open('ran', 'a').write('x')")
    link = sandbox.path.parent / "link"
    link.symlink_to(sandbox.path)
    code = f"import os, sys; os.chdir({str(link)!r}); sys.path.insert(0, {str(link)!r}); from grid import *\n"
    code += f"print(submit_script('worker.py', log_dir='logs', options={engine.hold}).id)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    [job] = sandbox.grid.jobs()
    assert printed.strip() == job.id and job.state == "PENDING"
    set_id(job, None)  # as if its submitter had been killed before it could write it down
    [job] = sandbox.grid.jobs()
    assert job.state == "PENDING" and job.id == printed.strip(), job.status
    engine.release(job)
    assert end(job) == ("DONE", 0, "") and (sandbox.path / "ran").read_text() == "x"


def submission_file(job):
    return job.folder / "1" / "submission.json"


def set_id(job, job_id):
    """Another id in what is known of a job."""
    facts = json.loads(submission_file(job).read_text())
    submission_file(job).write_text(json.dumps(facts | {"id": job_id}))


@pytest.mark.parametrize("name", ["other", "worker"])
def test_another_job_with_the_id_lends_neither_its_state_nor_its_life(sandbox, engine, name):
    """As where ids are used again: mine is gone, and what has its id now runs. It may even have the same name."""
    job = waiting(sandbox, engine)
    engine.delete(job.id)
    foreign = engine.submit_foreign(sandbox, name)
    try:
        set_id(job, foreign)
        [job] = sandbox.grid.jobs()
        until(lambda: engine.in_queue(foreign), "the other job is there")
        job.cancel()
        assert sandbox.grid.qdel(job) == []
        assert engine.in_queue(foreign), "another job was stopped"
        if (engine.name, name) != (
            "gridengine",
            "worker",
        ):  # its list tells only names: of one name it may show that job
            assert end(job, 30) == ("FAILED", None, VANISHED)
    finally:
        engine.delete(foreign)


def test_an_account_of_another_job_is_not_mine(sandbox, engine):
    """That it did well says nothing of mine."""
    job = waiting(sandbox, engine)
    engine.delete(job.id)
    sandbox.write("good.py", "")
    other = sandbox.submit("good.py")
    assert end(other) == ("DONE", 0, "")
    set_id(job, other.id)
    [job] = [one for one in sandbox.grid.jobs() if one.folder == job.folder]
    until(lambda: not engine.in_queue(other.id) or engine.name == "slurm", "the other one has left the queue")
    assert end(job, 30) == ("FAILED", None, VANISHED)


def test_a_list_that_lacks_the_job_is_no_end_and_no_stop_gets_lost(sandbox, engine):
    """As after a wrong answer: asked for this very job, the scheduler knows it."""
    job, _ = running(sandbox)
    engine.empty_list(sandbox)
    assert job.state == "RUNNING" and not list(job.folder.glob("*/lost.json"))
    assert sandbox.grid.qdel(job) == [job.id]  # it is told all the same
    assert end(job, 30) == ("CANCELLED", 143, "stopped on request")


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_log_file_that_leads_elsewhere_is_refused(sandbox, engine, kind):
    job = waiting(sandbox, engine, "print('output')")
    precious = sandbox.home / "precious"
    precious.write_text("mine\n")
    if kind == "link":
        job.stdout.symlink_to(precious)
    else:
        os.mkfifo(job.stdout)
    engine.release(job)
    assert end(job) == (
        *("FAILED", 1),
        f"the log file {job.stdout} is not a file of yours; remove it, or pass another log_dir",
    )
    assert precious.read_text() == "mine\n"


BEGINS = """
import os, time
runs = open("runs", "a")
print("begin", file=runs, flush=True)
first = not os.path.exists("pid")
open("pid", "w").write(str(os.getpid()))
if first:
    time.sleep(100)
print("end", file=runs, flush=True)"""


def test_a_job_that_the_scheduler_begins_anew_has_one_record_and_runs_once_at_a_time(sandbox, engine):
    job, worker = running(sandbox, BEGINS, options=engine.begin_anew)
    engine.requeue(job)
    until(lambda: not os.path.exists(f"/proc/{worker}"), "the first run has ended")
    until(lambda: (sandbox.path / "runs").read_text().endswith("end\n"), "it has run anew", 120)
    assert (sandbox.path / "runs").read_text() == "begin\nbegin\nend\n"
    until(lambda: not engine.in_queue(job.id) or engine.name == "slurm", "it has left the queue")
    until(lambda: job.state == "DONE", "its state is that of the second run")
    assert [path.name for path in job.folder.glob("*/records/*")] == ["1.exit-0"] and job.ids == [job.id]
