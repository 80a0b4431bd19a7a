"""A generated project works: its environment, its own tests, make local, make grid. The slow part."""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from baking import BACKGROUND, NASTY_FOLDER, Project, once

SHORT = "ARGS=--epochs 3 --seed 7"
MAKE_DEMO = ["make", "--old-file=.venv/.ready", "demo"]  # never make anew the .venv in which these tests run


def path_without(folder, project, *names):
    """A PATH with all programs but these."""
    programs = folder / "programs"
    programs.mkdir()
    for found in project.environ["PATH"].split(os.pathsep):
        for program in Path(found).iterdir() if os.path.isdir(found) else ():
            if program.name not in names and not (programs / program.name).is_symlink():
                (programs / program.name).symlink_to(program)
    return str(programs)


def environment_of(project):
    """Which Python make runs in, and where its packages come from."""
    code = "import sys, numpy; print(sys.prefix, numpy.__file__, sep='\\n')"
    command = f"source environment/activate.sh && python -c {code!r}"
    return [Path(line) for line in project.run("bash", "-c", command).stdout.splitlines()]


def run_demo(clone, environ):
    """Run `make demo` in a clone of the template; returns what it printed."""
    # PIP_COMPILE: not all of the packages, which takes 10 s; Python compiles what it imports
    environ = environ | BACKGROUND | {"PIP_COMPILE": "0"}
    command = {"cwd": clone, "env": environ, "capture_output": True, "text": True, "timeout": 600}
    done = subprocess.run(MAKE_DEMO, **command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def demo(template, tmp_path_factory, environ):
    """What `make demo` makes in a clone in a folder with a nasty name; its project has an environment made by venv.

    It is one for all workers: tests may add to it, and expect others to do so.
    """

    def make(folder):
        clone = folder / NASTY_FOLDER
        shutil.copytree(template, clone)
        (clone / ".venv").symlink_to(sys.prefix)  # the one in which these tests run
        return run_demo(clone, environ)

    folder, output = once(tmp_path_factory, "demo", make)
    return Project(folder / NASTY_FOLDER / "demo" / "digits", environ, output)


def its_own_tests_pass(project):
    """Run `make test` in a project: something ran, and nothing was skipped or warned of."""
    output = project.run("make", "test").stdout
    assert re.search(r"\d+ passed", output), output
    assert not re.search(r"skipped|failed|error|warning", output.splitlines()[-1]), output


# --- without an environment -------------------------------------------------------------------------------------------


def test_make_alone_lists_every_command(bake):
    project = bake()
    text = project.run("make").stdout
    for target in "env local grid results test format status stop clean".split():
        assert re.search(rf"^ +{target} +\S", text, re.MULTILINE), f"make {target} is not in the list:\n{text}"


@pytest.mark.parametrize("manager", ["uv", "conda"])
def test_a_missing_environment_manager_is_named(bake, tmp_path, manager):
    project = bake(environment=manager)
    programs = tmp_path / "bin"
    programs.mkdir()
    for program in ("bash", "sh", "make", "dirname", "cat", "rm"):
        (programs / program).symlink_to(shutil.which(program))
    done = project.run("make", "local", check=False, PATH=str(programs))
    assert done.returncode != 0
    assert re.search(rf"create\.sh: .*{manager}.* found", done.stderr), done.stderr
    assert not (project.path / "env").exists()


# --- with one that was there ------------------------------------------------------------------------------------------


def test_without_a_scheduler_make_grid_names_the_ways_out(bake_with_env, tmp_path):
    project = bake_with_env()
    done = project.run("make", "grid", check=False, PATH=path_without(tmp_path, project, "qsub", "qconf", "sbatch"))
    assert done.returncode != 0
    assert "make local" in done.stderr and "GRID_SCHEDULER=background" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project.path / ".grid").exists()


def test_dry_run_shows_the_answers_as_the_scheduler_gets_them(bake_with_env):
    project = bake_with_env(script_name="digits", memory="1.5G", cuda="2", memory_resource="mem", cuda_resource="gpu")
    shown = project.run("make", "grid", "ARGS=--dry-run", GRID_SCHEDULER="gridengine").stdout
    assert "-N digits " in shown
    assert "-l mem=1536M -l gpu=2" in shown
    assert not (project.path / ".grid").exists()


def test_make_grid_gives_what_make_local_gives_in_the_background_and_through_the_fake_qsub(bake_with_env, tmp_path):
    project = bake_with_env(script_name="digits")
    project.run("make", "local", SHORT)
    project.run("make", "grid", SHORT, **BACKGROUND)
    path = f"{project.path / 'tests' / 'bin'}{os.pathsep}{project.environ['PATH']}"
    project.run("make", "grid", SHORT, PATH=path, FAKE_GRID_ENGINE=str(tmp_path / "calls"))
    local, background, qsub = project.wait_for_results(3)
    assert local == background == qsub
    assert (tmp_path / "calls" / "1.args").exists()


def test_make_status_shows_a_job_and_make_stop_ends_it(bake_with_env):
    project = bake_with_env()
    output = project.run("make", "grid", "ARGS=--epochs 100000", **BACKGROUND).stdout
    number = re.search(r"submitted job (\d+)", output)[1]
    assert re.search(rf"^{number} +my_script +RUNNING", project.run("make", "status").stdout, re.MULTILINE)
    # the command that was printed, as it was printed, without the variable that had chosen the scheduler
    project.run(*re.search(r"^ *stop +(make .*)$", output, re.MULTILINE)[1].split())
    project.run("make", "log", f"JOB={number}")  # until its end
    assert re.search(rf"^{number} +my_script +CANCELLED", project.run("make", "status").stdout, re.MULTILINE)
    assert project.results() == {}


