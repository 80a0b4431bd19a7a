"""The promise: processes that submit, run again, stop and watch one job at the same time do not get in each other's way.

The Grid Engine is a fake that keeps its queue in a file. Its qsub and qstat take as long as the files `slow` and `qslow` say;
`begun` has a line for each qsub that has begun, `calls` for each that has ended.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest

QSUB = r"""
echo x >>begun
sleep "$(cat slow)"
echo "$@" >>calls
id=$((100 + $(wc -l <calls)))
tasks=$(echo "$@" | sed -n 's/.*-t 1-\([0-9]*\).*/\1/p')
printf '%s\t%s\t%s\n' "$id" "$tasks" "${@: -1}" >>queue
echo "$id${tasks:+.1-$tasks:1}"
"""
QSTAT = r"""
if [ "$1" = -xml ]; then
    known=$(cat queue)
    sleep "$(cat qslow)"
    echo "<job_info><queue_info>"
    while IFS=$'\t' read -r id rest; do
        tasks=${rest%%$'\t'*}
        echo "<job_list><JB_job_number>$id</JB_job_number><state>qw</state>${tasks:+<tasks>1-$tasks:1</tasks>}</job_list>"
    done < <(printf %s "${known:+$known$'\n'}")
    echo "</queue_info></job_info>"
else
    while IFS=$'\t' read -r id rest; do
        printf '%s\n' ============================================================== "job_number:    $id" \
            "script_file:    ${rest#*$'\t'}"
    done <queue
fi
"""
QDEL = r"""
for id in "$@"; do
    if grep -q "^$id	" queue; then sed -i "/^$id	/d" queue; else echo "denied: job \"$id\" does not exist"; failed=1; fi
