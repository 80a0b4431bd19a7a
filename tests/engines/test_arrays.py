"""The promise of arrays: many tasks are one job, each has its own arguments and its own end, and only what failed runs again."""

import os
import pickle
import re
import subprocess
import sys

import pytest
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


def submit(folder, tasks, text=WORKER, **keywords):
    folder.write("worker.py", text)
    return folder.grid.submit_array("worker.py", tasks, log_dir="logs", **keywords)


def wait(folder, job, timeout=120):
    """Wait until all tasks have ended, however."""
    try:
        job.wait(timeout)
    except folder.grid.JobFailed:
        pass
    return job.counts


def small_pieces(folder, monkeypatch, most):
    """As on a site that takes only so many tasks at once."""
    kind = type(folder.grid._engine())
    monkeypatch.setattr(kind, "usual_most", most)
    monkeypatch.setattr(kind, "most_tasks", lambda self: most)


def count_calls(folder, program, then=""):
    """From now on calls(folder) counts how often a program of the scheduler is called."""
    folder.program(
        program, f'echo x >>"$HOME/calls"; calls=$(wc -l <"$HOME/calls"); {then}\nexec /usr/bin/{program} "$@"'
    )


def calls(folder):
    path = folder.home / "calls"
    return path.read_text().count("x") if path.exists() else 0


