"""Fixtures for the real schedulers of this host, which start_gridengine.sh starts."""

import subprocess

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
    # a test that failed must not leave its jobs to the next one
    live = folder.grid._engine().queue()
    for number in [job.id for job in folder.grid.jobs() if job.id in live]:
        subprocess.run(["qdel", number], capture_output=True)  # it may have ended by now