done
exit "${failed:-0}"
"""
ARRAY = "grid.submit_array('worker.py', [[n] for n in range(1, 7)], log_dir='logs')"
SINGLE = "grid.submit_script('worker.py', log_dir='logs')"
AGAIN = "grid.jobs()[0].resubmit()"


@pytest.fixture
def site(folder, monkeypatch):
    """A folder with this Grid Engine, which takes two tasks at once; site.elsewhere(code) runs code in another process."""
    monkeypatch.setenv("GRID_SCHEDULER", "gridengine")
    for name, text in {"worker.py": "", "queue": "", "calls": "", "begun": "", "slow": "0", "qslow": "0"}.items():
        folder.write(name, text)
    for name, text in {"qsub": QSUB, "qstat": QSTAT, "qdel": QDEL, "qacct": "exit 1"}.items():
        folder.program(name, text)
    folder.program("qconf", "echo 'max_aj_tasks   2'")
    folder.grid._GridEngine.usual_most = 2
    folder.grid.GRACE = 0.5
    started = []

    def elsewhere(code, begun):
        """Returns when so many submissions have begun in all."""
        code = f"import grid\ngrid._GridEngine.usual_most = 2\n{code}"
        started.append(subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True))
        folder.wait_until(lambda: len(lines(folder, "begun")) >= begun, f"{begun} submissions have begun")
        return started[-1]

    folder.elsewhere = elsewhere
    yield folder
    for process in started:
        process.kill()
        process.wait()


def lines(site, name):
    return (site.path / name).read_text().splitlines()


def queue(site):
    """The ids that the scheduler has."""
    return [line.split("\t")[0] for line in lines(site, "queue")]


def end(site, job, code=3):
    """All tasks of a job have ended."""
    site.write("queue", "")
    for task, (piece, _) in job.places().items():
        (job.folder / f"records/{task}.{piece['attempt']}.exit-{code}").write_text(f"id: {piece['id']}\n")


def submit(site, tasks=6, **keywords):
    return site.grid.submit_array("worker.py", [[n] for n in range(tasks)], log_dir="logs", **keywords)


# --- Who submits ------------------------------------------------------------------------------------------------------


def test_a_job_is_being_submitted_as_long_as_its_submitter_or_its_qsub_lives(site):
    site.write("slow", "4")
    process = site.elsewhere(ARRAY, 1)
    [job] = site.grid.jobs()
    os.utime(job.folder / "record.json", (0, 0))  # however long it takes
    job = site.grid.Job(job.folder)
    assert (job.counts["PENDING"], job.tasks[5].reason) == (6, "being submitted")
    process.kill()
    process.wait()
    assert job.tasks[0].reason == "being submitted", "qsub is still at work, and will submit it"
    with pytest.raises(site.grid.SubmitError, match="another process submits tasks of <Job None worker> just now"):
        job.resubmit()
    site.wait_until(lambda: queue(site), "qsub has ended")
    job = site.grid.Job(job.folder)
    site.wait_until(lambda: job.counts["FAILED"] == 4, "it is known that the rest was not submitted")
    assert job.id == "101" and job.tasks[5].reason.startswith("it never reached the scheduler")


def test_a_submission_that_ends_while_the_queue_is_read_is_no_failure(site):
    site.write("slow", "1")
    site.write("qslow", "3")
    site.elsewhere(SINGLE, 1)
    [job] = site.grid.jobs()
    with pytest.raises(site.grid.JobTimeout):
        job.wait(1)
    assert queue(site) == ["101"]


def test_a_job_that_begins_while_the_queue_is_read_has_not_vanished(site):
    begin = 'printf "id: $id\\nhost: n1\\n" >"$(dirname "${@: -1}")/records/1.1.running"'
    site.program("qsub", QSUB + begin)
    site.write("slow", "1")
    site.write("qslow", "2")
    site.elsewhere(SINGLE, 1)
    [job] = site.grid.jobs()
    assert job.state == "RUNNING"
    site.write("qslow", "0")
    assert (job.state, site.grid.Job(job.folder).id) == ("PENDING", "101"), "a verdict was written down"


def test_after_ctrl_c_a_qsub_that_is_still_at_work_is_waited_for(site):
    """qsub is a script of the site's, which Ctrl-C ends without its program."""
    site.program("qsub.real", QSUB)
    site.program("qsub", 'qsub.real "$@"\nexit $?')
    site.write("slow", "3")
    ctrl_c = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    process = site.elsewhere(ctrl_c + SINGLE, 1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) and not queue(site)
    [job] = site.grid.jobs()
    time.sleep(1)
    assert (job.state, job.reason) == ("PENDING", "being submitted")
    with pytest.raises(site.grid.SubmitError, match="another process submits"):
        job.resubmit()
    site.wait_until(lambda: queue(site), "qsub has ended")
    assert (job.state, job.id) == ("PENDING", "101")


def test_a_job_that_the_scheduler_takes_after_it_was_given_up_is_not_submitted_twice(site):
    """The master is overloaded: neither qsub nor qstat answers in time."""
    site.program("qsub.real", QSUB)
    late = (
        'exec >/dev/null 2>&1; for fd in /proc/$BASHPID/fd/*; do [ ${fd##*/} -lt 3 ] || eval "exec ${fd##*/}>&-"; done'
    )
    site.program("qsub", f'( {late}; sleep 7; exec setsid qsub.real "$@" ) & exec sleep 100')
    site.program("qstat", "exit 1")
    site.grid.CALL_TIMEOUT, site.grid.RETRY_FOR = 2, 3
    with pytest.raises(site.grid.SubmitError, match="Whether it has the job is not known"):
        site.grid.submit_script("worker.py", log_dir="logs")
    site.program("qstat", QSTAT)
    [job] = site.grid.jobs()
    assert (job.state, job.reason, job.being_submitted()) == ("PENDING", "being submitted", False)
    with pytest.raises(site.grid.GridError, match="no task to run again"):
        job.resubmit()
    site.wait_until(lambda: queue(site), "it is there")
    assert (site.grid.Job(job.folder).state, queue(site)) == ("PENDING", ["101"])


