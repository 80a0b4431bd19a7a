"""The doctor's test job: tell which packages this environment lacks. It imports nothing of the project.

packages.py FOLDER [SCRIPT ...]     the folder of requirements.in and requirements.txt; scripts whose imports must be there
"""

import os
import sys

if __name__ == "__main__":  # without this folder, whose site.py is not Python's own
    HERE = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.realpath(path or ".") != HERE]
import ast  # noqa: E402
import json  # noqa: E402
import platform  # noqa: E402
import re  # noqa: E402
from fnmatch import fnmatch  # noqa: E402
from importlib import metadata  # noqa: E402
from importlib.util import find_spec  # noqa: E402

REPORT_PREFIX = "doctor: "  # begins the line with the report
OPTIONAL = ("If", "Try", "TryStar")  # what is imported under these may be missing


def check_requirements(folder):
    """Return how many packages the requirements in a folder name, and what is wrong with them, a list of texts."""
    lines, seen, problems = [], set(), {}
    for name in ("requirements.in", "requirements.txt"):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                lines += file.read().splitlines()
    for line in lines:
        # a name, perhaps [extras] and a pinned version; what has a marker or a URL is not judged
        match = re.fullmatch(r"([A-Za-z0-9][\w.-]*)(?:\[.*?\])?\s*([=<>!~]=?[^;@]*)?", line.split(" #")[0].strip())
        if not match or line.startswith("#"):
            continue
        seen.add(re.sub("[-_.]+", "-", match[1]).lower())
        pin = re.fullmatch(r"==\s*([^,\s]+)", match[2] or "")
        try:
            installed = metadata.version(match[1])
        except metadata.PackageNotFoundError:
            problems[f"{match[1]} is missing"] = True
            continue
        versions = {installed, installed.partition("+")[0]}
        if pin and not any(fnmatch(re.sub(r"(\.0)+$", "", one), re.sub(r"(\.0)+$", "", pin[1])) for one in versions):
            problems[f"{match[1]} is {installed}, not {pin[1]}"] = True
    return len(seen), list(problems)


def imported(node, package):
    """Yield the absolute names of the modules that a syntax tree surely imports; package: where relative ones start."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            parents = package.split(".") if child.level and package else []
            if child.level > len(parents):
                continue  # an error in any environment
            base = [*parents[: len(parents) - child.level + 1], *filter(None, [child.module])]
            yield ".".join(base)
            yield from (".".join([*base, alias.name]) for alias in child.names)  # which may be modules
        elif type(child).__name__ not in OPTIONAL:
            yield from imported(child, package)


def check_imports(script):
    """Return what a script imports, itself or in modules of yours beside it, and that cannot be found: a list of texts."""
    script = os.path.abspath(script)
    folder, missing, files = os.path.dirname(script), {}, [(script, "")]
    seen = {os.path.join(folder, "grid.py")}
    sys.path.insert(0, folder)
    while files:
        path, package = files.pop()
        if path in seen or not os.path.isfile(path):
            continue
        seen.add(path)
        try:
            with open(path, "rb") as file:
                tree = ast.parse(file.read())
        except (SyntaxError, ValueError) as error:
            missing[f"{os.path.relpath(path, folder)} cannot be read: {error}"] = True
            continue
        for name in filter(None, imported(tree, package)):
            parts = name.split(".")
            for end in range(1, len(parts) + 1):  # modules beside the script: a/__init__.py, a/b.py of a.b
                own, parent = os.path.join(folder, *parts[:end]), ".".join(parts[: end - 1])
                files += [(f"{own}.py", parent), (os.path.join(own, "__init__.py"), ".".join(parts[:end]))]
            if not is_there(parts[0]):
                missing[f"{os.path.relpath(path, folder)} imports {parts[0]}, which is missing"] = True
    sys.path.remove(folder)
    return list(missing)


def is_there(name):
    """Return whether a module or a package that is in no other one can be found."""
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):  # it was loaded in a way of its own
        return name in sys.modules


def main(folder, *scripts):
    """Print the report."""
    number, problems = check_requirements(folder)
    if sys.version_info < (3, 11):  # noqa: UP036  # the environment's may be older than the doctor's
        problems.insert(0, "grid.py needs Python 3.11 or newer")
    for script in scripts:
        problems += check_imports(script)
    report = {"host": platform.node(), "python": sys.executable, "version": platform.python_version()}
    print(REPORT_PREFIX + json.dumps(report | {"packages": number, "problems": problems}))


if __name__ == "__main__":
    main(*sys.argv[1:])
