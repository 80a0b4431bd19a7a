"""The promise of arrays: many tasks are one job, each has its own arguments and its own end, and only what failed runs again."""

import os
import pickle
import re
import subprocess
import sys

import pytest

from engines import VANISHED
from sandbox import room, until
from test_promises import nasty_values
from values import same

# Task by task: its number, how it ends the first time, and values that it leaves in a file.
WORKER = """
import os, pickle, sys, time
from grid import typecast
number, how, *values = typecast()
with open(f"got-{number}", "ab") as file:
    file.write(b".")
    pickle.dump(values, file)
print("task", number)
if not os.path.exists(f"again-{number}"):
    open(f"again-{number}", "w").close()
    exec(how)
"""
ENDS = {  # what a script does: how its task ends
    "sys.exit(3)": (3, "exit code 3"),
    "raise ValueError(f'bad {number}')": (1, "ValueError: bad {number}"),
    "os.kill(os.getpid(), 9)": (137, "killed by SIGKILL, as the system does when memory runs out"),
    "import resource; resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9)); bytearray(2 * 10**9)": (1, "MemoryError"),
    "os.kill(os.getpid(), 11)": (139, "killed by SIGSEGV"),
    "os.killpg(0, 9)": (137, "killed with all"),
}


def submit(sandbox, tasks, text=WORKER, **keywords):
    sandbox.write("worker.py", text)
    return sandbox.grid.submit_array("worker.py", tasks, log_dir="logs", **keywords)


def wait(sandbox, job, timeout=120):
    """Wait until all tasks have ended, however."""
    try:
        job.wait(timeout)
    except sandbox.grid.JobFailed:
        pass
    return job.counts


def take_at_most(most, engine, monkeypatch):
    """As on a site that takes only so many tasks at once."""
    kind = room("schedulers").SCHEDULERS[engine.name]
    monkeypatch.setattr(kind, "default_max_tasks", most)
    monkeypatch.setattr(kind, "max_tasks", lambda self: most)


# the same in another process
TAKE_AT_MOST = """
import grid, os
from gridlib.schedulers import SCHEDULERS
kind = SCHEDULERS[os.environ["GRID_SCHEDULER"]]
kind.default_max_tasks, kind.max_tasks = {most}, lambda self: {most}
"""


def count_calls(sandbox, program, then=""):
    """From now on calls(sandbox) counts how often a program of the scheduler is called."""
    sandbox.program(
        program, f'echo x >>"$HOME/calls"; calls=$(wc -l <"$HOME/calls"); {then}\nexec /usr/bin/{program} "$@"'
    )


def calls(sandbox):
    path = sandbox.home / "calls"
    return path.read_text().count("x") if path.exists() else 0


