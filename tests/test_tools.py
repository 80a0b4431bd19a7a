"""What is installed, for the template and for projects: lists of names, the exact versions, and how one becomes the other."""

import fcntl
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from baking import TEMPLATE

LISTS = [TEMPLATE / "requirements", TEMPLATE / "{{cookiecutter.project_slug}}" / "environment" / "requirements"]


def lines(path):
    """The lines of a list that are no comments."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def pins(text):
    """The versions of each package that a text pins; several if they depend on the Python."""
    found = {}
    for name, version in re.findall(r"^([^=\s]+)==(.+)", text, re.MULTILINE):
        found.setdefault(name, []).append(version)
    return found


# --- the lists of the template ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("both", LISTS, ids=["template", "project"])
def test_all_that_is_installed_is_pinned(both):
    for line in lines(both.with_suffix(".txt")):
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; .*)?", line), line


@pytest.mark.parametrize("both", LISTS, ids=["template", "project"])
def test_each_package_of_the_short_list_is_pinned_and_the_short_list_pins_none(both):
    names = lines(both.with_suffix(".in"))
    assert all(re.fullmatch("[a-z-]+", name) for name in names)
    assert set(names) <= set(pins(both.with_suffix(".txt").read_text(encoding="utf-8")))


def test_a_package_has_one_version_in_the_template_and_in_projects():
    ours, theirs = (pins(both.with_suffix(".txt").read_text(encoding="utf-8")) for both in LISTS)
    assert {"black", "pytest", "numpy"} <= set(ours) & set(theirs)
    for name in set(ours) & set(theirs):
        assert ours[name] == theirs[name], name


def test_black_has_the_same_style_in_the_template_and_in_projects(bake):
    ours = tomllib.loads((TEMPLATE / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["black"]
    theirs = tomllib.loads(bake().read("pyproject.toml"))["tool"]["black"]
    for setting in ("line-length", "target-version"):
        assert theirs[setting] == ours[setting]


# --- the environment of a project -------------------------------------------------------------------------------------


def make_wheel(folder, name, version):
    """Put a package into a folder, ready to be installed."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def small(bake, tmp_path):
    """small(manager) makes a project that needs one small package, which lies with others in a folder of this machine."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name, version in (("first", "1.0"), ("first", "1.1"), ("second", "2.0"), ("third", "3.0")):
        make_wheel(wheels, name, version)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "uv").symlink_to(Path(sys.executable).parent / "uv")

    def make(manager):
        project = bake(environment=manager)
        project.environ = project.environ | {"PATH": f"{programs}{os.pathsep}{project.environ['PATH']}"}
        environment = project.path / "environment"
        (environment / "requirements.in").write_text(f"--no-index\n--find-links {wheels}\nfirst\n")
        (environment / "requirements.txt").write_text("# kept\nfirst==1.0\n")
        (project.path / "my_script_local.py").write_text("import first\n")
        return project

    return make


def pass_time(project):
    """Make all that is there older: make cannot tell two files of the same instant apart."""
    for seconds, names in ((20, "environment/*"), (10, "env/.ready")):
        for path in project.path.glob(names):
            then = path.stat().st_mtime - seconds
            os.utime(path, (then, then))


def installed(project):
    """The versions of what the project's environment has of these packages."""
    found = [path.stem for path in project.path.glob("env/lib/python*/site-packages/*.dist-info")]
    return dict(name.split("-") for name in found if name.startswith(("first", "second", "third")))


@pytest.mark.parametrize("manager", [pytest.param("venv", marks=pytest.mark.slow), "uv"])
def test_a_package_that_a_user_adds_is_installed_by_the_next_make_and_pinned_by_make_lock(small, manager):
    project = small(manager)
    project.run("make", "env")
    assert installed(project) == {"first": "1.0"}, "the pinned version, not the newest"

    pass_time(project)
    with (project.path / "environment" / "requirements.in").open("a") as file:
        file.write("second\n")
    project.run("make", "env")
    assert installed(project) == {"first": "1.0", "second": "2.0"}
    assert project.read("environment/requirements.txt") == "# kept\nfirst==1.0\n"

    project.run("make", "lock")
    assert project.read("environment/requirements.txt") == "# kept\nfirst==1.0\nsecond==2.0\n"
    assert "installing" not in project.run("make", "env").stdout, "nothing has changed"
    project.run("make", "lock")
    assert project.read("environment/requirements.txt") == "# kept\nfirst==1.0\nsecond==2.0\n"


