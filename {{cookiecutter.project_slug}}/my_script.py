#!/usr/bin/env python3
"""The starter: runs train_and_evaluate of my_script_local.py here or on the grid, with the same arguments.

    python my_script.py local                            here, with the progress in this terminal
    python my_script.py grid                             the same as a job on the grid
    python my_script.py grid --epochs 100 --memory 4G    other parameters, more memory
    python my_script.py grid --seed 0 1 2 --epochs 5 50  six runs: each seed with each number of epochs
    python my_script.py grid --dry-run                   show what would be submitted

To add a parameter, change three places: train_and_evaluate, the options in parse(), the list of values in main().
"""

import argparse
import itertools
import shlex
import sys
from pathlib import Path

if sys.version_info < (3, 11):  # a login node's own Python, most likely
    sys.exit("This needs Python 3.11 or newer: run `make grid`, which uses the environment's Python.")

from experiment.sweep import print_next_steps, run_all, wait_for
from grid import GridError, limit_threads, submit_array, submit_script, typecast

HERE = Path(__file__).resolve().parent
WORKER = HERE / "my_script_local.py"

# What a job requests by default.
MEMORY = "2G"  # in total
CUDA = 0  # GPUs

# The shell command that activates the environment in the job. To use your own environment:
# ACTIVATE = "source /net/.../env/bin/activate"
ACTIVATE = f"source {shlex.quote(str(HERE / 'environment' / 'activate.sh'))}"


def positive(word: str) -> int:
    """Return the positive integer in a word. Fail here rather than in a job that has queued for hours."""
    number = typecast(word)
    if type(number) is not int or number < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, not {word}")
    return number


def sizes(word: str) -> list:
    """Return the list of layer sizes in a word such as [128,64], 128,64 or 128."""
    layers = typecast(word)
    layers = list(layers) if isinstance(layers, (list, tuple)) else [layers]
    if not layers or not all(type(size) is int and size > 0 for size in layers):
        raise argparse.ArgumentTypeError(f"expected layer sizes such as 128,64 (no blanks), not {word}")
    return layers


def parse(words: list | None = None) -> argparse.Namespace:
    """Read the command line. The parameters have the defaults of train_and_evaluate."""
    parser = argparse.ArgumentParser(
        usage="%(prog)s local|grid [options]",
        description="Train and evaluate, on this machine or on the grid.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("mode", choices=["local", "grid"], help="run in this terminal, or submit a job")

    # nargs="+": one value or several
    parameters = parser.add_argument_group(
        "parameters",
        "Give several values to make a run for each combination: --epochs 5 50. The last option varies fastest.",
    )
    parameters.add_argument(
        "--learning-rate", type=float, nargs="+", default=[0.002], metavar="X", help="step size of the optimizer"
    )
    parameters.add_argument(
        "--hidden-layers", type=sizes, nargs="+", default=[[128]], metavar="SIZES", help="layer sizes, such as 128,64"
    )
    parameters.add_argument(
        "--epochs", type=positive, nargs="+", default=[30], metavar="N", help="passes over the training data"
    )
    parameters.add_argument(
        "--batch-size", type=positive, nargs="+", default=[32], metavar="N", help="images per training step"
    )
    parameters.add_argument(
        "--seed", type=int, nargs="+", default=[0], metavar="N", help="the same seed gives the same result"
    )

    resources = parser.add_argument_group("resources", "In local mode only --cores has an effect.")
    resources.add_argument("--cores", type=int, default=1, help="number of cores and threads")
    resources.add_argument("--memory", default=MEMORY, help="memory per job (per run in a sweep)")
    resources.add_argument("--gpus", "--cuda", dest="cuda", type=int, default=CUDA, metavar="N", help="number of GPUs")
    resources.add_argument("--walltime", help="time limit, such as 90m or 2h; None: the site's default")
    resources.add_argument("--queue", help="queue or partition; None: as in pyproject.toml, or the site's default")
    resources.add_argument("--name", default=Path(__file__).stem, help="name of the job")
    resources.add_argument("--snapshot", action="store_true", help="run a copy of the code as it is now")
    resources.add_argument(
        "--max-running", type=positive, metavar="N", help="how many runs of a sweep run at once; None: no limit"
    )
    resources.add_argument("--wait", action="store_true", help="wait until the job has ended, with a progress bar")
    resources.add_argument("--dry-run", action="store_true", help="show the job script, submit nothing")

    options = parser.parse_args(words)
    if options.mode == "local" and (options.dry_run or options.wait or options.max_running):
        parser.error("--dry-run, --wait and --max-running need mode grid; mode local submits nothing")
    return options


def main() -> None:
    """Run, or submit, each combination of the parameters."""
    options = parse()
    # The values of each option, in the order of train_and_evaluate's parameters.
    values = [options.learning_rate, options.hidden_layers, options.epochs, options.batch_size, options.seed]
    # A list of arguments for each combination, as in nested loops: the last varies fastest. Both modes use it.
    tasks = [list(args) for args in itertools.product(*values)]

    if options.mode == "local":
        limit_threads(options.cores)  # as in a job, and before numpy is imported
        from my_script_local import train_and_evaluate

        if len(tasks) > 1:
            sys.exit(1 if run_all(train_and_evaluate, tasks) else 0)
        train_and_evaluate(*tasks[0])
        return

    names = "memory", "cuda", "cores", "walltime", "queue", "name", "snapshot", "dry_run"
    request = {name: getattr(options, name) for name in names}
    request |= {"activate": ACTIVATE, "log_dir": HERE / "logs"}
    if len(tasks) > 1:
        job = submit_array(WORKER, tasks, max_running=options.max_running, **request)
    else:
        job = submit_script(WORKER, tasks[0], **request)
    if job.id:  # none after a dry run
        print_next_steps(job)
        if options.wait:
            sys.exit(1 if wait_for(job) else 0)


if __name__ == "__main__":
    try:
        main()
    except GridError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
    except KeyboardInterrupt:
        hint = "; make status tells whether the job was submitted" * ("grid" in sys.argv)
        print(f"\nstopped{hint}", file=sys.stderr)
        sys.exit(130)
