"""Fixtures for grid.py on its own."""

import os
import signal

import pytest
from workplace import GRID, Folder, load


@pytest.fixture(scope="session")
def grid():
    """grid.py in the template; for what needs no folder."""
    return load(GRID)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A Folder with a name that breaks whatever is not quoted; jobs run in the background of this machine."""
    folder = Folder(tmp_path, monkeypatch, "background")
    folder.program("qstat", "echo '<job_info/>'")  # no test here asks a scheduler that this machine may have
    yield folder
    monkeypatch.undo()
    for process in folder.grid._Background({}).queue():  # no job outlives its test
        os.killpg(int(process), signal.SIGKILL)