def check_random_tasks(folder, engine, number):
    """So many tasks with random values; one in ten fails, in ways that take turns. Then those run again."""
    pool, ways = nasty_values(number), list(ENDS)
    tasks = []
    for task in range(1, number + 1):
        how = "" if task % 10 else ways[task // 10 % len(ways)]
        tasks.append([task, how, *(pool[(3 * task + offset) % len(pool)] for offset in range(3))])
    bad = list(range(10, number + 1, 10))
    job = submit(folder, tasks)
    assert {key: count for key, count in wait(folder, job, 1500).items() if count} == {
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
    records = {path.name for path in job.folder.glob("records/*")}

    job.resubmit()
    assert wait(folder, job, 600)["DONE"] == number and (job.state, job.exit_code, job.reason) == (
        *("DONE", 0),
        f"all {number} tasks done",
    )
    assert job.attempt == 2 and len(job.ids) == 2 and job.id == first != job.ids[1]
    again = {f"{task}.2.exit-0" for task in bad}
    assert {path.name for path in job.folder.glob("records/*")} == records | again, "earlier records are kept"
    assert logs.exists() and job.tasks[9].stdout.name == f"worker.o{job.ids[1]}.10"
    for task, args in zip(job.tasks, tasks):
        runs = (folder.path / f"got-{task.number}").read_bytes()
        got = pickle.dumps(args[2:])
        count = 2 if task.number in bad else 1
        got = [pickle.loads(run) for run in split_runs(runs)]
        assert len(got) == count and all(same(one, args[2:]) for one in got)
    with pytest.raises(folder.grid.GridError, match="no task to run again"):
        job.resubmit()


def split_runs(data):
    """The pickles that runs have left one after the other, each after a dot."""
    import io

    file, found = io.BytesIO(data), []
    while file.read(1):
        begin = file.tell()
        pickle.load(file)
        found.append(data[begin : file.tell()])
    return found


def test_each_of_sixty_tasks_has_its_own_end_and_only_the_failed_run_again(folder, engine):
    check_random_tasks(folder, engine, 60)


@pytest.mark.long
def test_five_hundred_tasks(folder, engine):
    check_random_tasks(folder, engine, 500)


def test_no_more_run_at_once_than_was_said_in_all_pieces_together(folder, engine, monkeypatch):
    small_pieces(folder, monkeypatch, 4)
    text = "import time\nfrom grid import typecast\n[number] = typecast()\nbegin = time.time()\ntime.sleep(0.7)\n"
    text += "open(f'ran-{number}', 'w').write(f'{begin} {time.time()}')"
    job = submit(folder, [[number] for number in range(1, 11)], text, max_running=2)
    assert wait(folder, job)["DONE"] == 10 and len(job.ids) == 3
    times = [tuple(map(float, (folder.path / f"ran-{task}").read_text().split())) for task in range(1, 11)]
    assert max(sum(begin <= moment < end for begin, end in times) for moment, _ in times) == 2
    for first, second in ((times[:4], times[4:8]), (times[4:8], times[8:])):  # piece after piece
        assert max(end for _, end in first) <= min(begin for begin, _ in second)


def test_tasks_that_run_again_wait_for_their_turn(folder, engine):
    text = "import os, sys, time\nfrom grid import typecast\n[number] = typecast()\nbegin = time.time()\n"
    text += "if number == 1 and not os.path.exists('once'):\n    open('once', 'w')\n    sys.exit(3)\n"
    text += "time.sleep(5 * (number - 1))\nopen(f'ran-{number}', 'w').write(f'{begin} {time.time()}')"
    job = submit(folder, [[1], [2]], text, max_running=1)
    folder.wait_until(lambda: job.counts == {**dict.fromkeys(job.counts, 0), "FAILED": 1, "RUNNING": 1}, "one failed")
    job.resubmit()
    assert job.tasks[0].state == "PENDING"
    assert wait(folder, job)["DONE"] == 2
    first, second = (list(map(float, (folder.path / f"ran-{task}").read_text().split())) for task in (1, 2))
    assert first[0] >= second[1], "more than one ran at a time"
    folder.wait_until(lambda: not any(map(engine.in_queue, job.ids)), "the queue forgets them")
    assert wait(folder, job.resubmit(failed=False))["DONE"] == 2 and len(job.ids) == 3


@pytest.mark.parametrize("reached", [1, 2])
def test_an_array_stopped_by_another_process_while_it_is_submitted(folder, engine, reached):
    code = "import grid, sys\nkind = type(grid._engine())\nkind.usual_most, kind.most_tasks = 2, lambda self: 2\n"
    code += "grid.submit_array('worker.py', [[n] for n in range(1, 9)], log_dir='logs')"
    folder.write("worker.py", "import time; time.sleep(100)")
    count_calls(folder, engine.submitter, "sleep 1")
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    folder.wait_until(lambda: calls(folder) > reached, f"{reached} pieces are submitted")
    [job] = folder.grid.jobs()
    job.cancel()
    assert "was stopped while it was submitted" in process.communicate(timeout=60)[1]
    assert calls(folder) == reached + 1, "more was submitted after the stop"
    ids = folder.grid.Job(job.folder).ids
    assert len(ids) == reached + 1
    folder.wait_until(lambda: not any(map(engine.in_queue, ids)), "nothing is left in the queue")
    folder.wait_until(lambda: job.counts["CANCELLED"] == 8, "all tasks are seen as stopped")


def test_an_array_that_has_partly_run_is_stopped_as_a_whole(folder, engine):
    text = "import time\nfrom grid import typecast\nif typecast()[0] > 2: time.sleep(100)"
    job = submit(folder, [[number] for number in range(1, 9)], text, max_running=2)
    folder.wait_until(
        lambda: len(list(job.folder.glob("records/*.running"))) == 2 and job.counts["DONE"] == 2, "4 began"
    )
    assert job.state == "RUNNING" and job.counts["PENDING"] == 4
    job.cancel()
    counts = wait(folder, job, 60)
    assert (counts["DONE"], counts["CANCELLED"], job.state, job.exit_code) == (2, 6, "CANCELLED", None)
    assert job.tasks[7].reason == "stopped on request before it began"
    assert {task.reason for task in job.tasks[2:4]} == {"stopped on request"}
    folder.wait_until(lambda: not engine.in_queue(job.id), "the queue forgets it")


def test_a_job_after_an_array_needs_all_its_tasks(folder, monkeypatch):
    small_pieces(folder, monkeypatch, 3)
    good = submit(folder, [[number, ""] for number in range(1, 6)])
    bad = submit(folder, [[number, "sys.exit(number == 8)"] for number in range(6, 11)])
    folder.write("last.py", "from grid import typecast; open(typecast()[0], 'w')")
    after_good = folder.grid.submit_script("last.py", ["good"], log_dir="logs", after=good)
    after_both = folder.grid.submit_script("last.py", ["both"], log_dir="logs", after=[good, bad])
    assert after_good.wait(60).state == good.state == "DONE" and os.path.exists("good")
    with pytest.raises(
        folder.grid.JobFailed, match=f"job {' '.join(bad.ids)}, on which this one waits, did not succeed"
    ):
        after_both.wait(60)
    assert bad.counts["FAILED"] == 1 and not os.path.exists("both")


def test_one_question_for_all_tasks_of_all_jobs(folder, engine):
    arrays = [submit(folder, [[]] * number, options=engine.hold) for number in (100, 50, 2)]
    count_calls(folder, engine.lister)
    assert {status.state for status in folder.grid.look(arrays)} == {"PENDING"} and calls(folder) == 1


def test_tasks_that_are_deleted_outside_are_told_apart(folder, engine):
    job = submit(folder, [[]] * 300, options=engine.hold)
    gone = range(1, 200, 2)
    engine.delete(*(engine.task(job.id, index) for index in gone))
    folder.wait_until(lambda: job.counts["FAILED"] == 100, "they are seen to be gone")
    assert {task.number for task in job.tasks if task.state == "FAILED"} == set(gone)
    assert job.counts["PENDING"] == 200 and "vanished: it left the queue and never began" in job.tasks[0].reason
    engine.delete(job.id)
    folder.wait_until(lambda: job.counts["FAILED"] == 300, "all are seen to be gone")
    assert {task.reason for task in job.tasks[200:]} == {engine.reasons["deleted while it waits"]}


@pytest.mark.parametrize("reached", [False, True], ids=["before", "after"])
def test_a_submitter_that_is_killed_between_two_pieces(folder, engine, reached):
    """before or after the scheduler got the third piece of four"""
    folder.write("worker.py", WORKER)
    call = f'/usr/bin/{engine.submitter} "$@";' * reached
    count_calls(folder, engine.submitter, f"if [ $calls = 3 ]; then {call} kill -9 $PPID; exit; fi")
    code = "import grid; kind = type(grid._engine()); kind.usual_most = 4; kind.most_tasks = lambda self: 4\n"
    code += "grid.submit_array('worker.py', [[number, ''] for number in range(1, 15)], log_dir='logs')"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    [job] = folder.grid.jobs()
    counts = wait(folder, job, 60)
    known = 12 if reached else 8
    assert (counts["DONE"], counts["FAILED"]) == (known, 14 - known)
    assert job.tasks[13].reason == "it never reached the scheduler: the submission was interrupted"
    assert len(job.ids) == (3 if reached else 2)
    job.resubmit()
    assert wait(folder, job, 60)["DONE"] == 14
    assert [len(split_runs((folder.path / f"got-{task}").read_bytes())) for task in range(1, 15)] == [1] * 14


# --- As many as a site takes ------------------------------------------------------------------------------------------


def check_many(folder, engine, number, pieces, capsys):
    """Held tasks, seen as one job; submitted, asked for and stopped with few calls."""
    count_calls(folder, engine.submitter)
    job = submit(folder, [[task, 0.1, [64, 32]] for task in range(number)], options=engine.hold)
    assert calls(folder) == len(job.ids) == pieces
    assert (len(job), job.state, job.reason, job.counts["PENDING"]) == (
        *(number, "PENDING"),
        *(f"all {number} tasks pending; held", number),
    )
    assert job.tasks[-1].args == [number - 1, 0.1, [64, 32]]
    folder.grid.qstat()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.split()[0] in job.ids]
    assert len(lines) == pieces
    assert sum(int(re.search("held, ([0-9]+) tasks", line)[1]) for line in lines) == number
    job.cancel()
    assert wait(folder, job, 300)["CANCELLED"] == number and job.state == "CANCELLED"
    for piece in job.ids:
        folder.wait_until(lambda: not engine.in_queue(piece), "the queue forgets it", 120)


@pytest.mark.only("slurm")
def test_more_tasks_than_slurm_takes_at_once_are_one_job(folder, engine, capsys):
    check_many(folder, engine, 2500, 3, capsys)


@pytest.mark.only("gridengine")
@pytest.mark.parametrize("number, pieces", [(75_000, 1), (100_000, 2)])
def test_more_tasks_than_grid_engine_takes_at_once_are_one_job(folder, engine, capsys, number, pieces):
    check_many(folder, engine, number, pieces, capsys)
