"""Bad answers are refused in one line, and what an answer holds is never executed and never breaks a file."""

import ast
import importlib.util
import json
import re
import sys
import tomllib

import pytest
from cookiecutter.main import cookiecutter
from jinja2 import Environment

from baking import QUESTIONS, TEMPLATE, Project

NASTY_TEXTS = [
    'Ann "Bo" O\'Neil \\ X',
    "$(touch pwned) `touch pwned`; touch pwned",
    "{{ y }} {% for x in y %} {# z #} {{ cookiecutter }}",
    "''' \"\"\" r''' \\''' \\\"\"\"",
    "# 100 % %(x)s {x} $HOME ${x} !x &amp; <b> \\n \\u0041 \\1 \\g<1>",
    "🎉 ünï 漢字 שלום \u200f👩\u200d🔬",
    "'); import os; os.system('touch pwned') #",
    "ends in a backslash \\",
]

BAD_ANSWERS = [
    ("project_name", "two\nlines"),
    ("project_name", "a\x1b[31mcolour"),
    ("description", "a\rb"),
    ("description", "a\u2028b"),
    ("author", "tab\there"),
    ("author", ""),
    ("author", " "),
    ("project_slug", "-x"),
    ("project_slug", "a b"),
    ("project_slug", "a."),
    ("project_slug", "a;touch pwned"),
    ("project_slug", "a/b"),
    ("project_slug", ".."),
    ("project_slug", "ü"),
    ("script_name", "2fast"),
    ("script_name", "my-script"),
    ("script_name", "my_script.py"),
    ("script_name", "größe"),
    ("script_name", "__main__"),
    ("script_name", "a" * 41),
    ("script_name", "class"),
    ("script_name", "None"),
    ("script_name", "sys"),
    ("script_name", "sitecustomize"),  # Python imports it when it starts
    ("script_name", "usercustomize"),
    ("script_name", "yaml"),  # packages import these if they find them
    ("script_name", "attr"),
    ("script_name", "wheel"),
    ("script_name", "Cython"),
    ("script_name", "psutil"),
    ("script_name", "numpy"),
    ("script_name", "sklearn"),
    ("script_name", "NumPy"),
    ("script_name", "grid"),
    ("script_name", "Grid"),
    ("script_name", "gridlib"),
    ("script_name", "experiment"),
    ("script_name", "tests"),
    ("script_name", "test"),
    ("script_name", "test_this"),
    ("script_name", "this_test"),
    ("memory", "lots"),
    ("memory", "2"),
    ("memory", "0G"),
    ("memory", "-2G"),
    ("memory", "2X"),
    ("memory", "2 G"),
    ("memory", "1e3M"),
    ("memory", "0.00001K"),
    ("memory", ".G"),
    ("memory", "٢G"),
    ("memory", "2\u212a"),  # the Kelvin sign, which looks as a K
    ("memory", '2G"; import os'),
    ("cuda", "-1"),
    ("cuda", "one"),
    ("cuda", "1.5"),
    ("cuda", "²"),
    ("memory_resource", "h vmem"),
    ("memory_resource", 'h_vmem"'),
    ("memory_resource", "h_vmem=2G,mem"),
    ("cuda_resource", "-l"),
    ("parallel_environment", "smp 4"),
    ("parallel_environment", "-l"),
    ("parallel_environment", "+l"),
    ("queue", "all.q short.q"),
    ("queue", '"'),
    ("queue", "-l"),
    ("slurm_cuda", ""),
    ("slurm_cuda", "gpu:a100:2"),
    ("slurm_cuda", "gpu,shard"),
    ("partition", "--exclusive"),
    ("partition", "a\nb"),
    ("cuda_resource", ""),
]


# What the questions' defaults come to.
GOOD_ANSWERS = {
    name: default[0] if isinstance(default, list) else default
    for name, default in QUESTIONS.items()
    if not name.startswith("_")
} | {"project_slug": "my-experiment"}


