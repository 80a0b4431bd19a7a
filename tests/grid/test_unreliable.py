"""The promise: whatever the scheduler's commands do, nothing hangs, nothing is submitted twice, and no state is made up.

These fakes do what a real Grid Engine will not do on demand.
"""

import os
import shutil
import subprocess
import sys
import time

import pytest
from workplace import GRID

EMPTY = "<?xml version='1.0'?><job_info><queue_info></queue_info><job_info></job_info></job_info>"
KNOWS = """
case $1 in
-xml) echo "<job_info><job_list><JB_job_number>41</JB_job_number><JB_name>n</JB_name><state>qw</state></job_list></job_info>" ;;
-j) printf '%s\\n' ==============================================================  "job_number:                 41" \
    "script_file:                $(cat script)" "binding:                    NONE" ;;
esac"""


@pytest.fixture
def site(folder, monkeypatch):
    """A folder for jobs of a fake Grid Engine; with no patience, to be quick."""
    monkeypatch.setenv("GRID_SCHEDULER", "gridengine")
    folder.write("worker.py", "")
    folder.program("qstat", f'echo "{EMPTY}"')
    folder.program("qsub", 'echo x >>submitted; echo "${@: -1}" >script; echo 41')
    folder.program("qacct", "exit 1")
    folder.grid.CALL_TIMEOUT = 1
    folder.grid.GRACE = 0.5
    folder.grid.RETRY_FOR = 3
    return folder


def submit(site):
    return site.grid.submit_script("worker.py", log_dir="logs")


def calls(site):
    return len((site.path / "submitted").read_text().split())


DOWN = 'echo "error: commlib error: got select error (Connection refused)" >&2; exit 1'


@pytest.mark.parametrize(
    "qstat",
    ["sleep 100", "echo garbage", "echo '<?xml version=\"1.0\"?><job_info><job_li'", "exit 3", DOWN, "kill -9 $$"],
)
def test_a_queue_that_cannot_be_read_changes_no_state(site, qstat):
    job = submit(site)
    site.program("qstat", qstat)
    assert (job.state, job.reason) == ("PENDING", "the scheduler does not answer")
    (job.folder / "records" / "1.1.running").write_text("id: 41\nhost: node1\n")
    assert job.state == "RUNNING"
    with pytest.raises(site.grid.JobTimeout):
        job.wait(2)
    (job.folder / "records" / "1.1.running").rename(job.folder / "records" / "1.1.exit-0")
    assert job.wait(10) is job and job.state == "DONE"


def test_a_queue_that_recovers_is_believed_again(site):
    job = submit(site)
    site.program("qstat", f'echo x >>polls; [ $(wc -l <polls) -gt 3 ] || exit 1; echo "{EMPTY}"')
    with pytest.raises(site.grid.JobFailed, match="vanished: it left the queue and never began"):
        job.wait(30)
    assert len((site.path / "polls").read_text().split()) > 3


def test_a_record_that_arrives_late_wins(site):
    job = submit(site)
    with pytest.raises(site.grid.JobFailed, match="vanished"):
        job.wait(30)
    (job.folder / "records" / "1.1.exit-0").write_text("id: 41\n")
    assert site.grid.Job(job.folder).state == job.state == "DONE"


def test_a_qsub_that_hangs_is_a_clear_error_in_bounded_time(site):
    site.program("qsub", "echo x >>submitted; sleep 100")
    begin = time.monotonic()
    with pytest.raises(site.grid.SubmitError, match="qsub did not answer within 1 seconds"):
        submit(site)
    assert time.monotonic() - begin < 20 and calls(site) >= 1


def test_a_qsub_that_hangs_after_it_got_through_is_not_repeated(site):
    site.program("qsub", 'echo x >>submitted; echo "${@: -1}" >script; sleep 100')
    site.program("qstat", KNOWS)
    assert submit(site).id == "41" and calls(site) == 1


def test_notices_around_the_id(site):
    site.program("qsub", "echo x >>submitted; echo 'Dear user 7,'; echo 41; echo 'have a nice day'")
    assert submit(site).id == "41"


