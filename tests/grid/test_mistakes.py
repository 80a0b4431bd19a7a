"""The promise: a mistake gets one clear error, and nothing is submitted or left behind."""

import inspect

import pytest


@pytest.fixture
def worker(folder):
    return folder.write("worker.py", "")


@pytest.mark.parametrize(
    "keywords, message",
    [
        ({"path": "missing.py"}, "there is no script .*missing.py"),
        ({"path": "."}, "is a folder: pass the path of the Python script"),
        ({"path": 3}, "path is 3: pass the path of a Python script"),
        ({"args": "0.1 42"}, "pass a list of arguments"),
        ({"args": [print]}, "argument 1 holds <built-in function print> .* cannot travel"),
        ({"activate": None}, "activate is None: pass a text"),
        ({"activate": "a\0b"}, "activate is .*: pass a text"),
        ({"memory": "2\u212a"}, "memory is .*: pass a number and a unit"),
        ({"memory": "lots"}, "memory is 'lots': pass a number and a unit, K, M, G or T, such as \"2G\""),
        ({"memory": "0G"}, "memory is '0G'"),
        ({"memory": "2"}, "memory is '2'"),
        ({"memory": "2 G"}, "memory is '2 G'"),
        ({"memory": "1e3M"}, "memory is '1e3M'"),
        ({"memory": 2}, "memory is 2"),
        ({"cuda": -1}, "cuda is -1: pass a whole number, 0 or more"),
        ({"cuda": True}, "cuda is True"),
        ({"cuda": 0.5}, "cuda is 0.5"),
        ({"cores": 0}, "cores is 0: pass a whole number, 1 or more"),
        ({"walltime": "soon"}, "walltime is 'soon': pass seconds, or a text such as \"90m\""),
        ({"walltime": -5}, "walltime is -5"),
        ({"walltime": 0}, "walltime is 0"),
        ({"name": 5}, "name is 5: pass a text"),
        ({"queue": 5}, "queue is 5: pass a text"),
        ({"options": "-P vision"}, r'options is .*: pass a list of words, such as \["-P", "vision"\]'),
        ({"scheduler": "lsf"}, "there is no scheduler 'lsf': pass one of gridengine, slurm, background"),
        ({"log_dir": 3}, "log_dir is 3: pass the path of a folder"),
        ({"log_dir": "a\0b"}, "log_dir is .*: pass the path of a folder"),
        ({"log_dir": "worker.py"}, "the log folder .*worker.py cannot be used: .*exists"),
        ({"log_dir": "/proc/logs"}, "the log folder /proc/logs cannot be used"),
        (
            {"memry": "2G"},
            "submit_script has no argument 'memry'; did you mean 'memory'. It takes path, args, activate, m",
        ),
        ({"xyz": 1}, "submit_script has no argument 'xyz'. It takes"),
    ],
)
def test_a_bad_argument_is_refused_before_anything_is_done(folder, worker, keywords, message):
    with pytest.raises(folder.grid.ArgumentError, match=message):
        folder.grid.submit_script(**{"path": worker, "log_dir": "logs"} | keywords)
    assert folder.jobs() == []


def test_without_a_home_directory_the_error_names_log_dir(folder, worker, monkeypatch):
    monkeypatch.setenv("HOME", "/nonexistent/home")
    with pytest.raises(
        folder.grid.ArgumentError, match="log_dir is ~, but there is no home directory /nonexistent/home"
    ):
        folder.grid.submit_script(worker)
    assert folder.jobs() == []


@pytest.mark.parametrize(
    "text, message",
    [
        ("[tool]\ngrid = 'x'", r"\[tool.grid\]"),
        ("[tool.grid]\ngridengine = 'x'", r"\[tool.grid.gridengine\]"),
        ("[tool.grid]\nscheduler = ['a']", r"scheduler is \['a'\]: write a text in quotes"),
        (
            "[tool.grid]\nschedular = 'a'",
            "schedular has no meaning; known are scheduler, gridengine, slurm, background",
        ),
        (
            "[tool.grid.gridengine]\nmem = 'mem'",
            "mem has no meaning; known are memory, memory_per, cuda, cuda_per, parallel_environment, queue",
        ),
        ("[tool.grid.gridengine]\nmemory_per = 'host'", "memory_per is 'host': write .slot. or .job."),
        ("[tool.grid.gridengine]\nmemory = 5", "memory is 5: write a text in quotes"),
    ],
)
def test_a_mistake_in_the_table_of_the_site_is_named(folder, worker, text, message):
    folder.write("pyproject.toml", text)
    with pytest.raises(folder.grid.ArgumentError, match=message):
        folder.grid.submit_script(worker, log_dir="logs")