@pytest.fixture
def refusals(tmp_path, capsys):
    """refusals(name=answer) lists the lines with which the hook refuses these answers; the others are good ones."""

    def refuse(**answers):
        text = (TEMPLATE / "hooks" / "pre_gen_project.py").read_text(encoding="utf-8")
        hook = tmp_path / "hook.py"
        hook.write_text(Environment().from_string(text).render(cookiecutter=GOOD_ANSWERS | answers), encoding="utf-8")
        spec = importlib.util.spec_from_file_location("pre_gen_project", hook)
        exit_code = 0
        try:
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
        except SystemExit as end:
            exit_code = end.code
        lines = capsys.readouterr().err.splitlines()
        assert exit_code == (1 if lines else 0)
        return lines

    return refuse


def test_the_defaults_are_good_answers(refusals):
    assert refusals() == []


@pytest.mark.parametrize("name, answer", BAD_ANSWERS)
def test_a_bad_answer_is_refused_in_one_line(refusals, name, answer):
    [line] = refusals(**{name: answer})
    assert line.startswith(f"{name} ")
    assert " is not valid: " in line


@pytest.mark.parametrize(
    "answers",
    [
        {"project_name": "two\nlines"},
        {"project_slug": "a;touch pwned"},
        {"memory": '2G"; import os', "cuda": "-1", "script_name": "sys"},
    ],
)
def test_where_an_answer_is_refused_nothing_is_made_and_each_bad_one_gets_a_line(bake, answers):
    done, folder = bake.cook(answers)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "is not valid" in line]
    assert sorted(line.split()[0] for line in lines) == sorted(answers), done.stderr
    assert "Traceback" not in done.stderr.split("Stopping generation")[0], "the hook itself failed"
    assert list(folder.iterdir()) == []


def test_a_name_without_letters_gets_a_folder_with_the_default_name(bake):
    done, folder = bake.cook({"project_name": "!!!"})
    assert done.returncode == 0
    assert [path.name for path in folder.iterdir()] == ["my-experiment"]


def test_no_module_of_the_project_can_give_the_script_its_name(template, refusals):
    project = template / "{{cookiecutter.project_slug}}"
    scripts = {"my_script", "my_script_local"}
    modules = {path.stem for folder in (project, project / "tests") for path in folder.glob("*.py")} - scripts
    packages = {path.name for path in project.iterdir() if path.is_dir() and path.name.isidentifier()} - {"licenses"}
    requirements = (project / "environment" / "requirements.txt").read_text(encoding="utf-8")
    installed = {name.lower().replace("-", "_") for name in re.findall(r"^([\w.-]+)==", requirements, re.MULTILINE)}
    assert {"grid", "conftest"} <= modules and "tests" in packages and "numpy" in installed
    # how modules are called whose packages are called otherwise
    called = {"scikit_learn": "sklearn", "pillow": "PIL", "python_dateutil": "dateutil"}
    for name in modules | packages | {called.get(name, name) for name in installed}:
        assert refusals(script_name=name), f"{name} is taken"


MEMORY = ["1K", "512M", "2G", "1T", "1.5G", "0.5G", ".5G", "2GB", "2GiB", "10G", "2g"]


@pytest.mark.parametrize("memory", MEMORY)
def test_memory_that_is_valid_is_accepted(refusals, memory):
    assert refusals(memory=memory) == []


def test_memory_that_is_valid_here_is_valid_for_grid(bake):
    check = """
import sys, grid
for memory in sys.argv[1:]:
    grid.submit_script("grid.py", memory=memory, scheduler="background", dry_run=True)
print("all are valid")
"""
    assert "all are valid" in bake().run(sys.executable, "-c", check, *MEMORY).stdout


def test_memory_and_gpus_arrive_in_the_script(bake):
    starter = bake(memory=".5G", cuda="01").read("my_script.py")
    assert re.findall(r"^MEMORY = (\S+)", starter, re.MULTILINE) == ['".5G"']
    assert re.findall(r"^CUDA = (\S+)", starter, re.MULTILINE) == ["1"]


