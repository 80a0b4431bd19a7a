#!/usr/bin/env python3
"""The starter: runs train_and_evaluate of my_script_local.py here or on the grid, with the same arguments.

    python my_script.py local                            here, with the progress in this terminal
    python my_script.py grid                             the same as a job on the grid
    python my_script.py grid --epochs 100 --memory 4G    other parameters, more memory
    python my_script.py grid --seed 0 1 2 --epochs 5 50  six runs: each seed with each number of epochs
    python my_script.py grid --dry-run                   only show what would be submitted

A new parameter goes into three places: train_and_evaluate, the options in parse(), and the list of values in main().
"""

import argparse
import itertools
import os
import shlex
import sys
from pathlib import Path

if sys.version_info < (3, 11):  # a login node's own Python, most likely
    sys.exit("This needs Python 3.11 or newer. `make grid` uses the environment's: try that.")

from grid import GridError, limit_threads, submit_array, submit_script, typecast
from sweep import run_all, wait_for

HERE = Path(__file__).resolve().parent
WORKER = HERE / "my_script_local.py"

# What a job asks for, if the command line does not say otherwise.
MEMORY = "2G"  # of the whole job
CUDA = 0  # GPUs

# The shell command that activates the environment in the job. To use one of your own:
# ACTIVATE = "source /net/.../env/bin/activate"
ACTIVATE = f"source {shlex.quote(str(HERE / 'environment' / 'activate.sh'))}"


def positive(word):
    """The whole number, 1 or more, that a word stands for. A mistake is better found here than in a job that has waited."""
    number = typecast(word)
    if type(number) is not int or number < 1:
        raise argparse.ArgumentTypeError(f"{word} is no whole number of 1 or more")
    return number


def sizes(word):
    """The list of layer sizes that a word such as [128,64], 128,64 or 128 stands for."""
    layers = typecast(word)
    layers = list(layers) if isinstance(layers, (list, tuple)) else [layers]
    if not layers or not all(type(size) is int and size > 0 for size in layers):
        raise argparse.ArgumentTypeError(f"{word} is no list of whole numbers of 1 or more, as in 128,64")
    return layers


def parse(words=None):
    """Read the command line. The defaults of the parameters are those of train_and_evaluate."""
    parser = argparse.ArgumentParser(
        usage="%(prog)s local|grid [options]",
        description="Train and evaluate, on this machine or on the grid.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("mode", choices=["local", "grid"], help="where to run: in this terminal, or as a job")

    # nargs="+": one value or several
    parameters = parser.add_argument_group(
        "parameters",
        "With several values, as in --epochs 5 50, each combination is a run; the last option varies fastest.",
    )
    parameters.add_argument(
        "--learning-rate", type=float, nargs="+", default=[0.002], metavar="X", help="size of a training step"
    )
    parameters.add_argument(
        "--hidden-layers", type=sizes, nargs="+", default=[[128]], metavar="SIZES", help="of each layer, as in 128,64"
    )
    parameters.add_argument(
        "--epochs", type=positive, nargs="+", default=[30], metavar="N", help="how often to go through the images"
    )
    parameters.add_argument(
        "--batch-size", type=positive, nargs="+", default=[32], metavar="N", help="how many images to a training step"
    )
    parameters.add_argument(
        "--seed", type=int, nargs="+", default=[0], metavar="N", help="the same seed gives the same result"
    )

    resources = parser.add_argument_group("what to run it with", "Mode local minds only the cores.")
    resources.add_argument("--cores", type=int, default=1, help="how many cores, and threads, to use")
    resources.add_argument("--memory", default=MEMORY, help="memory of the whole job, in a sweep of each run")
    resources.add_argument("--gpus", "--cuda", dest="cuda", type=int, default=CUDA, metavar="N", help="how many GPUs")
    resources.add_argument("--walltime", help="how long it may run, as in 90m or 2h; None: as long as the site lets it")
    resources.add_argument(
        "--queue", help="the queue, or the partition, to wait in; None: what pyproject.toml or the site says"
    )
    resources.add_argument("--name", default=Path(__file__).stem, help="the job's name")
    resources.add_argument(
        "--snapshot", action="store_true", help="run the code as it is now, even if it is edited later"
    )
    resources.add_argument(
        "--max-running", type=positive, metavar="N", help="how many runs of a sweep may run at once; None: all"
    )
    resources.add_argument("--wait", action="store_true", help="wait for the end, with a progress bar")
    resources.add_argument("--dry-run", action="store_true", help="show the job script, submit nothing")

    options = parser.parse_args(words)
    if options.mode == "local" and (options.dry_run or options.wait or options.max_running):
        parser.error("--dry-run, --wait and --max-running go with mode grid; mode local submits nothing")
    return options


def main():
    options = parse()
    # The values of each option, in the order of train_and_evaluate's parameters.
    values = [options.learning_rate, options.hidden_layers, options.epochs, options.batch_size, options.seed]
    # A list of arguments for each combination, the same lists for both modes. As in nested loops the last varies fastest.
    tasks = [list(args) for args in itertools.product(*values)]

    if options.mode == "local":
        limit_threads(options.cores)  # as in a job, and before numpy is imported
        from my_script_local import train_and_evaluate

        if len(tasks) > 1:
            sys.exit(1 if run_all(train_and_evaluate, tasks) else 0)
        train_and_evaluate(*tasks[0])
        return

    how = dict(
        activate=ACTIVATE,
        memory=options.memory,
        cuda=options.cuda,
        cores=options.cores,
        walltime=options.walltime,
        queue=options.queue,
        name=options.name,
        log_dir=HERE / "logs",
        snapshot=options.snapshot,
        dry_run=options.dry_run,
    )
    if len(tasks) > 1:
        job = submit_array(path=WORKER, tasks=tasks, max_running=options.max_running, **how)
    else:
        job = submit_script(path=WORKER, args=tasks[0], **how)
    if job.id:
        say_what_next(job)
        if options.wait:
            sys.exit(1 if wait_for(job) else 0)


def say_what_next(job):
    """Print how to follow and to stop a job."""
    make = "make" if HERE == Path.cwd() else f"make -C {shlex.quote(str(HERE))}"
    left_out = job.record.get("snapshot_without", [])
    show = lambda path: shlex.quote(os.path.relpath(path))
    if len(job) > 1:
        print(f"submitted job {job.id}, {job.name}: {len(job)} tasks")
        print(f"    output   {show(job.log_dir)}, two files for each task")
        print(f"    compare  {make} results, also while it runs")
    else:
        print(f"submitted job {job.id}, {job.name}")
        print(f"    output   {show(job.stdout)}")
        print(f"    errors   {show(job.stderr)}")
        print(f"    follow   {make} log JOB={job.id}")
    print(f"    status   {make} status")
    print(f"    stop     {make} stop JOB={job.id}")
    if "snapshot" in job.record:
        print(
            "    snapshot of the code; not in it: what git ignores" + "".join(f", {name} (large)" for name in left_out)
        )


if __name__ == "__main__":
    try:
        main()
    except GridError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
    except KeyboardInterrupt:
        print("\nstopped" + ("; `make status` tells whether a job got through" * ("grid" in sys.argv)), file=sys.stderr)
        sys.exit(130)