def test_a_broken_pyproject_is_named(folder, worker):
    folder.write("pyproject.toml", "[tool.grid\n")
    with pytest.raises(folder.grid.ArgumentError, match="pyproject.toml cannot be read: "):
        folder.grid.submit_script(worker)


@pytest.mark.parametrize("chosen, missing", [("", "qsub"), ("gridengine", "qsub"), ("slurm", "sbatch")])
def test_without_a_scheduler_the_error_names_the_ways_out(folder, worker, monkeypatch, chosen, missing):
    monkeypatch.setenv("PATH", str(folder.path / "bin"))
    monkeypatch.setenv("GRID_SCHEDULER", chosen)
    with pytest.raises(
        folder.grid.SubmitError, match=f"(?s){missing}.*this machine.*make local.*GRID_SCHEDULER=background"
    ):
        folder.grid.submit_script(worker)
    assert folder.jobs() == []


def test_a_qsub_without_qconf_is_not_taken_for_grid_engine(folder, worker, monkeypatch):
    folder.program("qsub", "echo 123")
    monkeypatch.setenv("PATH", str(folder.path / "bin"))
    monkeypatch.setenv("GRID_SCHEDULER", "")
    with pytest.raises(folder.grid.SubmitError, match="neither Grid Engine .* nor Slurm"):
        folder.grid.submit_script(worker)


@pytest.mark.parametrize(
    "site, words, message",
    [
        (
            "",
            'Unable to run job: unknown resource "cuda".',
            r'(?s)unknown resource.*write cuda = "NAME" into .*tool.grid.gridengine.* of .*pyproject',
        ),
        ("", 'Unable to run job: unknown resource "h_vmem".', '(?s)qconf -sc.*write memory = "NAME" into'),
        ("memory = 'mem'", 'Unable to run job: unknown resource "mem".', '(?s)write memory = "NAME" into'),
        ("", 'Unable to run job: unknown resource "licence".', 'qsub refuses and says: .*"licence".$'),
        (
            "",
            'job rejected: the requested parallel environment "smp" does not exist',
            '(?s)write parallel_environment = "NAME"',
        ),
        ("", "Unable to run job: job rejected: only 3 jobs are allowed per user", "only 3 jobs are allowed per user$"),
        ("", "", "qsub refuses and says: nothing, exit code 1"),
    ],
)
def test_a_refusal_shows_the_schedulers_words_and_what_to_do(folder, worker, site, words, message):
    folder.program("qsub", f"echo '{words}' >&2; exit 1")
    if words:
        folder.program("qstat", "exit 1")  # a refusal in words is believed
    folder.write("pyproject.toml", f"[tool.grid.gridengine]\nparallel_environment = 'smp'\n{site}\n")
    with pytest.raises(folder.grid.SubmitError, match=message):
        folder.grid.submit_script(worker, memory="2G", cuda=1, cores=2, log_dir="logs", scheduler="gridengine")
    assert folder.jobs() == [], "something half-submitted is left"


def test_cores_without_a_parallel_environment_name_the_setting(folder, worker):
    folder.program("qsub", "echo 123")
    with pytest.raises(folder.grid.ArgumentError, match='parallel_environment = "NAME" into the table'):
        folder.grid.submit_script(worker, cores=2, log_dir="logs", scheduler="gridengine")
    assert folder.jobs() == []


@pytest.mark.parametrize("answer", ["hello", "", "1 2", "job 123", "123\n124"])
def test_an_id_is_never_guessed(folder, worker, answer):
    folder.program("qsub", f"echo '{answer}'")
    with pytest.raises(folder.grid.SubmitError, match="did not answer with a job's id"):
        folder.grid.submit_script(worker, log_dir="logs", scheduler="gridengine")


def test_a_sites_notices_around_the_id_do_not_confuse_it(folder, worker):
    folder.program("qsub", "echo 'Welcome: 3 nodes are down until 12.'; echo 4711; echo 'job 99 may be slow'")
    assert folder.grid.submit_script(worker, log_dir="logs", scheduler="gridengine").id == "4711"


def test_qdel_of_an_unknown_job_says_so(folder):
    with pytest.raises(folder.grid.SubmitError, match="there is no job 99999999 of yours in background"):
        folder.grid.qdel(99999999)


def test_every_error_is_of_one_family(grid):
    errors = [thing for thing in vars(grid).values() if inspect.isclass(thing) and issubclass(thing, Exception)]
    assert len(errors) >= 3 and all(issubclass(error, grid.GridError) for error in errors)
