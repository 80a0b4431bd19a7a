"""What is generated is what was asked for, for every combination of answers that matters."""

import datetime
import difflib
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import pytest

from baking import NASTY_FOLDER, QUESTIONS, TEMPLATE

# the shortest and the longest, for black joins and splits lines by their length
SCRIPT_NAMES = ["my_script", "x", "A_name_as_long_as_they_may_be_0123456789"]
COMBINATIONS = list(itertools.product(QUESTIONS["environment"], QUESTIONS["licence"], SCRIPT_NAMES))

FILES = """
    README.md Makefile pyproject.toml .gitignore grid.py gridctl.py experiment.py sweep.py compare.py pictures.py
    environment/create.sh environment/activate.sh environment/requirements.txt tests/bin/qsub tests/conftest.py
""".split()

# which words tell a licence from the others, and its last ones
LICENCE_WORDS = {
    "MIT": ("MIT License", "OTHER DEALINGS IN THE\nSOFTWARE.\n"),
    "BSD-3-Clause": ("BSD 3-Clause License", "EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.\n"),
    "Apache-2.0": ("Apache License", "limitations under the License.\n"),
}


@pytest.fixture(scope="module")
def plain(template):
    """The text of each file of the template's project folder."""
    folder = template / "{{cookiecutter.project_slug}}"
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name: (folder / name).read_text(encoding="utf-8") for name in names}


@pytest.mark.parametrize("environment, licence, script", COMBINATIONS)
def test_exactly_what_was_asked_for_is_generated(bake, plain, environment, licence, script):
    project = bake(environment=environment, licence=licence, script_name=script, memory="3G", cuda="2")

    # these files and no others
    expected = {*FILES, f"{script}.py", f"{script}_local.py", *({"LICENSE"} if licence != "none" else ())}
    tests = {name for name in plain if name.startswith("tests/")}
    assert project.files() == expected | tests

    # code is the template's, but for the script's name and the two defaults
    for name in project.files() - {"README.md", "pyproject.toml", "LICENSE"}:
        origin = name.replace(script, "my_script") if name.startswith(script) else name
        if origin not in plain:
            # uv's environment is activated as venv's is
            manager = "venv" if name == "environment/activate.sh" and environment == "uv" else environment
            origin = origin.replace("environment/", f"environment/{manager}/")
        changed = [
            line[1:]
            for line in difflib.ndiff(plain[origin].splitlines(), project.read(name).splitlines())
            if line[0] == "+" and script not in line
        ]
        assert [line.split("#")[0].strip() for line in changed] == (
            ['MEMORY = "3G"', "CUDA = 2"] if name == f"{script}.py" else []
        ), name
        if script != "my_script" and name != "grid.py":
            assert "my_script" not in project.read(name), f"{name} still names the template's script"
    assert project.read("grid.py") == plain["grid.py"], "grid.py is the same in every project"

    # nothing of the template is left in what was rendered
    for name in project.files():
        assert "cookiecutter." not in project.read(name), name
    for name in ("README.md", "pyproject.toml"):
        assert not re.search(r"{{|{%|{#|}}|%}|#}", project.read(name)), name
        assert "my_script" not in project.read(name) or script == "my_script"

    # it is in good form
    assert tomllib.loads(project.read("pyproject.toml"))["project"]["name"] == "my-experiment"
    project.run(sys.executable, "-m", "black", "--check", ".")
    for name in ("environment/create.sh", "environment/activate.sh"):
        project.run("bash", "-n", name)
    for name in (f"{script}.py", f"{script}_local.py", "tests/bin/qsub"):
        assert os.access(project.path / name, os.X_OK), f"{name} can be executed"


@pytest.mark.parametrize("script", ["my_script_local", "my_script2", "not_my_script"])
def test_a_name_that_holds_the_old_one_is_no_trouble(bake, plain, script):
    project = bake(script_name=script)
    for ending in (".py", "_local.py"):
        assert project.read(f"{script}{ending}") == plain[f"my_script{ending}"].replace("my_script", script)


@pytest.mark.parametrize("licence", ["MIT", "BSD-3-Clause", "Apache-2.0"])
def test_the_licence_is_complete_and_names_year_and_author(bake, licence):
    text = bake(licence=licence, author="Ann O'Neil").read("LICENSE")
    first, last = LICENCE_WORDS[licence]
    assert text.lstrip().startswith(first)
    assert text.endswith(last)
    year = datetime.date.today().year
    assert re.search(rf"^ *Copyright (\(c\) )?({year}|{year - 1}) Ann O'Neil$", text, re.MULTILINE)