@pytest.mark.parametrize("manager", [pytest.param("venv", marks=pytest.mark.slow), "uv"])
def test_make_lock_writes_no_path_of_this_machine(small, tmp_path, manager):
    project = small(manager)
    with (project.path / "environment" / "requirements.in").open("a") as file:
        file.write(f"{tmp_path}/wheels/third-3.0-py3-none-any.whl\n")
    project.run("make", "lock")
    assert installed(project) == {"first": "1.0", "third": "3.0"}
    assert project.read("environment/requirements.txt") == "# kept\nfirst==1.0\n"


@pytest.mark.slow
def test_create_says_how_another_version_is_taken_where_an_old_one_is_pinned(small):
    project = small("venv")
    project.run("make", "env")
    pass_time(project)
    requirements = project.path / "environment" / "requirements.in"
    requirements.write_text(requirements.read_text().replace("first\n", "first>=1.1\n"))
    refused = project.run("make", "env", check=False)
    assert refused.returncode != 0
    assert "delete its line in environment/requirements.txt" in refused.stderr
    (project.path / "environment" / "requirements.txt").write_text("")
    project.run("make", "lock")
    assert project.read("environment/requirements.txt") == "first==1.1\n"


def test_make_lock_in_a_new_project_changes_nothing(bake, uv_project):
    project = bake(environment="uv")
    (project.path / "env").symlink_to(uv_project.path / "env")
    (uv_project.path / "env" / ".ready").touch()
    before = project.read("environment/requirements.txt")
    project.run("make", "lock", PATH=uv_project.environ["PATH"])
    assert project.read("environment/requirements.txt") == before


# --- two at once ------------------------------------------------------------------------------------------------------


def start(project, *command, **variables):
    """Start a command in the project, whose output can be read line by line."""
    how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=project.path, env=project.environ | variables, **how)


@pytest.mark.parametrize("manager", [pytest.param("venv", marks=pytest.mark.slow), "uv"])
def test_of_two_makes_at_once_one_makes_the_environment_and_both_succeed(small, manager):
    project = small(manager)
    both = [start(project, "make", "env") for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(outputs)
    assert "".join(outputs).count("installing") == 1


@pytest.mark.parametrize("lock", ["flock", "folder"])
def test_a_second_make_says_that_it_waits_and_goes_on_when_the_first_has_ended(small, tmp_path, lock):
    project = small("venv")
    folder = project.path / "environment" / ".lock"
    path = project.environ["PATH"]
    with (project.path / "environment" / "create.sh").open("a") as file:
        if lock == "flock":
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            (tmp_path / "without").mkdir()
            (tmp_path / "without" / "flock").write_text("#!/bin/sh\nexit 1\n")  # as where the file system has no locks
            (tmp_path / "without" / "flock").chmod(0o755)
            path = f"{tmp_path / 'without'}{os.pathsep}{path}"
            folder.mkdir()
        process = start(project, "make", "env", PATH=path)
        said = process.stdout.readline()
        assert "another create.sh is at work" in said
        assert not (project.path / "env").exists()
        if lock == "folder":
            assert "environment/.lock" in said
            folder.rmdir()
    rest, _ = process.communicate(timeout=120)  # closing the file has ended its lock
    assert process.returncode == 0, rest
    assert installed(project) == {"first": "1.0"}, "the first has not done it, so the second has"
    assert not folder.exists()


def test_the_scripts_of_the_environment_managers_wait_alike(template):
    texts = []
    for manager in ("venv", "uv", "conda"):
        create = template / "{{cookiecutter.project_slug}}" / "environment" / manager / "create.sh"
        texts.append(
            re.search(r"^take_turn\(\).*?^}\n", create.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[0]
        )
    assert texts[0] == texts[1] == texts[2]