def check_random_tasks(sandbox, engine, number):
    """So many tasks with random values; one in ten fails, in ways that take turns. Then those run again."""
    pool, ways = nasty_values(number), list(ENDS)
    tasks = []
    for task in range(1, number + 1):
        how = "" if task % 10 else ways[task // 10 % len(ways)]
        tasks.append([task, how, *(pool[(3 * task + offset) % len(pool)] for offset in range(3))])
    bad = list(range(10, number + 1, 10))
    job = submit(sandbox, tasks)
    assert {key: count for key, count in wait(sandbox, job, 1500).items() if count} == {
        "DONE": number - len(bad),
        "FAILED": len(bad),
    }
    assert (job.state, job.exit_code) == ("FAILED", job.tasks[9].exit_code) and f"{len(bad)} failed: 10," in job.reason
    first, logs = job.id, job.tasks[9].stdout
    for task, args in zip(job.tasks, tasks):
        code, reason = ENDS.get(args[1], (0, ""))
        reason = engine.reasons.get(reason, reason).format(number=task.number)
        assert (task.state, task.exit_code, task.reason) == ("FAILED" if code else "DONE", code, reason)
        assert task.stdout.read_text() == f"task {task.number}\n"
        assert task.stdout.name == f"worker.o{first}.{task.number}"
        assert ("ValueError: bad" in task.stderr.read_text()) is ("ValueError" in args[1])
    records = names_of_records(job)

    job.resubmit()
    assert wait(sandbox, job, 600)["DONE"] == number and (job.state, job.exit_code, job.reason) == (
        *("DONE", 0),
        f"all {number} tasks done",
    )
    assert len(job.ids) == 2 and job.id == first != job.ids[1]
    again = {f"2/records/{task}.exit-0" for task in bad}
    assert names_of_records(job) == records | again, "earlier records are kept"
    assert logs.exists() and job.tasks[9].stdout.name == f"worker.o{job.ids[1]}.10"
    for task, args in zip(job.tasks, tasks):
        runs = (sandbox.path / f"got-{task.number}").read_bytes()
        got = pickle.dumps(args[2:])
        count = 2 if task.number in bad else 1
        got = [pickle.loads(run) for run in split_runs(runs)]
        assert len(got) == count and all(same(one, args[2:]) for one in got)
    with pytest.raises(sandbox.grid.GridError, match="has no failed tasks"):
        job.resubmit()


def names_of_records(job):
    return {str(path.relative_to(job.folder)) for path in job.folder.glob("*/records/*")}


def split_runs(data):
    """The pickles that runs have left one after the other, each after a dot."""
    import io

    file, found = io.BytesIO(data), []
    while file.read(1):
        begin = file.tell()
        pickle.load(file)
        found.append(data[begin : file.tell()])
    return found


def test_each_of_sixty_tasks_has_its_own_end_and_only_the_failed_run_again(sandbox, engine):
    check_random_tasks(sandbox, engine, 60)


@pytest.mark.long
def test_five_hundred_tasks(sandbox, engine):
    check_random_tasks(sandbox, engine, 500)


def test_no_more_run_at_once_than_was_said_in_all_submissions_together(sandbox, engine, monkeypatch):
    take_at_most(4, engine, monkeypatch)
    text = "import time\nfrom grid import typecast\n[number] = typecast()\nbegin = time.time()\ntime.sleep(0.7)\n"
    text += "open(f'ran-{number}', 'w').write(f'{begin} {time.time()}')"
    job = submit(sandbox, [[number] for number in range(1, 11)], text, max_running=2)
    assert wait(sandbox, job)["DONE"] == 10 and len(job.ids) == 3
    times = [tuple(map(float, (sandbox.path / f"ran-{task}").read_text().split())) for task in range(1, 11)]
    assert max(sum(begin <= moment < end for begin, end in times) for moment, _ in times) == 2
    for first, second in ((times[:4], times[4:8]), (times[4:8], times[8:])):  # one after the other
        assert max(end for _, end in first) <= min(begin for begin, _ in second)


def test_tasks_that_run_again_wait_for_their_turn(sandbox, engine):
    text = "import os, sys, time\nfrom grid import typecast\n[number] = typecast()\nbegin = time.time()\n"
    text += "if number == 1 and not os.path.exists('once'):\n    open('once', 'w')\n    sys.exit(3)\n"
    text += "time.sleep(5 * (number - 1))\nopen(f'ran-{number}', 'w').write(f'{begin} {time.time()}')"
    job = submit(sandbox, [[1], [2]], text, max_running=1)
    until(lambda: job.counts == {**dict.fromkeys(job.counts, 0), "FAILED": 1, "RUNNING": 1}, "one failed")
    job.resubmit()
    assert job.tasks[0].state == "PENDING"
    assert wait(sandbox, job)["DONE"] == 2
    first, second = (list(map(float, (sandbox.path / f"ran-{task}").read_text().split())) for task in (1, 2))
    assert first[0] >= second[1], "more than one ran at a time"
    until(lambda: not any(map(engine.in_queue, job.ids)), "the queue forgets them")
    assert wait(sandbox, job.resubmit(failed=False))["DONE"] == 2 and len(job.ids) == 3


@pytest.mark.parametrize("reached", [1, 2])
def test_an_array_stopped_by_another_process_while_it_is_submitted(sandbox, engine, reached):
    code = TAKE_AT_MOST.format(most=2) + "grid.submit_array('worker.py', [[n] for n in range(1, 9)], log_dir='logs')"
    sandbox.write("worker.py", "import time; time.sleep(100)")
    count_calls(sandbox, engine.submitter, "sleep 1")
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    until(lambda: calls(sandbox) > reached, f"{reached} of 4 submissions are made")
    [job] = sandbox.grid.jobs()
    job.cancel()
    assert "was stopped while it was submitted" in process.communicate(timeout=60)[1]
    assert calls(sandbox) == reached + 1, "more was submitted after the stop"
    ids = sandbox.grid.Job(job.folder).ids
    assert len(ids) == reached + 1
    until(lambda: not any(map(engine.in_queue, ids)), "nothing is left in the queue")
    until(lambda: job.counts["CANCELLED"] == 8, "all tasks are seen as stopped")


def test_an_array_that_has_partly_run_is_stopped_as_a_whole(sandbox, engine):
    text = "import time\nfrom grid import typecast\nif typecast()[0] > 2: time.sleep(100)"
    job = submit(sandbox, [[number] for number in range(1, 9)], text, max_running=2)
    until(lambda: len(list(job.folder.glob("1/records/*.running"))) == 2 and job.counts["DONE"] == 2, "4 began")
    assert job.state == "RUNNING" and job.counts["PENDING"] == 4
    job.cancel()
    counts = wait(sandbox, job, 60)
    assert (counts["DONE"], counts["CANCELLED"], job.state, job.exit_code) == (2, 6, "CANCELLED", None)
    assert job.tasks[7].reason == "stopped on request before it began"
    assert {task.reason for task in job.tasks[2:4]} == {"stopped on request"}
    until(lambda: not engine.in_queue(job.id), "the queue forgets it")


def test_a_job_after_an_array_needs_all_its_tasks(sandbox, engine, monkeypatch):
    take_at_most(3, engine, monkeypatch)
    good = submit(sandbox, [[number, ""] for number in range(1, 6)])
    bad = submit(sandbox, [[number, "sys.exit(number == 8)"] for number in range(6, 11)])
    sandbox.write("last.py", "from grid import typecast; open(typecast()[0], 'w')")
    after_good = sandbox.grid.submit_script("last.py", ["good"], log_dir="logs", after=good)
    after_both = sandbox.grid.submit_script("last.py", ["both"], log_dir="logs", after=[good, bad])
    assert after_good.wait(60).state == good.state == "DONE" and os.path.exists("good")
    with pytest.raises(sandbox.grid.JobFailed) as caught:
        after_both.wait(60)
    assert f"the job before this one, {bad.folder}, did not succeed" in str(caught.value)
    assert bad.counts["FAILED"] == 1 and not os.path.exists("both")


def test_one_question_for_all_tasks_of_all_jobs(sandbox, engine):
    arrays = [submit(sandbox, [[]] * number, options=engine.hold) for number in (100, 50, 2)]
    count_calls(sandbox, engine.lister)
    states = room("polling").poll([job.files for job in arrays])
    assert {status.state for status in states} == {"PENDING"} and calls(sandbox) == 1


def test_tasks_that_are_deleted_outside_are_told_apart(sandbox, engine):
    job = submit(sandbox, [[]] * 300, options=engine.hold)
    gone = range(1, 200, 2)
    engine.delete(*(engine.task(job.id, index) for index in gone))
    until(lambda: job.counts["FAILED"] == 100, "they are seen to be gone")
    assert {task.number for task in job.tasks if task.state == "FAILED"} == set(gone)
    assert job.counts["PENDING"] == 200 and job.tasks[0].reason == VANISHED
    engine.delete(job.id)
    until(lambda: job.counts["FAILED"] == 300, "all are seen to be gone")
    assert {task.reason for task in job.tasks[200:]} == {engine.reasons["deleted while it waits"]}


@pytest.mark.parametrize("reached", [False, True], ids=["before", "after"])
def test_a_submitter_that_is_killed_between_two_submissions(sandbox, engine, reached):
    """Before or after the scheduler got the third of four."""
    sandbox.write("worker.py", WORKER)
    call = f'/usr/bin/{engine.submitter} "$@";' * reached
    count_calls(sandbox, engine.submitter, f"if [ $calls = 3 ]; then {call} kill -9 $PPID; exit; fi")
    code = (
        TAKE_AT_MOST.format(most=4)
        + "grid.submit_array('worker.py', [[number, ''] for number in range(1, 15)], log_dir='logs')"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    [job] = sandbox.grid.jobs()
    counts = wait(sandbox, job, 60)
    known = 12 if reached else 8
    assert (counts["DONE"], counts["FAILED"]) == (known, 14 - known)
    assert job.tasks[13].reason == "never submitted: the submission was interrupted"
    assert len(job.ids) == (3 if reached else 2)
    job.resubmit()
    assert wait(sandbox, job, 60)["DONE"] == 14
    assert [len(split_runs((sandbox.path / f"got-{task}").read_bytes())) for task in range(1, 15)] == [1] * 14


# --- As many as a site takes ------------------------------------------------------------------------------------------


def check_many(sandbox, engine, number, submissions, capsys):
    """Held tasks, seen as one job; submitted, asked for and stopped with few calls."""
    count_calls(sandbox, engine.submitter)
    job = submit(sandbox, [[task, 0.1, [64, 32]] for task in range(number)], options=engine.hold)
    assert calls(sandbox) == len(job.ids) == submissions
    assert (len(job), job.state, job.reason, job.counts["PENDING"]) == (
        *(number, "PENDING"),
        *(f"all {number} tasks pending; held", number),
    )
    assert job.tasks[-1].args == [number - 1, 0.1, [64, 32]]
    sandbox.grid.qstat()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.split()[0] in job.ids]
    assert len(lines) == submissions
    assert sum(int(re.search("held, ([0-9]+) tasks", line)[1]) for line in lines) == number
    job.cancel()
    assert wait(sandbox, job, 300)["CANCELLED"] == number and job.state == "CANCELLED"
    until(lambda: not any(map(engine.in_queue, job.ids)), "the queue forgets it", 120)


@pytest.mark.only("slurm")
def test_more_tasks_than_slurm_takes_at_once_are_one_job(sandbox, engine, capsys):
    check_many(sandbox, engine, 2500, 3, capsys)


@pytest.mark.only("gridengine")
@pytest.mark.parametrize("number, submissions", [(75_000, 1), (100_000, 2)])
def test_more_tasks_than_grid_engine_takes_at_once_are_one_job(sandbox, engine, capsys, number, submissions):
    check_many(sandbox, engine, number, submissions, capsys)
