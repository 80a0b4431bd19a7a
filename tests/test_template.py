"""What is generated is what was asked for, in combinations in which every answer occurs."""

import datetime
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import pytest

from baking import NASTY_FOLDER, QUESTIONS, Bakery, Project, once

# Every option of every question, with the shortest name and the longest, for black joins and splits lines by their
# length, and names that hold the template's own.
COMBINATIONS = {
    "defaults": {},
    "short": {
        "script_name": "x",
        "environment": "uv",
        "licence": "BSD-3-Clause",
        "scheduler": "gridengine",
        "memory": "3G",
        "cuda": "2",
        "memory_resource": "mem",
        "cuda_resource": "gpu",
    },
    "long": {
        "script_name": "A_name_as_long_as_they_may_be_0123456789",
        "environment": "conda",
        "licence": "Apache-2.0",
        "scheduler": "slurm",
        "memory": "512M",
    },
    "worker": {"script_name": "my_script_local", "licence": "none", "scheduler": "background", "cuda": "1"},
    "within": {"script_name": "not_my_script2", "environment": "uv", "licence": "MIT", "author": "Ann O'Neil"},
}

RENDERED = {"README.md", "pyproject.toml", "LICENSE"}  # cookiecutter puts answers in; all else is code

# the words that tell a licence from the others, and its last ones
LICENCE_WORDS = {
    "MIT": ("MIT License", "OTHER DEALINGS IN THE\nSOFTWARE.\n"),
    "BSD-3-Clause": ("BSD 3-Clause License", "EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.\n"),
    "Apache-2.0": ("Apache License", "limitations under the License.\n"),
}


def answers_of(name):
    """All answers of a combination that say what is generated, also those that are the defaults."""
    defaults = {
        question: default[0] if isinstance(default, list) else default for question, default in QUESTIONS.items()
    }
    return defaults | COMBINATIONS[name]


def origins(template, answers):
    """The file of the template from which each file of a project is made, by its name in the project."""
    folder = template / "{{cookiecutter.project_slug}}"
    manager, licence, script = answers["environment"], answers["licence"], answers["script_name"]
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        if name.parts[0] == "environment" and len(name.parts) == 3:
            # what uv makes is activated as what venv makes
            if name.parts[1] == manager or (manager == "uv" and name.parts[1:] == ("venv", "activate.sh")):
                files[f"environment/{name.name}"] = path
        elif name.parts[0] == "licenses":
            if name.name == licence:
                files["LICENSE"] = path
        else:
            files[re.sub(r"^my_script(_local)?\.py$", rf"{script}\1.py", name.as_posix())] = path
    return files


@pytest.fixture(scope="session", params=COMBINATIONS)
def combination(request, template, tmp_path_factory, environ):
    """The answers of a combination, the project that they give, and `origins` of it; one for all workers."""
    answers = answers_of(request.param)

    def make(folder):
        return str(Bakery(template, folder, environ)(**COMBINATIONS[request.param]).path)

    _, path = once(tmp_path_factory, f"combination-{request.param}", make)
    files = origins(template, answers)
    return answers, Project(template / path, environ), files


def test_every_option_of_every_question_occurs_in_a_combination():
    for question, options in QUESTIONS.items():
        if isinstance(options, list) and not question.startswith("_"):
            assert {answers_of(name)[question] for name in COMBINATIONS} == set(options), question


def test_exactly_the_files_that_were_asked_for_are_generated(combination):
    answers, project, files = combination
    assert project.files() == set(files)
    assert {"grid.py", "Makefile", "environment/create.sh", "environment/activate.sh"} <= set(files)
    assert ("LICENSE" in files) == (answers["licence"] != "none")


def test_code_is_the_templates_but_for_the_name_of_the_script_and_the_two_defaults(combination):
    answers, project, files = combination
    for name in set(files) - RENDERED:
        ours, theirs = files[name].read_bytes(), (project.path / name).read_bytes()
        if name != "grid.py" and not name.startswith("gridlib/"):  # these are the same in every project
            ours = ours.replace(b"my_script", answers["script_name"].encode())
        pairs = zip(ours.splitlines(True), theirs.splitlines(True), strict=True)
        changed = [new.decode() for old, new in pairs if old != new]
        if name == f"{answers['script_name']}.py":
            assert all(re.match("(MEMORY|CUDA) = ", line) for line in changed)
            defaults = re.findall(r"^(?:MEMORY|CUDA) = [^ \n]+", theirs.decode(), re.MULTILINE)
            assert defaults == [f'MEMORY = "{answers["memory"]}"', f"CUDA = {answers['cuda']}"]
        else:
            assert changed == [], name