def test_a_thread_that_watches_sees_what_another_one_submits(site):
    job = submit(site, 2)
    end(site, job)
    site.write("slow", "2.5")
    thread = threading.Thread(target=job.resubmit)
    thread.start()
    site.wait_until(lambda: len(lines(site, "begun")) == 2, "it is being submitted")
    time.sleep(1.5)
    counts = job.counts
    thread.join()
    assert counts["PENDING"] == 2 and job.counts["PENDING"] == 2


def test_one_process_at_a_time_runs_tasks_again(site):
    job = submit(site, 2)
    end(site, job)
    site.write("slow", "2")
    process = site.elsewhere(AGAIN, 2)
    with pytest.raises(site.grid.SubmitError, match="another process submits tasks of <Job 101 worker> just now"):
        job.resubmit()
    assert process.wait(60) == 0 and queue(site) == ["102"]
    assert job.counts["PENDING"] == 2, "a Job that was made before does not see the retry of the other process"
    assert job.ids == ["101", "102"] and job.attempt == 2
    with pytest.raises(site.grid.GridError, match="no task to run again"):
        job.resubmit()


def test_one_thread_at_a_time_runs_tasks_again(site):
    job, errors = submit(site), []
    end(site, job)
    site.write("slow", "1")

    def again():
        try:
            job.resubmit()
        except site.grid.SubmitError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=again) for _ in range(2)]
    for thread in threads:
        thread.start()
        time.sleep(0.5)
    for thread in threads:
        thread.join()
    assert len(errors) == 1 and "another process submits" in errors[0]
    assert site.grid.Job(job.folder).ids == [str(101 + n) for n in range(6)]


def test_without_locks_nothing_is_submitted_twice(site):
    """As on some network file systems."""
    site.write("slow", "1.5")
    none = "import fcntl\ndef flock(*_): raise OSError(37, 'No locks available')\nfcntl.flock = flock\n"
    first = site.elsewhere(none + ARRAY, 2)
    second = site.elsewhere(none + AGAIN, 2)
    assert second.wait(60) == 1 and "no task to run again" in second.stderr.read()
    assert first.wait(60) == 0 and queue(site) == ["101", "102", "103"]


def test_a_process_that_was_forked_meanwhile_does_not_keep_the_job(site):
    site.write("slow", "1")
    children = []

    def fork():
        time.sleep(0.5)
        children.append(subprocess.Popen(["sleep", "20"], close_fds=False))
        if not (child := os.fork()):
            time.sleep(20)
            os._exit(0)
        children.append(child)

    thread = threading.Thread(target=fork)
    thread.start()
    job = submit(site, 1)
    thread.join()
    end(site, job)
    try:
        assert job.resubmit().ids == ["101", "102"]
    finally:
        children[0].kill()
        children[0].wait()
        os.kill(children[1], 9)
        os.waitpid(children[1], 0)


def test_a_job_travels_to_other_processes(site, monkeypatch):
    monkeypatch.setitem(sys.modules, "grid", site.grid)
    job = submit(site)
    assert pickle.loads(pickle.dumps(job)).ids == job.ids


# --- Who stops --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [0, 1, 2])
def test_a_job_stopped_while_it_is_submitted_is_stopped_whole(site, pieces):
    site.write("slow", "1.5")
    process = site.elsewhere(ARRAY, pieces + 1)
    [job] = site.grid.jobs()
    job.cancel()
    assert process.wait(60) == 1 and "was stopped while it was submitted" in process.stderr.read()
    assert len(lines(site, "calls")) == pieces + 1, "more was submitted after the stop"
    assert queue(site) == [], "a piece was left in the queue"
    site.wait_until(lambda: job.counts["CANCELLED"] == 6, "all tasks are seen as cancelled")


@pytest.mark.parametrize("slow, qslow", [("1", "2"), ("2.5", "1.5")])
def test_a_stop_is_not_lost_when_the_submission_ends_while_the_queue_is_read(site, slow, qslow):
    site.write("slow", slow)
    site.write("qslow", qslow)
    process = site.elsewhere(SINGLE, 1)
    [job] = site.grid.jobs()
    job.cancel()
    process.wait(60)
    assert queue(site) == [], "cancel() returned, and the job goes on"


