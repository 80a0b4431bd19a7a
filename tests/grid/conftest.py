"""Fixtures for grid.py on its own."""

import os
import signal
from contextlib import suppress

import pytest

from fake_gridengine import FakeGridEngine
from sandbox import Sandbox, compiled_library, load, room


@pytest.fixture
def grid():
    """grid.py alone; for what needs no folder. room("states") is a room of its gridlib."""
    return load(compiled_library())


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
    """A Sandbox whose jobs run in the background of this machine."""
    sandbox = Sandbox(tmp_path, monkeypatch, "background")
    sandbox.program("qstat", "echo '<job_info/>'")  # no test here asks a scheduler that this machine may have
    yield sandbox
    monkeypatch.undo()
    for job_id in room("schedulers").Background({}).queue():  # no job outlives its test
        with suppress(ProcessLookupError):
            os.killpg(int(job_id), signal.SIGKILL)


@pytest.fixture
def site(sandbox, monkeypatch):
    """A Sandbox whose jobs go to a fake Grid Engine, site.engine; the limits of time are short."""
    sandbox.engine = FakeGridEngine(sandbox)
    monkeypatch.setenv("GRID_SCHEDULER", "gridengine")
    monkeypatch.setenv("SGE_ROOT", str(sandbox.engine.folder))
    monkeypatch.setenv("SGE_CELL", "default")
    sandbox.write("worker.py", "")
    sandbox.limits.grace = 0.5
    yield sandbox
    sandbox.engine.close()