def test_what_can_be_executed_in_the_template_can_be_in_the_project(combination):
    answers, project, files = combination
    assert {name for name in files if os.access(files[name], os.X_OK)} == {
        name for name in files if os.access(project.path / name, os.X_OK)
    }
    assert os.access(project.path / f"{answers['script_name']}.py", os.X_OK)


def test_nothing_of_the_template_is_left_in_what_was_rendered(combination):
    answers, project, files = combination
    for name in RENDERED & set(files):
        text = project.read(name)
        assert not re.search(r"{{|{%|{#|}}|%}|#}|cookiecutter\.", text), name
        assert "my_script" not in text.replace(answers["script_name"], ""), name


def test_code_that_differs_from_the_templates_is_formatted_too(combination):
    _, project, files = combination
    code = [name for name in files if name.endswith(".py")]
    differ = [name for name in code if files[name].read_bytes() != (project.path / name).read_bytes()]
    if differ:
        project.run(sys.executable, "-m", "black", "--check", *differ)


def test_the_licence_is_complete_and_names_year_and_author(combination):
    answers, project, _ = combination
    if answers["licence"] == "none":
        return
    text = project.read("LICENSE")
    first, last = LICENCE_WORDS[answers["licence"]]
    assert text.lstrip().startswith(first)
    assert text.endswith(last)
    year = datetime.date.today().year
    line = rf"^ *Copyright (\(c\) )?({year}|{year - 1}) {re.escape(answers['author'])}$"
    assert re.search(line, text, re.MULTILINE)


def test_settings_of_the_site_are_in_one_table(combination):
    answers, project, _ = combination
    pyproject = tomllib.loads(project.read("pyproject.toml"))
    assert pyproject["project"]["name"] == "my-experiment"
    table = pyproject["tool"]["grid"]["gridengine"]
    assert (table["memory"], table["cuda"]) == (answers["memory_resource"], answers["cuda_resource"])


def test_the_readme_names_the_script_and_the_environment_manager(combination):
    answers, project, _ = combination
    readme, manager = project.read("README.md"), answers["environment"]
    assert f"{answers['script_name']}.py" in readme and f"{answers['script_name']}_local.py" in readme
    assert manager in readme
    for other in set(QUESTIONS["environment"]) - {manager, "venv"}:
        assert not re.search(rf"\b{other}\b", readme), f"the README speaks of {other}"


def test_a_project_is_the_same_in_a_folder_with_any_name_and_its_next_steps_can_be_pasted_into_a_shell(bake, tmp_path):
    project = bake(into=tmp_path / NASTY_FOLDER)
    assert project.files() == set(origins(bake.template, answers_of("defaults")))
    cd = next(line for line in project.output.splitlines() if line.strip().startswith("cd "))
    assert "help" in project.run("bash", "-c", f"cd / && {cd.strip()} && make").stdout


def test_a_project_can_be_generated_again_over_itself(bake):
    project = bake(script_name="digits", environment="uv")
    (project.path / "results").mkdir()
    (project.path / "results" / "mine").write_text("precious")
    command = [sys.executable, "-m", "cookiecutter", str(bake.template), "--no-input", "--overwrite-if-exists"]
    answers = ["script_name=digits", "environment=venv", "memory=4G"]
    subprocess.run([*command, *answers], cwd=project.path.parent, env=project.environ, check=True, timeout=60)
    assert 'MEMORY = "4G"' in project.read("digits.py")
    assert project.read("results/mine") == "precious"


def test_caches_in_the_template_do_not_get_into_projects(bake, tmp_path):
    expected = set(origins(bake.template, answers_of("defaults")))
    bake.template = shutil.copytree(bake.template, tmp_path / "dirty")
    project = bake.template / "{{cookiecutter.project_slug}}"
    for folder in {path.parent for path in project.rglob("*.py")}:  # wherever Python makes them
        for cache in (folder / "__pycache__", folder / ".pytest_cache"):
            cache.mkdir()
            (cache / "my_script.pyc").write_bytes(b"\0my_script{{")
    assert bake().files() == expected


@pytest.mark.parametrize("where", [">&-", "| true"])
def test_a_closed_terminal_does_not_undo_the_project(bake, environ, tmp_path, where):
    command = f"{shlex.join([sys.executable, '-m', 'cookiecutter', str(bake.template), '--no-input'])} {where}"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environ | {"LC_ALL": "C"}, timeout=60)
    assert (tmp_path / "my-experiment" / "grid.py").exists()
    assert not (tmp_path / "my-experiment" / "licenses").exists()
