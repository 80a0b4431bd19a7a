"""Fixtures for grid.py on its own."""

import os
import signal
from contextlib import suppress

import pytest
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
