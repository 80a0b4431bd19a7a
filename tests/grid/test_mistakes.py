"""The promise: a mistake gets one clear error, and nothing is submitted or left behind."""

import inspect

import pytest


@pytest.fixture
def worker(sandbox):
    return sandbox.write("worker.py", "")


@pytest.mark.parametrize(
    "keywords, message",
    [
        ({"path": "missing.py"}, "no such script: .*missing.py"),
        ({"path": "."}, "is a folder without __main__.py: pass the path of the Python script"),
        ({"path": 3}, "path must be the path of a Python script, not 3"),
        ({"args": "0.1 42"}, "args must be a list of arguments, such as"),
        ({"args": [print]}, "argument 1 holds <built-in function print> .* cannot be sent to a job"),
        ({"activate": None}, "activate must be a string, not None"),
        ({"activate": "a\0b"}, "activate must be a string, not"),
        ({"memory": "2\u212a"}, "memory must be a number with a unit"),
        (
            {"memory": "lots"},
            r"memory must be a number with a unit \(K, M, G, T\), such as \"2G\" or \"500M\", not 'lots'",
        ),
        ({"memory": "0G"}, "memory must be .*, not '0G'"),
        ({"memory": "2"}, "memory must be .*, not '2'"),
        ({"memory": "2 G"}, "memory must be .*, not '2 G'"),
        ({"memory": "1e3M"}, "memory must be .*, not '1e3M'"),
        ({"memory": 2}, "memory must be .*, not 2"),
        ({"cuda": -1}, "cuda must be a whole number, 0 or more, not -1"),
        ({"cuda": True}, "cuda must be .*, not True"),
        ({"cuda": 0.5}, "cuda must be .*, not 0.5"),
        ({"cores": 0}, "cores must be a whole number, 1 or more, not 0"),
        ({"walltime": "soon"}, "walltime must be seconds, or a text such as \"90m\".* not 'soon'"),
        ({"walltime": -5}, "walltime must be .*, not -5"),
        ({"walltime": 0}, "walltime must be .*, not 0"),
        ({"name": 5}, "name must be a string, not 5"),
        ({"queue": 5}, "queue must be a string, not 5"),
        ({"options": "-P vision"}, r'options must be a list of words, such as \["-P", "vision"\], not'),
        ({"scheduler": "lsf"}, "there is no scheduler 'lsf': use one of gridengine, slurm, background"),
        ({"log_dir": 3}, "log_dir must be the path of a folder, not 3"),
        ({"log_dir": "a\0b"}, "log_dir must be the path of a folder, not"),
        ({"log_dir": "worker.py"}, "cannot use the log folder .*worker.py: .*exists"),
        ({"log_dir": "/proc/logs"}, "cannot use the log folder /proc/logs: .*Pass log_dir another one"),
    ],
)
def test_a_bad_argument_is_refused_before_anything_is_done(sandbox, worker, keywords, message):
    with pytest.raises(sandbox.grid.ArgumentError, match=message):
        sandbox.grid.submit_script(**{"path": worker, "log_dir": "logs"} | keywords)
    assert sandbox.jobs() == []


def test_an_unknown_argument_is_named(sandbox, worker):
    for submit, args in ((sandbox.grid.submit_script, []), (sandbox.grid.submit_array, [[1]])):
        with pytest.raises(TypeError, match="unexpected keyword argument 'memry'"):
            submit(worker, args, memry="2G")
    assert sandbox.jobs() == []
    job = sandbox.run(worker).job
    with pytest.raises(
        sandbox.grid.ArgumentError, match="unknown argument memry; valid are memory, cuda, cores, walltime"
    ):
        job.resubmit(failed=False, memry="2G")
    assert len(job.ids) == 1


@pytest.mark.parametrize(
    "tasks, keywords, message",
    [
        ([], {}, r"tasks must be a list with the list of arguments of each task, such as .*, not \[\]"),
        ("ab", {}, "tasks must be a list with the list"),
        ([[1], 2], {}, "task 2: args must be a list of arguments"),
        ([[1], [print]], {}, "task 2: argument 1 holds .*print"),
        ([[1]], {"max_running": 0}, "max_running must be a whole number, 1 or more, not 0"),
    ],
)
def test_a_bad_array_is_refused_before_anything_is_done(sandbox, worker, tasks, keywords, message):
    with pytest.raises(sandbox.grid.ArgumentError, match=message):
        sandbox.grid.submit_array(worker, tasks, log_dir="logs", **keywords)
    assert sandbox.jobs() == []


def test_without_a_home_directory_the_error_names_log_dir(sandbox, worker, monkeypatch):
    monkeypatch.setenv("HOME", "/nonexistent/home")
    with pytest.raises(
        sandbox.grid.ArgumentError, match="log_dir is ~, but there is no home directory /nonexistent/home"
    ):
        sandbox.grid.submit_script(worker)
    assert sandbox.jobs() == []


