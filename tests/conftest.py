"""Fixtures: projects made from a clean copy of the template, and one environment for all of them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from baking import TEMPLATE, Bakery, Project, once
from signals import stop_ignoring_signals

# How many values hypothesis tries; HYPOTHESIS_PROFILE=thorough pytest ... takes minutes.
settings.register_profile("quick", max_examples=300, deadline=None)
settings.register_profile("thorough", max_examples=3000, deadline=None)


def pytest_configure(config):
    """Make the suite independent of its shell, and say what this machine lacks before a hundred tests fail for it."""
    stop_ignoring_signals()
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
    for program in ("git", "make", "bash"):
        if not shutil.which(program):
            pytest.exit(f"these tests need {program} on PATH", returncode=3)


@pytest.fixture(scope="session")
def environ(tmp_path_factory):
    """The variables that commands get: this machine's, less what changes how git, make, Python or the grid behave."""
    meddling = (
        "GIT_",
        "GRID_",
        "COOKIECUTTER_",
        "MAKE",
        "MFLAGS",
        "ARGS",
        "PYTEST_",
        "PYTHON",
        "VIRTUAL_ENV",
        "CONDA_",
        "SGE_",
        "SLURM_",
        "SBATCH_",
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(meddling)}
    home = tmp_path_factory.mktemp("home")
    # The caches of pip and uv stay, for a new home would fetch every package anew.
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    config = home / "cookiecutter.yaml"
    config.write_text(json.dumps({"replay_dir": str(home / "replay"), "cookiecutters_dir": str(home / "templates")}))
    return clean | {
        "HOME": str(home),
        "TMPDIR": str(home),  # cookiecutter leaves its copies of the hooks in it
        "XDG_CACHE_HOME": str(cache),
        "COOKIECUTTER_CONFIG": str(config),
        "GIT_CONFIG_GLOBAL": os.devnull,  # so nobody's identity, nor anybody's taste in branches
        "GIT_CONFIG_NOSYSTEM": "1",
        "LC_ALL": "C.UTF-8",
    }


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """A copy of the template as a clone of it would be: no .venv, no demo, nothing that a run in place left."""
    folder = tmp_path_factory.mktemp("template") / "grid-template"
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=TEMPLATE, capture_output=True, text=True)
    assert listed.returncode == 0, f"these tests need a git clone of the template: {listed.stderr}"
    for name in listed.stdout.split("\0"):
        if name and (TEMPLATE / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TEMPLATE / name, folder / name)
    return folder


@pytest.fixture
def bake(template, tmp_path, environ):
    """bake(script_name="digits", licence="none") makes a project and returns it."""
    return Bakery(template, tmp_path, environ)


@pytest.fixture(scope="session")
def uv_project(template, tmp_path_factory, environ):
    """A project whose environment uv has made: one for all workers, so leave it as it is."""

    def with_uv(folder):
        """The variables with which uv is found."""
        return environ | {"PATH": f"{folder / 'bin'}{os.pathsep}{environ['PATH']}"}

    def make(folder):
        (folder / "bin").mkdir()
        (folder / "bin" / "uv").symlink_to(Path(sys.executable).parent / "uv")
        project = Bakery(template, folder, with_uv(folder))(environment="uv")
        return project.run("make", "env").stdout

    folder, output = once(tmp_path_factory, "uv", make)
    return Project(folder / "1" / "my-experiment", with_uv(folder), output)


@pytest.fixture
def bake_with_env(bake, uv_project):
    """bake_with_env(**answers) makes a project that has an environment: another project's, to save the time."""

    def make(**answers):
        project = bake(**answers)
        (project.path / "env").symlink_to(uv_project.path / "env")
        (uv_project.path / "env" / ".ready").touch()
        return project

    return make
