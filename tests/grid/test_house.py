"""The promise: gridlib/ is built as its __init__.py says, small and in one direction, and costs a worker little."""

import ast
import io
import os
import re
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from sandbox import PROJECT, compiled_library

# A room imports only from rooms above it; those in one line do not know each other, but for what is named below.
FLOORS = [
    ["errors", "project", "packages"],
    ["values", "resources", "provenance"],
    ["schedulers"],
    ["submission"],
    ["folder"],
    ["states"],
    ["polling", "dispatch", "stopping"],
    ["job"],
    ["submit"],
    ["site", "testjob", "doctor", "commands", "grid"],
]
BESIDE = {
    ("project", "errors"),
    ("resources", "values"),
    ("doctor", "site"),
    ("doctor", "testjob"),
    ("commands", "doctor"),
    ("grid", "commands"),
}
ALONE = {"run"}  # job.sh starts it; it reads words with values
NOT_ON_THE_WAY = {"site", "testjob", "doctor", "commands"}  # of a job


def sources(folder):
    """The Python files of the library in a folder, by module: ("schedulers.base", Path)."""
    files = {"grid": folder / "grid.py"}
    for path in sorted((folder / "gridlib").rglob("*.py")):
        name = ".".join(path.relative_to(folder / "gridlib").with_suffix("").parts).removesuffix("__init__").rstrip(".")
        if name:
            files[name] = path
    return files


