"""make demo: make a project from this template, train in it on this machine and on the grid, show what comes out.

All of it is in demo/, which git ignores. A second run makes the project's files anew and keeps its environment and its
results.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parent.parent
FOLDER = TEMPLATE / "demo"
PROJECT = FOLDER / "digits"
TIMEOUT = 900  # seconds for the job to come to its turn and to end


def generate(answers):
    """Make the project, or its files anew."""
    words = [f"{name}={answer}" for name, answer in answers.items()]
    options = ["--no-input", "--overwrite-if-exists", "--default-config", "--output-dir", str(FOLDER)]
    print("$ cookiecutter . --no-input", *words, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        # cookiecutter copies all of a template: not the environments, then
        copy = Path(folder, TEMPLATE.name)
        ignored = shutil.ignore_patterns(".venv", ".git", "demo", ".*_cache")
        shutil.copytree(TEMPLATE, copy, symlinks=True, ignore=ignored)
        subprocess.run([sys.executable, "-m", "cookiecutter", str(copy), *options, *words], check=True)


def make(environ, *words):
    """Run make in the project; returns the folders of the results that this has added."""
    before = finished()
    print(f"\n$ make {shlex.join(words)}", flush=True)
    command = ["make", "--no-print-directory", *words]
    subprocess.run(command, cwd=PROJECT, env=environ, check=True, timeout=TIMEOUT)
    return finished() - before


def finished():
    """The folders of all finished runs."""
    return {path.parent for path in PROJECT.glob("results/*/metrics.json")}


def main():
    environ = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    answers = {"project_name": "Digits", "project_slug": "digits", "script_name": "digits"}
    if environ.get("GRID_SCHEDULER"):
        where = f"scheduler {environ['GRID_SCHEDULER']}, as GRID_SCHEDULER says"
    elif shutil.which("qsub") and shutil.which("qconf"):
        where = "this machine's Grid Engine"
    elif shutil.which("sbatch"):
        where = "this machine's Slurm"
    else:
        environ["GRID_SCHEDULER"] = "background"
        where = "in the background of this machine, for it has no scheduler (no qsub and qconf, no sbatch on PATH)"

    generate(answers)
    local = make(environ, "local")

    print(f"\nThe grid: {where}.", flush=True)
    grid = make(environ, "grid", "ARGS=--wait")

    print("\nWhat came out, of the same script with the same arguments:\n")
    for name, folders in (("make local", local), ("make grid", grid)):
        for folder in folders:
            metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
            print(f"    {name:<10}  test accuracy {metrics['accuracy']:.4f}")
            for picture in sorted(folder.glob("*.png")):
                print(f"                {picture.relative_to(TEMPLATE)}")
    print(f"\nThe project is yours to play with: cd {PROJECT.relative_to(TEMPLATE)}; make")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(
            f"make demo: this failed, see above: {shlex.join(error.cmd)}\n"
            "If it is the grid that fails: GRID_SCHEDULER=background make demo does without one."
        )
    except subprocess.TimeoutExpired:
        sys.exit(f"make demo: the job has not ended after {TIMEOUT // 60} minutes; `make status` in {PROJECT} says why")
    except KeyboardInterrupt:
        sys.exit("\nmake demo: stopped")
