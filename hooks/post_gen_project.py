"""Turn the plain project that cookiecutter has copied into the one that was asked for.

cookiecutter puts the answers into this file and runs it in the project's folder. They come as JSON in a raw text: JSON
and raw texts agree on quotes and backslashes, so whatever an answer holds, it stays data. Answers that end up in code
have passed pre_gen_project.py.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ANSWERS = json.loads(r"""{{ cookiecutter | tojson }}""")


def drop_caches():
    """Remove the caches that Python leaves where somebody has run the template's own code in place."""
    for folder in map(Path, (".", "experiment", "gridlib", "gridlib/schedulers", "tests")):
        for name in ("__pycache__", ".pytest_cache"):
            shutil.rmtree(folder / name, ignore_errors=True)


def name_script(name):
    """Rename the starter and the worker, also in the code that names them."""
    # grid.py and gridlib/ are the same in every project: a newer version can replace them
    for path in [*Path().glob("*.py"), Path("Makefile"), *Path("experiment").rglob("*"), *Path("tests").rglob("*")]:
        if path.is_file() and path != Path("grid.py"):
            path.write_bytes(path.read_bytes().replace(b"my_script", name.encode()))
    for ending in ("_local.py", ".py"):  # in this order, for the name may be my_script_local
        os.replace(f"my_script{ending}", f"{name}{ending}")


def set_defaults(starter, memory, cuda):
    """Write the default memory and GPUs of jobs into the two lines of the starter that hold them."""
    code = starter.read_text(encoding="utf-8")
    for constant, literal in (("MEMORY", f'"{memory}"'), ("CUDA", str(int(cuda)))):
        # no backslash is in the literal: pre_gen_project.py has checked it
        code, found = re.subn(rf"^{constant} = [^ \n]+", f"{constant} = {literal}", code, flags=re.MULTILINE)
        if found != 1:
            sys.exit(f"{starter} must have one line that begins with {constant} =, it has {found}")
    starter.write_bytes(code.encode())


def choose_environment(manager):
    """Keep the scripts of one environment manager."""
    folder = Path("environment")
    if manager == "uv":  # what it makes is activated in the same way
        os.replace(folder / "venv" / "activate.sh", folder / "uv" / "activate.sh")
    for script in (folder / manager).iterdir():
        os.replace(script, folder / script.name)
    for other in ("venv", "uv", "conda"):
        shutil.rmtree(folder / other)


def choose_licence(name):
    """Keep one licence text, or none."""
    if name != "none":
        os.replace(Path("licenses", name), "LICENSE")
    shutil.rmtree("licenses")


def start_git():
    """Make the project a git repository, unless it is part of one already or cruft is at work, which does it itself."""
    if "_commit" in ANSWERS or not shutil.which("git"):
        return
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL, "timeout": 60}
    try:
        inside = subprocess.run(["git", "rev-parse", "--is-inside-work-tree"], **quiet).returncode == 0
        if not inside:
            subprocess.run(["git", "init"], **quiet)  # no commit: that is the user's, and needs an identity
    except (OSError, subprocess.SubprocessError):
        pass  # the project is complete without


def say_next_steps():
    """Print what to do next."""
    needs = {"uv": "  (uv must be installed)", "conda": "  (conda or mamba must be installed)"}
    text = f"""
The project is ready:

    cd {shlex.quote(os.getcwd())}
    make local      # train and evaluate on this machine{needs.get(ANSWERS["environment"], "")}
    make grid       # do the same on the grid

Then put your own train and evaluate into {ANSWERS["script_name"]}_local.py. See README.md for the rest.
"""
    # not print: a closed or an ASCII terminal would make this hook fail, and with it the project
    with contextlib.suppress(OSError):
        os.write(1, text.encode("utf-8", "replace"))


drop_caches()
name_script(ANSWERS["script_name"])
set_defaults(Path(f"{ANSWERS['script_name']}.py"), ANSWERS["memory"], ANSWERS["cuda"])
choose_environment(ANSWERS["environment"])
choose_licence(ANSWERS["licence"])
start_git()
say_next_steps()
