"""A new project is a git repository where that is safe, and git never makes the generation fail."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def git(folder, *words, environ):
    """What a git command prints."""
    done = subprocess.run(["git", *words], cwd=folder, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def fake_git(tmp_path, environ):
    """fake_git(script) puts a git of that shell code before the real one; returns the variables for it."""

    def make(script):
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "git").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "git").chmod(0o755)
        return {"PATH": f"{folder}{os.pathsep}{environ['PATH']}"}

    return make


def test_a_project_is_a_repository_without_an_identity(bake, environ):
    project = bake()
    assert Path(git(project.path, "rev-parse", "--show-toplevel", environ=environ)).samefile(project.path)
    # what the project makes when it works is not offered for a commit
    for name in ("env/x", "results/x", "logs/x", ".grid/x", "__pycache__/x"):
        (project.path / name).parent.mkdir(exist_ok=True)
        (project.path / name).touch()
    offered = git(project.path, "ls-files", "--others", "--exclude-standard", environ=environ).splitlines()
    assert {"grid.py", "my_script.py", "Makefile", "environment/create.sh"} <= set(offered)
    assert not [name for name in offered if name.endswith("/x")]


def test_the_branch_is_called_as_the_user_has_configured(bake, environ, tmp_path):
    config = tmp_path / "gitconfig"
    config.write_text("[init]\n\tdefaultBranch = trunk\n")
    project = bake(variables={"GIT_CONFIG_GLOBAL": str(config)})
    assert git(project.path, "symbolic-ref", "--short", "HEAD", environ=environ) == "trunk"


def test_a_project_inside_a_repository_becomes_part_of_it(bake, environ, tmp_path):
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", environ=environ)
    project = bake(into=outer)
    assert not (project.path / ".git").exists()


def test_a_project_is_made_where_git_is_missing(bake, tmp_path):
    project = bake(variables={"PATH": str(tmp_path)})
    assert not (project.path / ".git").exists()
    assert "make local" in project.output


@pytest.mark.parametrize(
    "script",
    [
        "exit 129",
        "echo 'fatal: nothing works' >&2; exit 1",
        "kill -9 $$",
        'test "$1" = init || exit 1; test $# = 1 || exit 129; mkdir .git',  # an old one, which knows no init -b
    ],
)
def test_a_project_is_made_with_any_git(bake, fake_git, script):
    project = bake(variables=fake_git(script))
    assert "make local" in project.output
    assert "fatal" not in project.output
    assert (project.path / ".git").exists() == ("mkdir" in script)


@pytest.fixture
def repository(template, tmp_path, environ):
    """The template as a repository with one commit, for cruft clones what it uses."""
    folder = tmp_path / "repository"
    shutil.copytree(template, folder)
    identity = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
    git(folder, "init", "--initial-branch=main", environ=environ)
    git(folder, "add", "--all", environ=environ)
    git(folder, *identity, "commit", "--quiet", "--message=1", environ=environ)
    return folder


def cruft(*words, folder, environ):
    """Run cruft in a folder."""
    command = [sys.executable, "-m", "cruft", *words]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_cruft_makes_a_project_and_brings_changes_of_the_template_into_it(repository, tmp_path, environ):
    cruft(
        "create", str(repository), "--no-input", "--output-dir", str(tmp_path / "out"), folder=tmp_path, environ=environ
    )
    project = tmp_path / "out" / "my-experiment"
    assert (project / ".cruft.json").exists()
    assert not (project / ".git").exists(), "under cruft the hook leaves git alone"

    # the user goes on with git and changes a line; the template changes another file
    identity = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
    git(project, "init", environ=environ)
    (project / "my_script_local.py").write_text("# my own\n")
    git(project, "add", "--all", environ=environ)
    git(project, *identity, "commit", "--quiet", "--message=mine", environ=environ)
    with open(repository / "{{cookiecutter.project_slug}}" / "grid.py", "a") as file:
        file.write("\n# newer\n")
    git(repository, *identity, "commit", "--quiet", "--all", "--message=2", environ=environ)

    cruft("update", "--skip-apply-ask", folder=project, environ=environ)
    assert (project / "grid.py").read_text(encoding="utf-8").endswith("# newer\n")
    assert (project / "my_script_local.py").read_text() == "# my own\n"
