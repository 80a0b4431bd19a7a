"""Bad answers are refused in one line, and what an answer holds is never executed and never breaks a file."""

import ast
import json
import re
import sys
import tomllib

import pytest

from baking import QUESTIONS, TEMPLATE

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
    ("script_name", "numpy"),
    ("script_name", "sklearn"),
    ("script_name", "NumPy"),
    ("script_name", "grid"),
    ("script_name", "Grid"),
    ("script_name", "gridctl"),
    ("script_name", "experiment"),
    ("script_name", "sweep"),
    ("script_name", "compare"),
    ("script_name", "pictures"),
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


@pytest.mark.parametrize("name, answer", BAD_ANSWERS)
def test_a_bad_answer_is_refused_in_one_line_and_nothing_is_made(bake, name, answer):
    done, folder = bake.cook({name: answer})
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "is not valid" in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"{name} ")
    assert "Traceback" not in done.stderr.split("Stopping generation")[0], "the hook itself failed"
    assert list(folder.iterdir()) == []


def test_every_bad_answer_gets_a_line(bake):
    done, _ = bake.cook({"memory": "lots", "cuda": "-1", "script_name": "sys"})
    assert len([line for line in done.stderr.splitlines() if "is not valid" in line]) == 3


def test_a_name_without_letters_gets_a_folder_with_the_default_name(bake):
    done, folder = bake.cook({"project_name": "!!!"})
    assert done.returncode == 0
    assert [path.name for path in folder.iterdir()] == ["my-experiment"]


def test_no_module_of_the_project_can_give_the_script_its_name(template):
    project = template / "{{cookiecutter.project_slug}}"
    own = {path.stem for path in project.rglob("*.py")} - {"my_script", "my_script_local"}
    requirements = (project / "environment" / "requirements.txt").read_text(encoding="utf-8")
    packages = {name.lower().replace("-", "_") for name in re.findall(r"^([\w.-]+)==", requirements, re.MULTILINE)}
    # how modules are called whose packages are called otherwise
    modules = {"scikit_learn": "sklearn", "pillow": "pil", "python_dateutil": "dateutil"}
    names = {modules.get(name, name) for name in own | packages if not name.startswith("test_")}
    hook = (template / "hooks" / "pre_gen_project.py").read_text(encoding="utf-8")
    taken = re.search(r"TAKEN = .*?split\(\)", hook, re.DOTALL)[0]
    assert {name for name in names if not re.search(rf"\b{name}\b", taken)} == set()


@pytest.mark.parametrize("memory", ["1K", "512M", "2G", "1T", "1.5G", "0.5G", ".5G", "2GB", "2GiB", "10G", "2g"])
def test_memory_that_is_valid_here_is_valid_for_grid_and_arrives(bake, memory):
    project = bake(memory=memory, cuda="01")
    starter = project.read("my_script.py")
    assert re.findall(r"^MEMORY = (\S+)", starter, re.MULTILINE) == [f'"{memory}"']
    assert re.findall(r"^CUDA = (\S+)", starter, re.MULTILINE) == ["1"]
    check = "import sys, grid; grid.submit_script('grid.py', memory=sys.argv[1], scheduler='background', dry_run=True)"
    project.run(sys.executable, "-c", check, memory)


@pytest.mark.parametrize("text", NASTY_TEXTS)
def test_a_text_arrives_in_every_file_as_it_was_typed(bake, text):
    project = bake(
        typed=True,
        project_name=text,
        project_slug="nasty",
        description=text,
        author=text,
        licence="BSD-3-Clause",
    )
    pyproject = tomllib.loads(project.read("pyproject.toml"))
    assert pyproject["project"]["description"] == text
    assert pyproject["project"]["authors"] == [{"name": text}]
    assert text in project.read("LICENSE").splitlines()[2]
    assert text in project.read("README.md")
    assert not list(project.path.parent.rglob("pwned"))
    for path in project.path.rglob("*.py"):
        compile(path.read_bytes(), path.name, "exec")
    project.run(sys.executable, "-m", "black", "--check", ".")


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
    assert imported <= set(sys.stdlib_module_names)
    assert not imported & {"socket", "urllib", "http", "ssl"}


def test_answers_reach_hooks_as_data():
    """The texts of both hooks hold one Jinja expression only, and none that lets an answer be code."""
    for hook in (TEMPLATE / "hooks").glob("p*_gen_project.py"):
        code = hook.read_text(encoding="utf-8")
        assert re.findall(r"{{.*?}}|{%.*?%}", code) == ["{{ cookiecutter | tojson }}"], hook.name
        answers = {f"a{i}": text for i, text in enumerate(NASTY_TEXTS)} | {"b": 'x"""', "c": "\\", "d": '\\"""'}
        literal = re.search(r'r"""(.*?)"""', code)[0].replace("{{ cookiecutter | tojson }}", json.dumps(answers))
        assert json.loads(ast.literal_eval(literal)) == answers
