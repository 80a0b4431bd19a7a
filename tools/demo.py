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
import time
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parent.parent
FOLDER = TEMPLATE / "demo"
PROJECT = FOLDER / "digits"
WAIT = 900  # seconds for the job to come to its turn and to end


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


def make(target, environ):
    """Run make in the project; returns the folders of the results that this has added."""
    before = finished()
    print(f"\n$ make {target}", flush=True)
    subprocess.run(["make", "--no-print-directory", target], cwd=PROJECT, env=environ, check=True)
    return finished() - before


def finished():
    """The folders of all finished runs."""
    return {path.parent for path in PROJECT.glob("results/*/metrics.json")}


def jobs():
    """The folders of all jobs."""
    return set(PROJECT.glob(".grid/*"))


def wait_for(job):
    """Wait until the job has ended; it must have ended well."""
    print(f"\nwaiting for the job, {WAIT // 60} minutes at most ", end="", flush=True)
    limit = time.monotonic() + WAIT
    while not (ends := list(job.glob("records/*.exit-*"))):
        if time.monotonic() > limit:
            sys.exit(
                f"\nThe job has not ended. It may still: look with `make status` in {PROJECT}, or end it with `make stop`."
            )
        time.sleep(1)
        print(".", end="", flush=True)
    print()
    if not ends[0].name.endswith(".exit-0"):
        logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(PROJECT.glob("logs/*"))[-2:])
        sys.exit(f"The job has failed. Its record, {ends[0]}:\n{ends[0].read_text()}\nThe end of its log:\n{logs}")


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
    local = make("local", environ)

    print(f"\nThe grid: {where}.", flush=True)
    known, before = jobs(), finished()
    make("grid", environ)
    (job,) = jobs() - known
    wait_for(job)
    grid = finished() - before

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
    except KeyboardInterrupt:
        sys.exit("\nmake demo: stopped")
