"""A generated project works: its environment, its own tests, make local, make grid. The slow part."""

import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from baking import NASTY_FOLDER, Bakery, Project

BACKGROUND = {"GRID_SCHEDULER": "background"}
SHORT = "ARGS=--epochs 3 --seed 7"
MAKE_DEMO = ["make", "--old-file=.venv/.ready", "demo"]  # never make anew the .venv in which these tests run


def wait_for_results(project, number, seconds=60):
    """The metrics of that many runs, as soon as they are there."""
    limit = time.monotonic() + seconds
    while len(project.results()) < number:
        logs = "\n".join(path.read_text(encoding="utf-8") for path in project.path.glob("logs/*"))
        assert time.monotonic() < limit, f"{number} runs were started, these ended: {project.results()}\n{logs}"
        time.sleep(0.2)
    return list(project.results().values())


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


@pytest.fixture(scope="session")
def demo(template, tmp_path_factory, environ):
    """What `make demo` does, in a clone in a folder with a nasty name; its project has an environment made by venv."""
    clone = tmp_path_factory.mktemp("demo") / NASTY_FOLDER
    shutil.copytree(template, clone)
    (clone / ".venv").symlink_to(sys.prefix)  # the one in which these tests run
    done = subprocess.run(MAKE_DEMO, cwd=clone, env=environ | BACKGROUND, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return Project(clone / "demo" / "digits", environ, done.stdout)


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


def test_without_a_scheduler_make_grid_names_the_ways_out(furnished, tmp_path):
    project = furnished()
    done = project.run("make", "grid", check=False, PATH=path_without(tmp_path, project, "qsub", "qconf", "sbatch"))
    assert done.returncode != 0
    assert "make local" in done.stderr and "GRID_SCHEDULER=background" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project.path / ".grid").exists()


def test_dry_run_shows_the_answers_as_the_scheduler_gets_them(furnished):
    project = furnished(script_name="digits", memory="1.5G", cuda="2", memory_resource="mem", cuda_resource="gpu")
    shown = project.run("make", "grid", "ARGS=--dry-run", GRID_SCHEDULER="gridengine").stdout
    assert "-N digits " in shown
    assert "-l mem=1536M -l gpu=2" in shown
    assert not (project.path / ".grid").exists()


def test_make_local_trains_well_and_fast_and_gives_the_same_again(furnished):
    project = furnished()
    started = time.monotonic()
    project.run("make", "local")
    assert time.monotonic() - started < 30
    project.run("make", "local")
    first, second = project.results().values()
    assert first["accuracy"] >= 0.95
    assert first == second


def test_make_grid_gives_what_make_local_gives(furnished):
    project = furnished(script_name="digits")
    project.run("make", "local", SHORT)
    project.run("make", "grid", SHORT, **BACKGROUND)
    local, grid = wait_for_results(project, 2)
    assert local == grid


def test_make_grid_gives_the_same_through_the_fake_qsub(furnished, tmp_path):
    project = furnished()
    project.run("make", "local", SHORT)
    path = f"{project.path / 'tests' / 'bin'}{os.pathsep}{project.environ['PATH']}"
    project.run("make", "grid", SHORT, PATH=path, FAKE_GRID_ENGINE=str(tmp_path / "calls"))
    local, grid = wait_for_results(project, 2)
    assert local == grid
    assert (tmp_path / "calls" / "1.args").exists()


def test_make_status_shows_a_job_and_make_stop_ends_it(furnished, request):
    project = furnished()
    output = project.run("make", "grid", "ARGS=--epochs 100000", **BACKGROUND).stdout
    number = re.search(r"submitted job (\d+)", output)[1]
    assert re.search(rf"^{number} +my_script +RUNNING", project.run("make", "status").stdout, re.MULTILINE)
    # the command that was printed, as it was printed, without the variable that had chosen the scheduler
    project.run(*re.search(r"^ *stop +(make .*)$", output, re.MULTILINE)[1].split())
    project.run("make", "log", f"JOB={number}")  # until its end
    assert re.search(rf"^{number} +my_script +CANCELLED", project.run("make", "status").stdout, re.MULTILINE)
    assert project.results() == {}


def test_two_submissions_at_once_are_two_jobs_and_two_results(furnished):
    project = furnished()
    command = ["bash", "-c", "source environment/activate.sh && python my_script.py grid --epochs 3"]
    with ThreadPoolExecutor() as pool:
        outputs = list(pool.map(lambda _: project.run(*command, **BACKGROUND).stdout, range(2)))
    ids = {re.search(r"submitted job (\d+)", output)[1] for output in outputs}
    assert len(ids) == 2
    first, second = wait_for_results(project, 2)
    assert first == second
    assert len(list(project.path.glob(".grid/*/record.json"))) == 2
    assert {path.name for path in project.path.glob("logs/*")} == {f"my_script.{end}{n}" for end in "oe" for n in ids}


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {
            "script_name": "x",
            "author": 'Ann "Bo" O\'Neil \\ X',
            "description": "$(x) {{ y }} ''' # % 🎉",
            "typed": True,
        },
        {
            "script_name": "A_name_as_long_as_they_may_be_0123456789",
            "memory": "512M",
            "cuda": "1",
            "memory_resource": "mem",
            "cuda_resource": "gpu",
        },
    ],
)
def test_its_own_tests_pass_untouched(furnished, answers):
    output = furnished(**answers).run("make", "test").stdout
    assert re.search(r"\d+ passed", output)
    assert not re.search(r"skipped|failed|error|warning", output.splitlines()[-1]), output


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


def test_its_own_tests_pass_in_a_folder_with_a_nasty_name(demo):
    assert re.search(r"\d+ passed", demo.run("make", "test").stdout)


def test_make_demo_again_keeps_what_is_there(demo):
    known = set(demo.results())
    (demo.path / "notes.txt").write_text("mine")
    clone = demo.path.parent.parent
    subprocess.run(MAKE_DEMO, cwd=clone, env=demo.environ | BACKGROUND, check=True, timeout=600)
    assert demo.read("notes.txt") == "mine"
    assert set(demo.results()) > known and len(demo.results()) == len(known) + 2


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
    local, grid = wait_for_results(project, 2)
    assert local == grid
    created, *others = (base / "calls").read_text().splitlines()
    assert re.match(rf"create .*--prefix {re.escape(str(project.path / 'env'))} .*python=3\.1[1-4]\b", created)
    assert set(others) == {"info --base"}
    assert re.search(r"\d+ passed", project.run("make", "test").stdout)