def test_a_stop_reaches_a_retry_that_another_process_has_made(site):
    job = submit(site, 2)
    end(site, job)
    assert job.state == "FAILED"
    site.grid.Job(job.folder).resubmit()
    assert site.grid.qdel(job) == ["102"] and queue(site) == []


def test_a_stop_reaches_a_retry_that_another_process_is_making(site):
    job = submit(site)
    end(site, job)
    assert job.state == "FAILED"
    site.write("slow", "1.5")
    told = []
    site.grid._GridEngine.cancel = lambda engine, ids, again: told.append((ids, again))
    process = site.elsewhere(AGAIN, 5)  # the second piece of the retry
    site.grid.qdel(job)
    assert process.wait(60) == 1 and "was stopped while it was submitted" in process.stderr.read()
    assert told == [(["104"], False)], "told twice to stop at the first time, which kills in the background"
    assert queue(site) == ["104"] and len(lines(site, "calls")) == 5


def test_a_stop_while_a_retry_is_prepared_is_not_lost(site):
    job = submit(site)
    end(site, job)
    site.write("queue", "103\t2\tx\n")
    for task in (5, 6):
        (job.folder / f"records/{task}.1.exit-3").unlink()
    site.write("qslow", "3")
    process = site.elsewhere(AGAIN, 3)
    site.wait_until(job.being_submitted, "it has the lock")
    time.sleep(0.5)  # it asks the scheduler now
    site.write("qslow", "0")
    job.cancel()
    assert process.wait(60) == 1 and "was stopped while it was submitted" in process.stderr.read()
    assert queue(site) == []


def test_a_submitter_that_cannot_stop_its_job_says_so(site):
    site.write("slow", "1.5")
    site.program("qdel", "echo 'error: commlib error: got select error' >&2; exit 1")
    process = site.elsewhere(SINGLE, 1)
    site.grid.jobs()[0].cancel()
    process.wait(60)
    assert "but 101 may go on: qdel refuses" in process.stderr.read() and queue(site) == ["101"]


def test_a_stop_of_what_nobody_knew_to_be_submitted_is_carried_out_when_it_is_found(site):
    """qsub fails after the scheduler has got the job, which cannot be asked; meanwhile comes the stop."""
    site.program("qsub", f"({QSUB}) >/dev/null; sleep 3; exit 1")
    process = site.elsewhere(f"grid.RETRY_FOR = 1\n{SINGLE}", 1)
    [job] = site.grid.jobs()
    site.wait_until(lambda: queue(site), "the scheduler has it")
    site.program("qstat", "[ $1 != -j ] || exit 1\n" + QSTAT)
    assert site.grid.qdel(job) == [], "it has an id already"
    site.program("qstat", "exit 1")
    assert process.wait(60) == 1 and "not known" in process.stderr.read()
    site.program("qstat", QSTAT)
    site.wait_until(lambda: site.grid.jobs()[0].state == "CANCELLED", "the job is stopped")
    assert queue(site) == []


def without_id(site, job):
    """As it is when the submitter was killed before it could write down the id."""
    job.record["pieces"][0]["id"] = None
    job.save()
    return site.grid.Job(job.folder)


def test_a_stop_of_what_is_found_is_tried_until_the_scheduler_obeys(site):
    job = submit(site, 1)
    job.mark_cancelled()
    site.program("qdel", "echo 'error: commlib error: got select error' >&2; exit 1")
    assert without_id(site, job).counts["PENDING"] == 1
    site.program("qdel", QDEL)
    site.wait_until(lambda: site.grid.Job(job.folder).counts["CANCELLED"] == 1, "it is stopped")
    assert queue(site) == []


def test_a_job_without_an_id_cannot_be_stopped_but_all_others_are(site):
    job = without_id(site, submit(site, 1))
    site.write("queue", "")
    other = submit(site, 1)
    with pytest.raises(site.grid.SubmitError, match="cannot be stopped: its id is not known") as caught:
        site.grid.qdel([job, other])
    assert caught.value.job is job and queue(site) == []


