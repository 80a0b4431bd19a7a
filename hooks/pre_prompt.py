"""Ask the schedulers of this machine, so that the questions come with the right defaults.

cookiecutter runs this in a copy of the template, whose cookiecutter.json it edits. It takes two seconds at most, and
whatever goes wrong the plain defaults stay: no scheduler, one that hangs, a Python that is too old for gridlib.
"""

import glob
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

BEGIN = time.monotonic()
ANSWER_TIMEOUT = 1.4  # seconds for the schedulers' commands; Python has taken some time before that
TIMEOUT = 1.6  # for all of it
TITLES = {"gridengine": "Grid Engine", "slurm": "Slurm"}

# What pre_gen_project.py takes. Neither Jinja nor the prompt's markup could read that as anything else.
RESOURCE = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
GRES = RESOURCE + r"(:[A-Za-z0-9_.+-]+)?"
QUEUE = r"(?!-)[A-Za-z0-9_.@-]+"


def load_library():
    """Return the modules schedulers and site of the template's gridlib."""
    sys.dont_write_bytecode = True
    [project] = glob.glob("*cookiecutter*/")
    sys.path.insert(0, os.path.abspath(project))
    from gridlib import schedulers, site

    return schedulers, site


def call(command):
    """Return what a command prints. However it ends, it ends in time, with all that it has started."""
    from gridlib.errors import SubmitError, Unreachable

    left = BEGIN + ANSWER_TIMEOUT - time.monotonic()
    if left < 0:
        raise Unreachable(command[0])
    pipes = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        process = subprocess.Popen(command, start_new_session=True, **pipes)
    except OSError:
        raise SubmitError(command[0]) from None
    try:
        output = process.communicate(timeout=left)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # a child may keep the pipe open
        raise Unreachable(command[0]) from None
    if process.returncode:
        raise SubmitError(command[0])
    return output.decode("utf-8", "replace")


def query(found):
    """Put what each scheduler of this machine offers into a dict, by its name, as its answers come in."""
    try:
        schedulers, site = load_library()
        kinds = schedulers.found_here()
        found.update({kind.name: {} for kind in kinds})

        def query_one(kind):
            try:
                scheduler = kind({})
                scheduler.call = call
                found[kind.name] = vars(site.query_site(scheduler))
            except Exception:
                pass  # the plain defaults stay

        # daemons: a command that not even SIGKILL ends, as on a file system that hangs, must not keep cookiecutter
        threads = [threading.Thread(target=query_one, args=[kind], daemon=True) for kind in kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:  # a SyntaxError, a SystemExit: gridlib is for newer Pythons
        pass


def valid_names(names, pattern=RESOURCE):
    """Return those of the names that would be taken as answers."""
    return [name for name in names if re.fullmatch(pattern, name)]


def first_few(names):
    """Return names as a prompt lists them."""
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")


def set_defaults(questions, found):
    """Change defaults and prompts to what was found: what each scheduler offers, by its name; empty if it did not say."""
    engine, slurm = found.get("gridengine", {}), found.get("slurm", {})
    here = [TITLES[name] + (f" ({site['version']})" if site.get("version") else "") for name, site in found.items()]
    text = f"found here: {' and '.join(here)}" if here else "none detected"
    explain(questions, "scheduler", text + ("; auto uses Grid Engine" if len(here) == 2 else ""))

    for question, name, command, options, pattern in (
        ("memory_resource", "gridengine", "qconf -sc", engine.get("memory", []), RESOURCE),
        ("cuda_resource", "gridengine", "qconf -sc", engine.get("cuda", []), RESOURCE),
        ("parallel_environment", "gridengine", "qconf -spl", list(engine.get("parallel_environments", [])), RESOURCE),
        ("slurm_cuda", "slurm", "sinfo -o %G", slurm.get("cuda", []), GRES),
    ):
        options = valid_names(options, pattern)
        if options:
            questions[question] = options[0]
            others = f"; also {first_few(options[1:])}" if options[1:] else ""
            text = f"{options[0]} is {how_counted(options[0], question, engine)}: {command}{others}"
        elif name not in found:
            text = f"no {TITLES[name]} detected; press Enter"
        elif any(value for key, value in found[name].items() if key != "version"):
            text = f"{command} lists none here; press Enter"
        else:
            text = f"{TITLES[name]} did not respond in time; press Enter"
        explain(questions, question, text)

    for question, names in (("queue", engine.get("queues", [])), ("partition", slurm.get("partitions", []))):
        names = valid_names(names, QUEUE)
        listed = f"found here: {first_few(names)}; " if names else ""
        explain(questions, question, listed + "empty: the site's default")
    questions["_per"] = {name: engine["per"][name] for name in valid_names(engine.get("per", {}))}


def explain(questions, question, text):
    """Put a text in brackets behind a prompt, in place of what stands there."""
    prompts = questions["__prompts__"]
    if isinstance(prompts[question], dict):
        prompts, question = prompts[question], "__prompt__"
    prompts[question] = f"{prompts[question].partition(' (')[0]} ({text})"


def how_counted(name, question, engine):
    """Return how a scheduler counts a resource, in words."""
    if not question.endswith("_resource"):
        return "found here"
    return f"consumable here, per {engine['per'][name]}" if name in engine["consumable"] else "requestable here"


def main():
    """Edit cookiecutter.json."""
    with open("cookiecutter.json", encoding="utf-8") as file:
        questions = json.load(file)
    found = {}
    thread = threading.Thread(target=query, args=[found], daemon=True)
    thread.start()
    thread.join(max(0, BEGIN + TIMEOUT - time.monotonic()))
    set_defaults(questions, dict(found))
    with open("cookiecutter.json.new", "w", encoding="utf-8") as file:
        json.dump(questions, file, indent=2, ensure_ascii=False)
    os.replace("cookiecutter.json.new", "cookiecutter.json")


if __name__ == "__main__":
    try:
        main()
    except Exception:
        pass  # cookiecutter would stop at a failing hook
    os._exit(0)  # and not wait for threads