def imports(path):
    """What a file imports of the library, wherever in it: the names of modules as in sources(), each with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.partition(".")[0] in ("gridlib", "grid"):
                    yield name.name.removeprefix("gridlib").lstrip(".") or "", node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: write from gridlib..."
            if node.module == "gridlib":
                yield from ((name.name, node.lineno) for name in node.names)
            elif node.module.partition(".")[0] in ("gridlib", "grid"):
                yield node.module.removeprefix("gridlib."), node.lineno


def breaches(folder):
    """The imports that go upwards, sideways or in a circle."""
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    found = []
    for module, path in sources(folder).items():
        room = module.partition(".")[0]
        for target, line in imports(path):
            other, where = target.partition(".")[0], f"{path.name}:{line} imports {target}"
            if room == other == "schedulers":  # inside, only the list of schedulers knows them; they know base
                good = module == "schedulers" or target == "schedulers.base" and module != target
            elif room in ALONE:
                good = other == "values"
            else:
                good = other in floor and room in floor
                good = good and (floor[other] < floor[room] or (room, other) in BESIDE)
            if not good:
                found.append(where)
    return found


def test_a_room_imports_only_from_those_above_it():
    assert breaches(PROJECT) == []


def test_the_test_sees_every_room():
    known = {room for rooms in FLOORS for room in rooms} | ALONE
    assert {module.partition(".")[0] for module in sources(PROJECT)} <= known
    text = (PROJECT / "gridlib/__init__.py").read_text()
    for room in known - {"site", "values", "grid"}:
        assert re.search(rf"\b{room}\b", text), f"the list of rooms in gridlib/__init__.py lacks {room}"


@pytest.mark.parametrize(
    "module, line",
    [
        ("polling", "from gridlib import dispatch"),
        ("dispatch", "def f():\n    from gridlib.polling import poll\n"),
        ("errors", "import gridlib.project"),
        ("folder", "if TYPE_CHECKING:\n    from gridlib.job import Job\n"),
        ("schedulers.base", "from gridlib.schedulers.slurm import Slurm"),
        ("schedulers.slurm", "from gridlib.schedulers import scheduler"),
        ("schedulers.slurm", "from gridlib.schedulers.gridengine import GridEngine"),
        ("job", "import grid"),
        ("job", "def f():\n    if 1:\n        from gridlib import commands as c\n"),
        ("run", "from gridlib import folder"),
        ("values", "from gridlib import resources"),
    ],
)
def test_an_import_upwards_is_found_wherever_it_hides(tmp_path, module, line):
    shutil.copy(PROJECT / "grid.py", tmp_path)
    shutil.copytree(PROJECT / "gridlib", tmp_path / "gridlib")
    before = breaches(tmp_path)
    with open(sources(tmp_path)[module], "a", encoding="utf-8") as file:
        file.write("\n" + line)
    assert len(breaches(tmp_path)) == len(before) + 1


def test_no_file_is_long():
    """A reader holds 300 lines in mind; what no job needs may have some more."""
    lines = {str(path.relative_to(PROJECT)): len(path.read_text().splitlines()) for path in sources(PROJECT).values()}
    lines |= {
        str(path.relative_to(PROJECT)): len(path.read_text().splitlines()) for path in PROJECT.glob("gridlib/**/*.sh")
    }
    assert {name: n for name, n in lines.items() if n > (450 if Path(name).stem in NOT_ON_THE_WAY else 300)} == {}


def test_no_function_is_long():
    """Those of grid.py are mostly text for their users, so there the docstring does not count."""
    long = {}
    for module, path in sources(PROJECT).items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(node, clean=False) if module == "grid" else None
                length = node.end_lineno - node.lineno + 1 - len((text or "").splitlines())
                if length > 60:
                    long[f"{module}.{node.name}"] = length
    assert long == {}


def test_whatever_is_public_tells_what_it_does():
    silent = []
    for module, path in sources(PROJECT).items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not ast.get_docstring(tree):
            silent.append(module)
        for node in tree.body:
            if (
                isinstance(node, (ast.FunctionDef, ast.ClassDef))
                and node.name[0] != "_"
                and not ast.get_docstring(node)
            ):
                silent.append(f"{module}.{node.name}")
    assert silent == []


def test_a_check_that_is_switched_off_has_a_reason():
    bare = []
    for path in sources(PROJECT).values():
        for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
            is_one = token.type == tokenize.COMMENT and re.match(r"# *type: *ignore", token.string)
            if is_one and not re.fullmatch(r"# type: ignore\[[a-z, -]+\]  # \S.{5,}", token.string):
                bare.append(f"{path.name}:{token.start[0]} {token.string}")
    assert bare == []


# --- What a worker pays -----------------------------------------------------------------------------------------------


def modules(code, folder=None):
    """The modules that a program has loaded at its end, beyond what Python alone has."""
    both = []
    for text in ("", code):
        program = f"{text}\nimport sys; print(*sys.modules)"
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder or compiled_library())}
        both.append(set(subprocess.check_output([sys.executable, "-c", program], env=environ, text=True).split()))
    return both[1] - both[0]


def test_nothing_heavy_is_imported_for_typecast():
    """A worker pays for three small files, also when it reads plain words."""
    files = {"grid", "gridlib", "gridlib.errors", "gridlib.values", "__future__"}
    assert modules("from grid import typecast") <= files
    assert modules("from grid import *\ntypecast(['4.2', '7', 'relu', 'None', '--lr'])") <= files


def test_only_a_structure_typed_by_hand_needs_pythons_parser():
    assert "ast" in modules("from grid import typecast; typecast('[1, 2]')")


def test_the_star_brings_no_name_that_a_user_may_have():
    code = "from grid import *; print(*(name for name in dir() if name[0] != '_'))"
    environ = os.environ | {"PYTHONPATH": str(compiled_library())}
    names = set(subprocess.check_output([sys.executable, "-c", code], env=environ, text=True).split())
    calls = {"submit_script", "submit_array", "typecast", "limit_threads", "qstat", "qdel"}
    assert names == calls | {"GridError", "ArgumentError", "SubmitError", "JobFailed", "JobTimeout"}


def test_what_the_star_does_not_bring_is_there_by_its_name(grid):
    for name in ("wait", "jobs", "Job", "Task"):
        assert callable(getattr(grid, name))
    with pytest.raises(AttributeError, match="module 'grid' has no attribute 'nothing'"):
        _ = grid.nothing


@pytest.mark.parametrize("command", [["grid.py", "status"], ["-c", "from grid import *"]])
def test_without_its_folder_grid_says_so_in_one_line(tmp_path, command):
    shutil.copy(PROJECT / "grid.py", tmp_path)
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"grid.py needs the folder gridlib beside it ({tmp_path / 'grid.py'}): copy that too\n"


def test_another_module_that_is_missing_is_not_taken_for_the_folder(tmp_path):
    shutil.copy(PROJECT / "grid.py", tmp_path)
    shutil.copytree(PROJECT / "gridlib", tmp_path / "gridlib")
    (tmp_path / "gridlib/errors.py").write_text("import nothing_of_this_name")
    done = subprocess.run([sys.executable, "grid.py"], cwd=tmp_path, capture_output=True, text=True)
    assert "No module named 'nothing_of_this_name'" in done.stderr


def test_two_files_in_a_project_are_the_users_and_one_is_called():
    assert {path.name for path in PROJECT.glob("*.py")} == {"my_script.py", "my_script_local.py", "grid.py"}


def test_the_library_needs_nothing_but_the_standard_library_and_this_project():
    foreign = []
    for path in sources(PROJECT).values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            known = sys.stdlib_module_names | {"gridlib", "grid"}
            foreign += [f"{path.name}: {name}" for name in names if name.partition(".")[0] not in known]
    assert foreign == []