@pytest.mark.slow
def test_two_submissions_at_once_are_two_jobs_and_two_results(bake_with_env):
    project = bake_with_env()
    command = ["bash", "-c", "source environment/activate.sh && python my_script.py grid --epochs 3"]
    with ThreadPoolExecutor() as pool:
        outputs = list(pool.map(lambda _: project.run(*command, **BACKGROUND).stdout, range(2)))
    ids = {re.search(r"submitted job (\d+)", output)[1] for output in outputs}
    assert len(ids) == 2
    first, second = project.wait_for_results(2)
    assert first == second
    assert len(project.jobs()) == 2
    assert {path.name for path in project.path.glob("logs/*")} == {f"my_script.{end}{n}" for end in "oe" for n in ids}


def test_its_own_tests_pass_untouched(bake_with_env):
    its_own_tests_pass(bake_with_env())


@pytest.mark.slow
def test_its_own_tests_pass_with_long_and_nasty_answers_in_a_folder_with_a_nasty_name(bake_with_env, tmp_path):
    project = bake_with_env(
        into=tmp_path / NASTY_FOLDER,
        typed=True,
        script_name="A_name_as_long_as_they_may_be_0123456789",
        author='Ann "Bo" O\'Neil \\ X',
        description="$(x) {{ y }} ''' # % 🎉",
        memory="512M",
        cuda="1",
        memory_resource="mem",
        cuda_resource="gpu",
    )
    its_own_tests_pass(project)


# --- environments made for real ---------------------------------------------------------------------------------------


def test_uv_makes_the_environment_once(uv_project):
    prefix, package = environment_of(uv_project)
    assert prefix == uv_project.path / "env"
    assert package.is_relative_to(prefix)
    ready = (uv_project.path / "env" / ".ready").stat().st_ctime
    assert "installing" not in uv_project.run("make", "local", SHORT).stdout
    assert (uv_project.path / "env" / ".installed").stat().st_ctime < ready


def test_make_demo_works_in_a_folder_with_a_nasty_name_and_ends_with_what_came_out(demo):
    accuracies = re.findall(r"^ +make (?:local|grid) +test accuracy (0\.\d+)$", demo.output, re.MULTILINE)
    assert len(accuracies) == 2 and accuracies[0] == accuracies[1] and float(accuracies[0]) >= 0.95
    assert "in the background" in demo.output or "GRID_SCHEDULER" in demo.output
    for picture in re.findall(r"demo/digits/\S+\.png", demo.output):
        assert (demo.path.parent.parent / picture).read_bytes().startswith(b"\x89PNG")
    assert len(re.findall(r"\.png$", demo.output, re.MULTILINE)) >= 4


def test_venv_makes_the_environment_in_a_folder_with_a_nasty_name(demo):
    prefix, package = environment_of(demo)
    assert prefix == demo.path / "env"
    assert package.is_relative_to(prefix)


@pytest.mark.slow
def test_make_demo_again_keeps_what_is_there_and_gives_the_same(demo):
    known = demo.results()
    (demo.path / "notes.txt").write_text("mine")
    run_demo(demo.path.parent.parent, demo.environ)
    assert demo.read("notes.txt") == "mine"
    assert set(demo.results()) > set(known) and len(demo.results()) == len(known) + 2
    first, *others = demo.results().values()
    assert all(other == first for other in others), "the same arguments give the same metrics"


FAKE_CONDA = """#!/bin/bash
# Stands in for conda: an environment is a copy of one that venv has made.
echo "$*" >>"$CONDA_CALLS"
case $1 in
create) while [ "$1" != --prefix ]; do shift; done; cp -al "$CONDA_MODEL" "$2"; rm -f "$2"/.ready "$2"/.installed ;;
info) echo "${CONDA_CALLS%/*}" ;;
*) exit 2 ;;
esac
"""

FAKE_CONDA_SH = """
conda() { [ "$1" = activate ] && export CONDA_PREFIX=$2 PATH="$2/bin:$PATH"; }
"""


@pytest.mark.slow
def test_conda_makes_the_environment_once_and_is_activated_in_jobs_and_tests(bake, demo, tmp_path):
    project = bake(environment="conda")
    base = tmp_path / "a conda"
    (base / "etc" / "profile.d").mkdir(parents=True)
    (base / "etc" / "profile.d" / "conda.sh").write_text(FAKE_CONDA_SH)
    (base / "bin").mkdir()
    (base / "bin" / "conda").write_text(FAKE_CONDA)
    (base / "bin" / "conda").chmod(0o755)
    variables = {
        "PATH": f"{base / 'bin'}{os.pathsep}{project.environ['PATH']}",
        "CONDA_CALLS": str(base / "calls"),
        "CONDA_MODEL": str(demo.path / "env"),
    }
    project.run("make", "local", SHORT, **variables)
    # on the node, conda is not on PATH
    project.run("make", "grid", SHORT, **BACKGROUND)
    local, grid = project.wait_for_results(2)
    assert local == grid
    created, *others = (base / "calls").read_text().splitlines()
    assert re.match(rf"create .*--prefix {re.escape(str(project.path / 'env'))} .*python=3\.1[1-4]\b", created)
    assert set(others) == {"info --base"}
    assert project.run("make", "test", "ARGS=--version").stdout.startswith("pytest ")