def test_an_id_and_a_failure_is_looked_up(site):
    site.program("qsub", 'echo x >>submitted; echo "${@: -1}" >script; echo 41; exit 1')
    with pytest.raises(site.grid.SubmitError, match="qsub refuses"):
        submit(site)
    site.program("qstat", KNOWS)
    assert submit(site).id == "41" and calls(site) == 2


def test_no_id_and_no_failure_is_looked_up(site):
    site.program("qsub", 'echo x >>submitted; echo "${@: -1}" >script')
    with pytest.raises(site.grid.SubmitError, match="did not answer with a job's id but with: nothing"):
        submit(site)
    assert site.jobs() == []
    site.program("qstat", KNOWS)
    assert submit(site).id == "41" and calls(site) == 2


def test_a_scheduler_that_comes_back_gets_the_job_once(site, capsys):
    site.program("qsub", f"echo x >>tries; [ $(wc -l <tries) -gt 2 ] || {{ {DOWN}; }}; echo x >>submitted; echo 41")
    site.grid.RETRY_FOR = 20
    assert submit(site).id == "41" and calls(site) == 1
    assert "qsub does not answer; trying for 20 seconds" in capsys.readouterr().err


def test_a_scheduler_that_stays_away_is_a_clear_error(site):
    site.program("qsub", DOWN)
    with pytest.raises(site.grid.SubmitError, match="Connection refused"):
        submit(site)
    assert site.jobs() == [], "something half-submitted is left"


def test_when_nobody_can_tell_whether_the_job_is_there_its_folder_stays(site):
    site.program("qsub", "echo strange; exit 1")
    site.program("qstat", DOWN)
    with pytest.raises(site.grid.SubmitError, match="(?s)strange.*not known; it will be seen in"):
        submit(site)
    [job] = site.grid.jobs()
    assert job.id is None and job.state == "PENDING"
    site.program("qstat", KNOWS)
    site.write("script", f"{job.folder}/job.sh")
    assert job.state == "PENDING" and site.grid.jobs()[0].id == "41"


def test_an_interrupted_submission_is_found_or_known_to_have_failed(site):
    job = submit(site)
    job.record["pieces"][0]["id"] = None
    job.save()
    with job.lock():
        os.utime(job.folder / "record.json", (0, 0))
        again = site.grid.Job(job.folder)
        assert (again.state, again.reason) == ("PENDING", "being submitted"), "the submitter is alive"
    job.save()
    again = site.grid.Job(job.folder)
    assert (again.state, again.reason) == ("PENDING", "being submitted"), "a qsub may still be at work"
    time.sleep(site.grid.GRACE)
    assert again.state == "FAILED" and "never reached the scheduler" in again.reason
    (job.folder / "records" / "1.1.exit-0").write_text("id: 99\n")  # the job itself tells its id
    assert site.grid.Job(job.folder).state == "DONE" and site.grid.Job(job.folder).id == "99"


def test_the_words_of_a_script_are_not_those_of_the_scheduler(site):
    job = submit(site)
    (job.folder / "records/1.1.exit-1").write_text("id: 41\nreason: RuntimeError: the motor is in error state 7\n")
    site.program("qdel", "echo 'denied: job \"41\" does not exist'; exit 1")
    assert (job.state, job.reason) == ("FAILED", "RuntimeError: the motor is in error state 7")
    job.cancel()
    assert job.resubmit().attempt == 2


RUN = 'JOB_ID=41 bash "${@: -1}" >/dev/null 2>&1'


@pytest.mark.parametrize("after", ["sleep 100", "echo 41; exit 1", ":", DOWN])
def test_a_job_that_has_ended_before_qsub_fails_is_not_repeated(site, after):
    """It is in the queue no more; its own record tells that it was there."""
    site.program("qsub", f"echo x >>submitted; {RUN}; {after}")
    job = submit(site)
    assert (job.id, job.state, calls(site)) == ("41", "DONE", 1)