def test_site_names_are_in_one_table(bake):
    project = bake(memory_resource="mem", cuda_resource="gpu")
    table = tomllib.loads(project.read("pyproject.toml"))["tool"]["grid"]["gridengine"]
    assert (table["memory"], table["cuda"]) == ("mem", "gpu")


@pytest.mark.parametrize("environment", QUESTIONS["environment"])
def test_the_readme_names_the_script_and_the_environment_manager(bake, environment):
    readme = bake(environment=environment, script_name="digits").read("README.md")
    assert "digits.py" in readme and "digits_local.py" in readme
    assert environment in readme
    for other in set(QUESTIONS["environment"]) - {environment, "venv"}:
        assert not re.search(rf"\b{other}\b", readme), f"the README speaks of {other}"


def test_the_project_is_the_same_in_a_folder_with_any_name(bake, tmp_path):
    folder = tmp_path / NASTY_FOLDER
    project, other = bake(into=folder), bake()
    assert project.files() == other.files()
    assert NASTY_FOLDER in project.output.replace("'\"'\"'", "'"), "the next steps name the folder"


def test_the_next_steps_can_be_pasted_into_a_shell(bake, tmp_path):
    project = bake(into=tmp_path / NASTY_FOLDER)
    cd = next(line for line in project.output.splitlines() if line.strip().startswith("cd "))
    assert "help" in project.run("bash", "-c", f"cd / && {cd.strip()} && make").stdout


def test_a_project_can_be_generated_again_over_itself(bake, tmp_path):
    project = bake(script_name="digits", environment="uv")
    (project.path / "results").mkdir()
    (project.path / "results" / "mine").write_text("precious")
    command = [sys.executable, "-m", "cookiecutter", str(bake.template), "--no-input", "--overwrite-if-exists"]
    answers = ["script_name=digits", "environment=venv", "memory=4G"]
    subprocess.run([*command, *answers], cwd=project.path.parent, env=project.environ, check=True, timeout=60)
    assert 'MEMORY = "4G"' in project.read("digits.py")
    assert project.read("results/mine") == "precious"


def test_caches_in_the_template_do_not_get_into_projects(bake, tmp_path):
    expected = bake().files()
    dirty = tmp_path / "dirty"
    shutil.copytree(bake.template, dirty)
    for folder in ("__pycache__", "tests/__pycache__", ".pytest_cache"):
        cache = dirty / "{{cookiecutter.project_slug}}" / folder
        cache.mkdir()
        (cache / "my_script.pyc").write_bytes(b"\0my_script{{")
    bake.template = dirty
    assert bake(script_name="my_script").files() == expected


@pytest.mark.parametrize("where", [">&-", "| true"])
def test_a_closed_terminal_does_not_undo_the_project(bake, environ, tmp_path, where):
    command = f"{shlex.join([sys.executable, '-m', 'cookiecutter', str(bake.template), '--no-input'])} {where}"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environ | {"LC_ALL": "C"}, timeout=60)
    assert (tmp_path / "my-experiment" / "grid.py").exists()
    assert not (tmp_path / "my-experiment" / "licenses").exists()


def test_black_and_pytest_have_one_version_in_the_template_and_in_projects():
    tools = tomllib.loads((TEMPLATE / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]["dev"]
    project = (TEMPLATE / "{{cookiecutter.project_slug}}/environment/requirements.txt").read_text(encoding="utf-8")
    for tool in tools:
        assert re.fullmatch(r"[A-Za-z0-9.-]+==[0-9][0-9a-z.]*", tool), f"{tool} is not pinned to one version"
        if tool.startswith(("black==", "pytest==")):
            assert tool in project.splitlines()


def test_all_that_a_project_installs_is_pinned():
    text = (TEMPLATE / "{{cookiecutter.project_slug}}/environment/requirements.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        assert re.fullmatch(r"|#.*|[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*( *#.*)?", line), line


def test_black_has_the_same_style_in_the_template_and_in_projects(bake):
    ours = tomllib.loads((TEMPLATE / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["black"]
    theirs = tomllib.loads(bake().read("pyproject.toml"))["tool"]["black"]
    for setting in ("line-length", "target-version"):
        assert theirs[setting] == ours[setting]