@pytest.mark.parametrize("text", [text for text in NASTY_TEXTS if "{{" not in text])
def test_a_text_arrives_in_every_file_as_it_was_given(template, tmp_path, environ, text):
    # in this process and without the hooks, which do not change these files; cookiecutter itself renders a {{ here
    answers = {"project_name": text, "project_slug": "nasty", "description": text, "author": text}
    config = {"config_file": environ["COOKIECUTTER_CONFIG"], "output_dir": str(tmp_path), "accept_hooks": False}
    path = cookiecutter(str(template), no_input=True, extra_context=answers, **config)
    holds(Project(tmp_path / "nasty", environ), text, "licenses/BSD-3-Clause")
    assert path == str(tmp_path / "nasty")


def test_texts_that_are_typed_arrive_too_and_are_not_executed(bake):
    text = " ".join(NASTY_TEXTS)
    answers = {"project_name": text, "project_slug": "nasty", "description": text, "author": text}
    project = bake(typed=True, licence="BSD-3-Clause", **answers)
    holds(project, text, "LICENSE")
    assert not list(project.path.parent.rglob("pwned"))


def holds(project, text, licence):
    """Check that each file that holds a name, a description or an author holds this text."""
    pyproject = tomllib.loads(project.read("pyproject.toml"))
    assert pyproject["project"]["description"] == text
    assert pyproject["project"]["authors"] == [{"name": text}]
    assert text in project.read(licence).splitlines()[2]
    assert text in project.read("README.md")


def test_answers_on_the_command_line_arrive_too(bake):
    author = NASTY_TEXTS[0]
    project = bake(author=author, description="$(touch pwned) ''' # % 🎉")
    pyproject = tomllib.loads(project.read("pyproject.toml"))
    assert pyproject["project"]["authors"] == [{"name": author}]
    assert pyproject["project"]["description"] == "$(touch pwned) ''' # % 🎉"


def test_every_question_and_every_option_is_in_human_words():
    prompts = QUESTIONS["__prompts__"]
    assert set(prompts) == {name for name in QUESTIONS if not name.startswith("_")}
    for name, default in QUESTIONS.items():
        if isinstance(default, list) and not name.startswith("_"):
            assert set(prompts[name]) == {"__prompt__", *default}


def test_questions_are_asked_in_human_words(bake):
    project = bake(typed=True, project_name="Digits, again", environment="conda", licence="none")
    assert project.path.name == "digits-again"
    for prompt in QUESTIONS["__prompts__"].values():
        for text in prompt.values() if isinstance(prompt, dict) else [prompt]:
            # a terminal of 80 columns folds long lines
            assert text.split(" (")[0][:30] in project.output.replace("\n", " "), text
    assert not (project.path / "LICENSE").exists()


@pytest.mark.parametrize("hook", ["pre_prompt.py", "pre_gen_project.py", "post_gen_project.py"])
def test_hooks_need_nothing_but_python_and_no_network(hook):
    code = (TEMPLATE / "hooks" / hook).read_text(encoding="utf-8")
    imported = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    assert imported <= {*sys.stdlib_module_names, "gridlib"}  # which the template brings, and which needs no more
    assert not imported & {"socket", "urllib", "http", "ssl"}


def test_answers_reach_hooks_as_data():
    """The texts of both hooks hold one Jinja expression only, and none that lets an answer be code."""
    for hook in (TEMPLATE / "hooks").glob("p*_gen_project.py"):
        code = hook.read_text(encoding="utf-8")
        assert re.findall(r"{{.*?}}|{%.*?%}", code) == ["{{ cookiecutter | tojson }}"], hook.name
        answers = {f"a{i}": text for i, text in enumerate(NASTY_TEXTS)} | {"b": 'x"""', "c": "\\", "d": '\\"""'}
        literal = re.search(r'r"""(.*?)"""', code)[0].replace("{{ cookiecutter | tojson }}", json.dumps(answers))
        assert json.loads(ast.literal_eval(literal)) == answers


def test_a_long_name_gets_a_folder_with_a_shorter_one(bake):
    done, folder = bake.cook({"project_name": "Digits " * 60})
    assert done.returncode == 0, done.stderr
    [path] = folder.iterdir()
    assert path.name.startswith("digits-digits") and len(path.name) <= 100
