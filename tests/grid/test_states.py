"""The promise: a job's state is decided from evidence, in the order of record, queue, accounting; here as a table."""

import pytest

from sandbox import room

QUEUED = ("PENDING", "held")  # rows of the queue
RUNS = ("RUNNING", "")
ERROR = ("FAILED", "in error state; the scheduler will not run it")
SILENT = "the scheduler does not respond"
KILLED = ("FAILED", 137, "over a limit")  # of the accounting
ALIVE = ("RUNNING", None, "COMPLETING, though squeue does not list it")
BEGUN = {"id": "7", "host": "node1"}


def ended(code, **more):
    return BEGUN | {"exit": code} | more


def stopped(code, **more):
    return ended(code, stopped="", **more)


def decide(record, seen, accounting, stopped):
    """states.decide() of what is seen and accounted as this file writes it."""
    schedulers = room("schedulers")
    if isinstance(seen, tuple):
        seen = schedulers.Row(None, "worker", seen[0], "r", seen[1], "", "")
    return room("states").decide(record, seen, stopped, accounting and schedulers.End(*accounting))


@pytest.mark.parametrize(
    "record, seen, accounting, stopped, state, code, reason",
    [
        # the record decides, whatever the others say
        (ended(0), "gone", None, False, "DONE", 0, ""),
        (ended(0), RUNS, None, False, "DONE", 0, ""),
        (ended(0), SILENT, None, False, "DONE", 0, ""),
        (ended(0), "gone", KILLED, False, "DONE", 0, ""),
        (ended(0), "gone", None, True, "DONE", 0, ""),
        (ended(3), "gone", None, False, "FAILED", 3, "exit code 3"),
        (ended(1, reason="KeyError: 'x'"), RUNS, None, False, "FAILED", 1, "KeyError: 'x'"),
        (ended(100), ERROR, None, False, "FAILED", 100, "exit code 100"),
        (ended(137), "gone", None, False, "FAILED", 137, "killed by SIGKILL, as the system does"),
        (ended(139), "gone", None, False, "FAILED", 139, "killed by SIGSEGV"),
        (ended(255), "gone", None, False, "FAILED", 255, "exit code 255"),
        (stopped(143), "gone", None, True, "CANCELLED", 143, "stopped on request"),
        (stopped(7), RUNS, None, True, "CANCELLED", 7, "stopped on request"),
        (stopped(143), "gone", None, False, "FAILED", 143, "stopped by the scheduler: deleted there"),
        (stopped(143, reason="the walltime"), "gone", None, False, "FAILED", 143, "the walltime"),
        # it failed by itself before the stop reached it
        (ended(3), "gone", None, True, "FAILED", 3, "exit code 3"),
        # then the queue
        ({}, QUEUED, None, False, "PENDING", None, "held"),
        ({}, RUNS, None, False, "RUNNING", None, ""),
        (BEGUN, QUEUED, None, False, "PENDING", None, "held"),
        (BEGUN, RUNS, None, True, "RUNNING", None, ""),
        ({}, ERROR, None, False, "FAILED", None, "in error state"),
        ({}, ERROR, None, True, "CANCELLED", None, "in error state"),
        # without an answer from the scheduler nothing is concluded
        ({}, SILENT, None, False, "PENDING", None, SILENT),
        ({}, SILENT, None, True, "PENDING", None, SILENT),
        (BEGUN, SILENT, None, False, "RUNNING", None, SILENT),
        (BEGUN, "as last seen; it was submitted as a@b", None, False, "RUNNING", None, "as last seen"),
        # gone from the queue, and no record has come: what the accounting says
        (BEGUN, "gone", KILLED, False, "FAILED", 137, "over a limit"),
        (BEGUN, "gone", ALIVE, False, "RUNNING", None, "COMPLETING"),
        (BEGUN, "gone", ALIVE, True, "RUNNING", None, "COMPLETING"),
        (BEGUN, "gone", None, False, "FAILED", None, "vanished: it started on node1"),
        ({}, "gone", None, False, "FAILED", None, "vanished: it left the queue without starting"),
        ({}, "gone", None, True, "CANCELLED", None, "stopped on request before it began"),
        (BEGUN, "gone", None, True, "CANCELLED", None, "stopped on request"),
        # nobody knows an id
        ({}, "submitting", None, False, "PENDING", None, "being submitted"),
        (BEGUN, "submitting", None, False, "RUNNING", None, "being submitted"),
        ({}, "unsubmitted", None, False, "FAILED", None, "never submitted: the submission was interrupted"),
        ({}, "unsubmitted", None, True, "CANCELLED", None, "stopped on request before it began"),
    ],
)
def test_the_state_follows_from_the_evidence(grid, record, seen, accounting, stopped, state, code, reason):
    status = decide(record, seen, accounting, stopped)
    assert (status.state, status.exit_code, status.record) == (state, code, record)
    assert reason in status.reason and bool(reason) == bool(status.reason)


def test_nothing_but_a_recorded_or_accounted_success_is_done(grid):
    for record in ({}, BEGUN, ended(1), ended(137), stopped(143)):
        for seen in (QUEUED, RUNS, ERROR, "gone", "submitting", "unsubmitted", SILENT, ""):
            for accounting in (None, KILLED, ALIVE):
                for was_stopped in (True, False):
                    assert decide(record, seen, accounting, was_stopped).state != "DONE"


QSTAT = """<?xml version='1.0'?>
<job_info><queue_info>{}</queue_info><job_info>{}</job_info></job_info>"""
LINE = """<job_list state="x"><JB_job_number>{}</JB_job_number><JB_name>n</JB_name><state>{}</state>
<JAT_start_time>2026-01-02T03:04:05</JAT_start_time><queue_name>all.q@node7</queue_name></job_list>"""


@pytest.mark.parametrize(
    "word, state, reason",
    [
        *(("qw", "PENDING", ""), ("hqw", "PENDING", "held"), ("hRwq", "PENDING", "held"), ("Rq", "PENDING", "")),
        *(("r", "RUNNING", ""), ("t", "RUNNING", ""), ("Rr", "RUNNING", ""), ("Rt", "RUNNING", "")),
        *(("s", "RUNNING", "suspended"), ("S", "RUNNING", "suspended"), ("T", "RUNNING", "suspended")),
        *(("dr", "RUNNING", "being deleted"), ("dt", "RUNNING", "being deleted"), ("dqw", "PENDING", "being deleted")),
        *(("Eqw", "FAILED", "in error state; the scheduler will not run it"), ("Ehqw", "FAILED", "in error state")),
    ],
)
def test_every_state_of_grid_engine_has_a_meaning(sandbox, word, state, reason):
    sandbox.write("answer", QSTAT.format(LINE.format(5, word), ""))
    sandbox.program("qstat", "cat answer")
    row = room("schedulers").scheduler("gridengine").queue()["5"][0]
    assert row.state == state and row.reason.startswith(reason) and bool(reason) == bool(row.reason)
    assert (row.host, row.since, row.word) == ("node7", "2026-01-02 03:04:05", word)
