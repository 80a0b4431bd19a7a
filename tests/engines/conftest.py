"""Fixtures for the real schedulers of this host, which start_gridengine.sh and start_slurm.sh start.

Each test that takes `engine`, or a fixture that does, runs on both; mark it with only("slurm") where it can be of one.
"""

import re

import pytest

from engines import ENGINES
from sandbox import Sandbox, room

ORDER = [
    "test_promises",
    "test_project",
    "test_site",
    "test_arrays",
    "test_ownership",
    "test_faults",
    "test_kills",
    "test_restarts",
]  # the quick ones first
# but before all others the jobs are started that take a minute or two to reach their limit of time
FIRST = "test_jobs_with_a_limit_of_time_run_before_it"


@pytest.hookimpl(trylast=True)  # after pytest has put the tests of each engine together
def pytest_collection_modifyitems(items):
    engines = list(ENGINES)

    def place(item):
        name = item.module.__name__
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        engine = engines.index(parameters.get("engine", engines[0]))  # tests of both run with those of the first one
        return engine, -1 if item.originalname == FIRST or name not in ORDER else ORDER.index(name)

    items.sort(key=place)


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("only")
        metafunc.parametrize("engine", only.args if only else list(ENGINES), indirect=True, scope="session")


def pytest_xdist_make_scheduler(config, log):
    """With -n 2 each engine has a process of its own, and its tests keep their order."""
    from xdist.scheduler import LoadScopeScheduling

    class ByEngine(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "slurm" if re.search(r"[\[-]slurm[\]-]", nodeid) else "gridengine"

    return ByEngine(config, log)


@pytest.fixture(scope="session")
def engine(request):
    """What a test must know of a scheduler; see engines.py."""
    return ENGINES[request.param]


def new_sandbox(path, monkeypatch, engine):
    sandbox = Sandbox(path, monkeypatch, engine.name)
    sandbox.write("pyproject.toml", engine.settings)
    return sandbox


def delete_jobs(jobs, engine):
    """A test that failed must not leave its jobs to the next one."""
    live = room("schedulers").scheduler(engine.name).queue()
    for job_id in [job_id for job in jobs for job_id in job.ids if job_id in live]:
        try:
            engine.delete(job_id)
        except AssertionError:  # it has ended by now
            pass


@pytest.fixture
def sandbox(tmp_path, monkeypatch, engine):
    """A Sandbox whose jobs go to a real scheduler."""
    sandbox = new_sandbox(tmp_path, monkeypatch, engine)
    yield sandbox
    monkeypatch.undo()  # no more programs and variables of the test's own
    delete_jobs(sandbox.grid.jobs(), engine)
