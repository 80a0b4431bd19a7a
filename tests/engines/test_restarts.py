"""The promise: no job is lost or run twice when the scheduler's daemons stop, restart or are killed.

These tests come last, for nobody else can use the scheduler meanwhile.
"""

import subprocess
import sys

import pytest

from test_faults import SLEEP, end, running


@pytest.fixture
def down(engine):
    """down() stops the master; it is started again whatever happens."""
    yield engine.stop_master
    engine.start()


def test_the_master_is_stopped_before_the_submission(sandbox, engine, down):
    sandbox.write("worker.py", "")
    down()
    sandbox.limits.retry = 2
    with pytest.raises(sandbox.grid.SubmitError, match=engine.master_down):
        sandbox.submit()
    code = "from grid import *; job = submit_script('worker.py', log_dir='logs'); job.wait(60); print(job.state)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "is not responding; retrying for 60 s" in process.stderr.readline()
    engine.start()
    assert process.communicate(timeout=120)[0] == "DONE\n"
    states = [job.state for job in sandbox.grid.jobs()]
    assert states.count("DONE") == 1 and len(sandbox.jobs()) <= 2


def test_the_master_restarts_during_wait(sandbox, engine, down):
    job, _ = running(sandbox, SLEEP.replace("100", "20"))
    down()
    assert job.status[:3:2] == ("RUNNING", "the scheduler does not respond")
    engine.start()
    assert end(job, 90) == ("DONE", 0, "")


def test_the_execution_daemon_is_killed_and_restarted(sandbox, engine):
    job, _ = running(sandbox, SLEEP.replace("100", "8"))
    engine.kill_execution_daemon()
    engine.start()
    assert end(job, 90) == ("DONE", 0, "")
    sandbox.write("worker.py", "")
    assert end(sandbox.submit()) == ("DONE", 0, "")