@pytest.mark.parametrize(
    "text, message",
    [
        ("[tool]\ngrid = 'x'", r"\[tool.grid\]"),
        ("[tool.grid]\ngridengine = 'x'", r"\[tool.grid.gridengine\]"),
        ("[tool.grid]\nscheduler = ['a']", r"scheduler must be a string in quotes, not \['a'\]"),
        (
            "[tool.grid]\nschedular = 'a'",
            "unknown key schedular; valid keys: scheduler, gridengine, slurm, background",
        ),
        (
            "[tool.grid.gridengine]\nmem = 'mem'",
            "unknown key mem; valid keys: memory, memory_per, cuda, cuda_per, parallel_environment, queue",
        ),
        ("[tool.grid.gridengine]\nmemory_per = 'host'", "memory_per must be .slot. or .job., not 'host'"),
        ("[tool.grid.gridengine]\nmemory = 5", "memory must be a string in quotes, not 5"),
    ],
)
def test_a_mistake_in_the_table_of_the_site_is_named(sandbox, worker, text, message):
    sandbox.write("pyproject.toml", text)
    with pytest.raises(sandbox.grid.ArgumentError, match=message):
        sandbox.grid.submit_script(worker, log_dir="logs")


def test_a_broken_pyproject_is_named(sandbox, worker):
    sandbox.write("pyproject.toml", "[tool.grid\n")
    with pytest.raises(sandbox.grid.ArgumentError, match="pyproject.toml cannot be read: "):
        sandbox.grid.submit_script(worker)


@pytest.mark.parametrize("chosen, missing", [("", "qsub"), ("gridengine", "qsub"), ("slurm", "sbatch")])
def test_without_a_scheduler_the_error_names_the_ways_out(sandbox, worker, monkeypatch, chosen, missing):
    monkeypatch.setenv("PATH", str(sandbox.path / "bin"))
    monkeypatch.setenv("GRID_SCHEDULER", chosen)
    with pytest.raises(
        sandbox.grid.SubmitError, match=f"(?s){missing}.*this machine.*make local.*GRID_SCHEDULER=background"
    ):
        sandbox.grid.submit_script(worker)
    assert sandbox.jobs() == []


def test_a_qsub_without_qconf_is_not_taken_for_grid_engine(sandbox, worker, monkeypatch):
    sandbox.program("qsub", "echo 123")
    monkeypatch.setenv("PATH", str(sandbox.path / "bin"))
    monkeypatch.setenv("GRID_SCHEDULER", "")
    with pytest.raises(sandbox.grid.SubmitError, match="neither Grid Engine .* nor Slurm"):
        sandbox.grid.submit_script(worker)


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
        ("", 'Unable to run job: unknown resource "licence".', 'qsub failed: .*"licence".$'),
        (
            "",
            'job rejected: the requested parallel environment "smp" does not exist',
            '(?s)write parallel_environment = "NAME"',
        ),
        ("", "Unable to run job: job rejected: only 3 jobs are allowed per user", "only 3 jobs are allowed per user$"),
        ("", "", "qsub failed: no message, exit code 1"),
    ],
)
def test_a_refusal_shows_the_schedulers_words_and_what_to_do(sandbox, worker, site, words, message):
    sandbox.program("qsub", f"echo '{words}' >&2; exit 1")
    if words:
        sandbox.program("qstat", "exit 1")  # a refusal in words is believed
    sandbox.write("pyproject.toml", f"[tool.grid.gridengine]\nparallel_environment = 'smp'\n{site}\n")
    with pytest.raises(sandbox.grid.SubmitError, match=message):
        sandbox.grid.submit_script(worker, memory="2G", cuda=1, cores=2, log_dir="logs", scheduler="gridengine")
    assert sandbox.jobs() == [], "something half-submitted is left"


def test_cores_without_a_parallel_environment_name_the_setting(sandbox, worker):
    sandbox.program("qsub", "echo 123")
    with pytest.raises(sandbox.grid.ArgumentError, match='parallel_environment = "NAME" into the table'):
        sandbox.grid.submit_script(worker, cores=2, log_dir="logs", scheduler="gridengine")
    assert sandbox.jobs() == []


@pytest.mark.parametrize("answer", ["hello", "", "1 2", "job 123", "123\n124"])
def test_an_id_is_never_guessed(sandbox, worker, answer):
    sandbox.program("qsub", f"echo '{answer}'")
    with pytest.raises(sandbox.grid.SubmitError, match="qsub printed no job id"):
        sandbox.grid.submit_script(worker, log_dir="logs", scheduler="gridengine")


def test_a_sites_notices_around_the_id_do_not_confuse_it(sandbox, worker):
    sandbox.program("qsub", "echo 'Welcome: 3 nodes are down until 12.'; echo 4711; echo 'job 99 may be slow'")
    assert sandbox.grid.submit_script(worker, log_dir="logs", scheduler="gridengine").id == "4711"


def test_qdel_of_an_unknown_job_says_so(sandbox):
    with pytest.raises(sandbox.grid.SubmitError, match="no job 99999999 of yours in the background of this machine"):
        sandbox.grid.qdel(99999999)


def test_every_error_is_of_one_family(grid):
    errors = [thing for thing in vars(grid).values() if inspect.isclass(thing) and issubclass(thing, Exception)]
    assert len(errors) >= 3 and all(issubclass(error, grid.GridError) for error in errors)
