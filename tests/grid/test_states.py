"""The promise: a job's state is decided from evidence, in the order of record, queue, accounting; here as a table."""

import pytest

QUEUED = {"state": "PENDING", "reason": "held"}
RUNS = {"state": "RUNNING", "reason": ""}
ERROR = {"state": "FAILED", "reason": "in error state; the scheduler will not run it"}
KILLED = ("FAILED", 137, "over a limit")
BEGUN = {"id": "7", "host": "node1"}


def ended(code, **more):
    return BEGUN | {"exit": code} | more


@pytest.mark.parametrize(
    "record, queue, accounting, cancelled, state, code, reason",
    [
        # the record decides, whatever the others say
        (ended(0), "gone", None, False, "DONE", 0, ""),
        (ended(0), RUNS, None, False, "DONE", 0, ""),
        (ended(0), None, None, False, "DONE", 0, ""),
        (ended(0), "gone", KILLED, False, "DONE", 0, ""),
        (ended(0), "gone", None, True, "DONE", 0, ""),
        (ended(3), "gone", None, False, "FAILED", 3, "exit code 3"),
        (ended(1, reason="KeyError: 'x'"), RUNS, None, False, "FAILED", 1, "KeyError: 'x'"),
        (ended(100), ERROR, None, False, "FAILED", 100, "exit code 100"),
        (ended(137), "gone", None, False, "FAILED", 137, "killed by SIGKILL, as the system does"),
        (ended(139), "gone", None, False, "FAILED", 139, "killed by SIGSEGV"),
        (ended(255), "gone", None, False, "FAILED", 255, "exit code 255"),
        (ended(143), "gone", None, True, "CANCELLED", 143, "stopped on request"),
        (ended(7), RUNS, None, True, "CANCELLED", 7, "stopped on request"),
        (ended(143, signal="SIGUSR2"), "gone", None, False, "FAILED", 143, "stopped by the scheduler: deleted there"),
        (ended(143, signal="SIGUSR2", reason="the walltime"), "gone", None, False, "FAILED", 143, "the walltime"),
        # then the queue
        ({}, QUEUED, None, False, "PENDING", None, "held"),
        ({}, RUNS, None, False, "RUNNING", None, ""),
        (BEGUN, QUEUED, None, False, "PENDING", None, "held"),
        (BEGUN, RUNS, None, True, "RUNNING", None, ""),
        ({}, ERROR, None, False, "FAILED", None, "in error state"),
        ({}, ERROR, None, True, "CANCELLED", None, "in error state"),
        # without an answer from the scheduler nothing is concluded
        ({}, None, None, False, "PENDING", None, "the scheduler does not answer"),
        (BEGUN, None, None, False, "RUNNING", None, "the scheduler does not answer"),
        # gone from the queue, and no record has come: what the accounting says
        (BEGUN, "gone", KILLED, False, "FAILED", 137, "over a limit"),
        (BEGUN, "gone", None, False, "FAILED", None, "vanished: it began on node1"),
        ({}, "gone", None, False, "FAILED", None, "vanished: it left the queue and never began"),
        ({}, "gone", None, True, "CANCELLED", None, "stopped on request before it began"),
        (BEGUN, "gone", None, True, "CANCELLED", None, "stopped on request"),
        # nobody knows an id
        ({}, "submitting", None, False, "PENDING", None, "being submitted"),
        ({}, "unsubmitted", None, False, "FAILED", None, "it never reached the scheduler"),
    ],
)
def test_the_state_follows_from_the_evidence(grid, record, queue, accounting, cancelled, state, code, reason):
    status = grid._decide(record, queue, accounting, cancelled)
    assert (status.state, status.exit_code, status.record) == (state, code, record)
    assert reason in status.reason and bool(reason) == bool(status.reason)


def test_nothing_but_a_recorded_or_accounted_success_is_done(grid):
    for record in ({}, BEGUN, ended(1), ended(137)):
        for queue in (QUEUED, RUNS, ERROR, "gone", "submitting", "unsubmitted", None):
            for accounting in (None, KILLED):
                for cancelled in (True, False):
                    assert grid._decide(record, queue, accounting, cancelled).state != "DONE"


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
def test_every_state_of_grid_engine_has_a_meaning(folder, word, state, reason):
    folder.write("answer", QSTAT.format(LINE.format(5, word), ""))
    folder.program("qstat", "cat answer")
    row = folder.grid._engine("gridengine").queue()["5"][0]
    assert row["state"] == state and row["reason"].startswith(reason) and bool(reason) == bool(row["reason"])
    assert (row["host"], row["since"], row["word"]) == ("node7", "2026-01-02 03:04:05", word)
