"""Fixtures for the real schedulers of this host, which start_gridengine.sh and start_slurm.sh start.

Each test that takes `engine`, or a fixture that does, runs on both; mark it with only("slurm") where it can be of one.
"""

import pytest
from engines import ENGINES
from workplace import Folder

ORDER = [
    "test_promises",
    "test_project",
    "test_site",
    "test_arrays",
    "test_faults",
    "test_restarts",
]  # the quick ones first


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: ORDER.index(item.module.__name__) if item.module.__name__ in ORDER else -1)


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("only")
        metafunc.parametrize("engine", only.args if only else list(ENGINES), indirect=True, scope="session")


@pytest.fixture(scope="session")
def engine(request):
    """What a test must know of a scheduler; see engines.py."""
    return ENGINES[request.param]


def new_folder(path, monkeypatch, engine):
    folder = Folder(path, monkeypatch, engine.name)
    folder.write("pyproject.toml", engine.settings)
    return folder


def delete_jobs(folder, engine):
    """A test that failed must not leave its jobs to the next one."""
    live = folder.grid._engine(engine.name).queue()
    for number in [number for job in folder.grid.jobs() for number in job.ids if number in live]:
        try:
            engine.delete(number)
        except AssertionError:  # it has ended by now
            pass


@pytest.fixture
def folder(tmp_path, monkeypatch, engine):
    """A Folder whose jobs go to a real scheduler."""
    folder = new_folder(tmp_path, monkeypatch, engine)
    yield folder
    delete_jobs(folder, engine)