def test_marks_that_cannot_be_read_for_a_moment_stop_nothing(site):
    job = submit(site)
    job.cancel()
    assert job.state == "CANCELLED"
    load = site.grid._load

    def stale(path):
        if str(path).endswith("cancelled") and len(lines(site, "calls")) == 4:
            raise OSError("Stale file handle")
        return load(path)

    site.grid._load = stale
    assert len(job.resubmit().ids) == 6


# --- What the disk does -----------------------------------------------------------------------------------------------


def full(*_, **__):
    raise OSError("No space left on device")


def test_a_disk_that_stays_full_does_not_lose_what_is_in_the_queue(site):
    save = site.grid._save
    site.grid._save = lambda *file: (full if lines(site, "calls") else save)(*file)
    with pytest.raises(site.grid.SubmitError, match="(?s)2 of 6 tasks are submitted.*No space left"):
        submit(site)
    site.grid._save = save
    assert queue(site) == ["101"]
    site.grid.GRACE = 0
    [job] = site.grid.jobs()
    assert job.counts["PENDING"] == 2 and job.id == "101"


def test_a_disk_that_is_full_from_the_beginning_leaves_nothing(site):
    site.grid.open = lambda path, *how, **more: (full if str(path).endswith("lock") else open)(path, *how, **more)
    with pytest.raises(site.grid.SubmitError, match="cannot be written: No space left"):
        submit(site)
    assert site.jobs() == []


def test_a_disk_that_is_full_for_a_retry_is_a_clear_error(site):
    job = submit(site, 1)
    end(site, job)
    save, site.grid._save = site.grid._save, full
    with pytest.raises(site.grid.SubmitError, match="nothing can be submitted from .*: No space left"):
        job.resubmit()
    site.grid._save = save
    assert (job.state, job.attempt, queue(site)) == ("FAILED", 1, [])


def test_a_job_that_has_filled_the_disk_can_be_stopped(site):
    job = submit(site, 2)
    site.grid._save = full
    job.cancel()
    assert queue(site) == []


def test_a_folder_in_which_one_may_only_read_tells_its_states(site):
    job = submit(site, 2)
    (job.folder / "records/1.1.running").write_text("id: 101\nhost: n1\n")

    def refused(*_, **__):
        raise PermissionError("Operation not permitted")

    site.grid._save = refused
    site.grid.os = type(sys)("os")
    vars(site.grid.os).update(vars(os), utime=refused)
    site.write("queue", "")
    assert [task.reason.partition(":")[0] for task in job.tasks] == ["vanished", "vanished"]
    assert "began on n1" in job.tasks[0].reason


def test_a_broken_record_of_the_job_before_does_no_harm(site):
    before = submit(site, 1)
    job = submit(site, 1, after=before)
    end(site, job)
    (before.folder / "record.json").write_text("{")
    assert job.resubmit().ids == ["102", "103"]
    assert "-hold_jid 101 " in lines(site, "calls")[-1]


# --- Chains -----------------------------------------------------------------------------------------------------------


def test_no_more_run_at_a_time_than_was_said_also_when_some_run_again(site):
    job = submit(site, 4, max_running=1)
    assert "-hold_jid 101 " in lines(site, "calls")[1]
    (job.folder / "records/1.1.exit-3").write_text("id: 101\n")
    job.resubmit()
    assert "-hold_jid 102 " in lines(site, "calls")[2]
    # nor after an interruption between the submission and the writing down of its id
    site.write("queue", "")
    job.record["pieces"][-1]["id"] = None
    job.save()
    time.sleep(site.grid.GRACE)
    job.resubmit()
    assert "-hold_jid 102 " in lines(site, "calls")[3]


def test_a_job_that_runs_again_waits_for_the_retries_of_the_one_before_it(site):
    before = submit(site, 1)
    after = submit(site, 1, after=before)
    for job in (before, after):
        end(site, job)
        site.grid.Job(job.folder).resubmit()
    assert "-hold_jid 101,103 " in lines(site, "calls")[-1] and site.grid.Job(after.folder).ids == ["102", "104"]
