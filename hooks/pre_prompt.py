"""Ask the schedulers of this machine, so that the questions come with the right defaults.

cookiecutter runs this in a copy of the template, whose cookiecutter.json it edits. It takes two seconds at most, and
whatever goes wrong the plain defaults stay: no scheduler, one that hangs, a Python that is too old for grid.py.
"""

import glob
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

ANSWERS_BY = time.monotonic() + 1.4  # the schedulers' commands; Python has taken some time before that
END = ANSWERS_BY + 0.2
TITLES = {"gridengine": "Grid Engine", "slurm": "Slurm"}

# What pre_gen_project.py takes. Neither Jinja nor the prompt's markup could read that as anything else.
RESOURCE = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
GRES = RESOURCE + r"(:[A-Za-z0-9_.+-]+)?"
QUEUE = r"(?!-)[A-Za-z0-9_.@-]+"


def load(name):
    """A module of the template's project."""
    [path] = glob.glob("*cookiecutter*/{}.py".format(name))
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_both():
    """The template's grid.py, with calls that end in time, and its doctor.py, which knows what to ask."""
    sys.dont_write_bytecode = True
    grid = load("grid")

    def call(command, engine=None):
        how = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        left = ANSWERS_BY - time.monotonic()
        if left < 0:
            raise grid.Unreachable(command[0])
        try:
            process = subprocess.Popen(command, **how)
        except OSError:
            raise grid.SubmitError(command[0]) from None
        try:
            output = process.communicate(timeout=left)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with all that it has started and that may keep the pipe open
            raise grid.Unreachable(command[0]) from None
        if process.returncode:
            raise grid.SubmitError(command[0])
        return output.decode("utf-8", "replace")

    grid._call = call
    return grid, load("doctor")


def look(found):
    """Put what each scheduler of this machine offers into a dict, as its answers come in."""
    try:
        grid, doctor = load_both()
        engines = [engine for engine in (grid._GridEngine, grid._Slurm) if all(map(shutil.which, engine.programs))]
        found.update({engine.name: {} for engine in engines})

        def ask(engine):
            try:
                found[engine.name] = doctor.offers(engine({}))
            except Exception:
                pass  # the plain defaults stay

        # daemons: a command that not even SIGKILL ends, as on a file system that hangs, must not keep cookiecutter
        asking = [threading.Thread(target=ask, args=[engine], daemon=True) for engine in engines]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
    except BaseException:  # SystemExit too, by which grid.py refuses an old Python
        pass


def safe(names, pattern=RESOURCE):
    """Those of the names that would be taken as answers."""
    return [name for name in names if re.fullmatch(pattern, name)]


def some(names):
    """Names as a prompt lists them."""
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")


def fill_in(questions, found):
    """Change defaults and prompts to what was found."""
    prompts = questions["__prompts__"]
    engine, slurm = found.get("gridengine"), found.get("slurm")

    here = [
        TITLES[name] + (" ({})".format(offers["version"]) if offers.get("version") else "")
        for name, offers in found.items()
    ]
    if len(here) == 2:
        here = "found here: {}; auto takes Grid Engine".format(" and ".join(here))
    else:
        here = "found here: {}".format(here[0]) if here else "none was found on this machine"
    prompts["scheduler"]["__prompt__"] = "Which scheduler shall jobs go to? ({})".format(here)

    def ask(question, text, options, command, offers, title, count=None, pattern=RESOURCE):
        """Take the best option as the default, and let the prompt say where the default comes from."""
        options = safe(options, pattern)
        if options:
            questions[question] = options[0]
            others = "; also {}".format(some(options[1:])) if options[1:] else ""
            source = count(options[0]) if count else "found here"
            source = "{} is {}: {}{}".format(options[0], source, command, others)
        elif offers is None:
            source = "usual; no {} was found on this machine".format(title)
        elif any(value for key, value in offers.items() if key != "version"):
            source = "usual; {} shows none here".format(command)
        else:
            source = "usual; {} is on this machine but did not answer in time".format(title)
        prompts[question] = "{} ({})".format(text, source)

    def counted(name):
        """How Grid Engine counts a resource, in words."""
        if name not in engine["consumable"]:
            return "requestable here"
        return "consumable here, per {}".format(engine["per"][name])

    offers, title = engine or {}, "Grid Engine"
    ask(
        "memory_resource",
        "Grid Engine's name for memory",
        offers.get("memory", []),
        "qconf -sc",
        engine,
        title,
        counted,
    )
    ask("cuda_resource", "Grid Engine's name for GPUs", offers.get("cuda", []), "qconf -sc", engine, title, counted)
    environments = list(offers.get("parallel_environments", []))
    text = "Grid Engine's parallel environment, for more than one core"
    ask("parallel_environment", text, environments, "qconf -spl", engine, title)
    gpus = (slurm or {}).get("cuda", [])
    ask("slurm_cuda", "Slurm's name for GPUs", gpus, "sinfo -o %G", slurm, "Slurm", pattern=GRES)
    for question, text, names in (
        ("queue", "Grid Engine's queue", safe(offers.get("queues", []), QUEUE)),
        ("partition", "Slurm's partition", safe((slurm or {}).get("partitions", []), QUEUE)),
    ):
        listed = "found here: {}; ".format(some(names)) if names else ""
        prompts[question] = "{} ({}empty: the site's default)".format(text, listed)
    questions["_per"] = {name: offers["per"][name] for name in safe(offers.get("per", {}))}


def main():
    with open("cookiecutter.json", encoding="utf-8") as file:
        questions = json.load(file)
    found = {}
    looking = threading.Thread(target=look, args=[found], daemon=True)
    looking.start()
    looking.join(max(0, END - time.monotonic()))
    fill_in(questions, dict(found))
    with open("cookiecutter.json.new", "w", encoding="utf-8") as file:
        json.dump(questions, file, indent=2, ensure_ascii=False)
    os.replace("cookiecutter.json.new", "cookiecutter.json")


if __name__ == "__main__":
    try:
        main()
    except Exception:
        pass  # cookiecutter would stop at a failing hook
    os._exit(0)  # and not wait for threads
