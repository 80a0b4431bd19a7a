"""Fixtures for the real schedulers of this host, which start_gridengine.sh starts."""

import pytest
from workplace import Folder

SITE = """
[tool.grid.gridengine]
memory = "mem"
cuda = "cuda"
parallel_environment = "smp"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A Folder whose jobs go to the real Grid Engine."""
    folder = Folder(tmp_path, monkeypatch, "gridengine")
    folder.write("pyproject.toml", SITE)
    yield folder
    for job in folder.grid.jobs():  # a test that failed must not leave its jobs to the next one
        try:
            folder.grid.qdel(job)
        except folder.grid.SubmitError:
            pass
