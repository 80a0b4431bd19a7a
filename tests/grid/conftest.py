"""Fixtures for grid.py on its own."""

import pytest
from workplace import GRID, Folder, load


@pytest.fixture(scope="session")
def grid():
    """grid.py in the template; for what needs no folder."""
    return load(GRID)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A Folder with a name that breaks whatever is not quoted; jobs run in the background of this machine."""
    return Folder(tmp_path, monkeypatch, "background")
