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


def test_the_master_is_stopped_before_the_submission(folder, engine, down):
    folder.write("worker.py", "")
    down()
    folder.grid.RETRY_FOR = 2
    with pytest.raises(folder.grid.SubmitError, match=engine.master_down):
        folder.grid.submit_script("worker.py", log_dir="logs")
    code = "from grid import *; job = submit_script('worker.py', log_dir='logs'); job.wait(60); print(job.state)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "does not answer; trying for 60 seconds" in process.stderr.readline()
    engine.start()
    assert process.communicate(timeout=120)[0] == "DONE\n"
    states = [job.state for job in folder.grid.jobs()]
    assert states.count("DONE") == 1 and len(folder.jobs()) <= 2


def test_the_master_restarts_during_wait(folder, engine, down):
    job, _ = running(folder, SLEEP.replace("100", "20"))
    down()
    assert job.status[::2] == ("RUNNING", "the scheduler does not answer")
    engine.start()
    assert end(job, 90) == ("DONE", 0, "")


def test_the_execution_daemon_is_killed_and_restarted(folder, engine):
    job, _ = running(folder, SLEEP.replace("100", "8"))
    engine.kill_execution_daemon()
    engine.start()
    assert end(job, 90) == ("DONE", 0, "")
    folder.write("worker.py", "")
    assert end(folder.grid.submit_script("worker.py", log_dir="logs")) == ("DONE", 0, "")