def test_a_second_copy_of_a_job_does_not_run(site):
    site.write("worker.py", "open('ran', 'a').write('x')")
    site.program("qsub", f"{RUN}; {RUN.replace('41', '42')}; echo 41")
    assert submit(site).state == "DONE" and (site.path / "ran").read_text() == "x"


@pytest.mark.parametrize("lives", [True, False])
def test_of_two_copies_of_a_job_the_one_that_runs_counts(site, lives):
    job = submit(site)
    site.program("qacct", '[ "$2" = 43 ] || { echo "failed 0"; echo "exit_status 0"; }')
    site.program("qdel", 'echo "$@" >deleted')
    (job.folder / "records" / "1.1.running").write_text("id: 43\nhost: n1\n")
    row = "<job_list><JB_job_number>43</JB_job_number><state>r</state></job_list>" * lives
    site.program("qstat", f"echo '<job_info><queue_info>{row}</queue_info></job_info>'")
    if lives:
        assert (job.state, job.reason, job.id) == ("RUNNING", "", "43")
        assert site.grid.qdel(job) == ["43"] and (site.path / "deleted").read_text() == "43\n"
    else:
        assert job.state == "FAILED" and job.reason.startswith("vanished: it began on n1")


def test_a_queue_that_cannot_tell_the_scripts_is_no_reason_to_submit_again(site):
    site.program("qsub", f"echo x >>submitted; sleep 100")
    site.program("qstat", KNOWS.replace("-j) ", "-j) echo internal trouble; exit 1; "))
    with pytest.raises(site.grid.SubmitError, match="Whether it has the job is not known"):
        submit(site)
    assert calls(site) == 1


def test_it_tries_for_as_long_as_it_says(site, monkeypatch):
    clock, calls = [0.0], []

    def no_answer(*_):
        calls.append(clock[0])
        raise site.grid.Unreachable("Connection refused")

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    monkeypatch.setattr(site.grid, "_call", no_answer)
    site.grid.RETRY_FOR = 60
    with pytest.raises(site.grid.SubmitError, match="Connection refused"):
        submit(site)
    assert calls[-1] - calls[0] == pytest.approx(60)


def test_a_refused_cancel_is_not_remembered(site):
    job = submit(site)
    site.program("qstat", KNOWS)
    site.program("qdel", "echo denied; exit 1")
    with pytest.raises(site.grid.SubmitError, match="denied"):
        job.cancel()
    (job.folder / "records" / "1.1.exit-3").write_text("id: 41\n")
    assert (job.state, job.exit_code) == ("FAILED", 3)


def test_a_verdict_is_reached_once(site):
    """qacct reads the whole accounting file of a site."""
    site.program("qacct", "echo x >>accounted; exit 1")
    job = submit(site)
    for _ in range(3):
        assert site.grid.Job(job.folder).state == "FAILED"
    assert (site.path / "accounted").read_text().split() == ["x"]


def test_stopping_all_costs_one_call_for_all(site):
    rows = "".join(f"<job_list><JB_job_number>{n}</JB_job_number><state>qw</state></job_list>" for n in range(1, 11))
    site.program("qsub", "echo x >>submitted; wc -l <submitted")
    site.program("qstat", f'echo x >>asked; echo "<job_info>{rows}</job_info>"')
    site.program("qdel", 'echo "$@" >>deleted')
    for _ in range(10):
        submit(site)
    subprocess.run([sys.executable, shutil.copy(GRID.with_name("gridctl.py"), "."), "stop", "all"], check=True)
    assert [len(line.split()) for line in (site.path / "deleted").read_text().splitlines()] == [10]
    assert len((site.path / "asked").read_text().split()) <= 2


def test_waiting_can_be_interrupted_without_harm(folder):
    import signal
    import threading

    folder.write("worker.py", "import time; time.sleep(2)")
    job = folder.grid.submit_script("worker.py", log_dir="logs")
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        job.wait()
    assert job.wait(30).state == "DONE"
