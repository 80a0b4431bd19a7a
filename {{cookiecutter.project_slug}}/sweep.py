"""Many runs of one function: run_all makes them here, wait_for waits for those on the grid, read_runs reads what they left.

This file needs nothing but Python's standard library, and shows a bar where tqdm is installed: what submits jobs also works
in a Python that has none of the project's packages.
"""

import copy
import inspect
import json
import math
import os
import re
import signal
import sys
import time
import traceback
from collections import namedtuple
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

# Of a metric with such a name less is better, as of loss, log_loss, val_error, rmse.
LESS_IS_BETTER = re.compile(r"loss|error|perplexity|distance|(^|_)(mse|rmse|mae|mape|nll)(_|$)", re.IGNORECASE)
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"

Result = namedtuple("Result", "folder params metrics about")  # of a finished run: a Path, and what its JSON files hold


class Stopped(BaseException):
    """Ctrl-C while runs are made here. KeyboardInterrupt does not do: scikit-learn, for one, catches it and goes on."""


# --- making them ------------------------------------------------------------------------------------------------------


def run_all(function, tasks):
    """Call a function with each list of arguments, one after another. One that fails does not stop the others.

    Args:
        function: the worker's function; what it prints appears above the bar.
        tasks: a list of lists of arguments.

    Returns:
        How many failed. Ctrl-C ends the program, with exit code 130, after a line on what is done.
    """
    from experiment import Run

    def stop(*_):
        raise Stopped

    signal.signal(signal.SIGINT, stop)
    before, began, done, failed = len(Run.folders), time.monotonic(), 0, []
    bar, names = progress_bar(len(tasks), "runs"), list(inspect.signature(function).parameters)
    differing = [i for i in range(len(names)) if any(args[i : i + 1] != tasks[0][i : i + 1] for args in tasks)]
    try:
        with above(bar):
            for position, args in enumerate(tasks, 1):
                values = ", ".join(f"{names[i]} {text(args[i])}" for i in differing)
                print(f"run {position} of {len(tasks)}: {values}", flush=True)
                if error := attempt(function, args):
                    failed.append(f"run {position}, {values}: {type(error).__name__}: {text(str(error), 200)}")
                    print("".join(traceback.format_exception(error)).rstrip(), flush=True)
                else:
                    done += 1
                if bar:
                    bar.update()
    except Stopped:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        folders = [folder for folder in Run.folders[before:] if (folder / "metrics.json").exists()]
        where = f", in {folders[0]} to {folders[-1]}; make results shows them" if folders else ""
        leave(bar, f"stopped: {done} of {len(tasks)} runs are done{where}")
    if bar:
        bar.close()
    took = text_of_seconds(time.monotonic() - began)
    say_how_it_went(f"{len(tasks)} runs in {took}", failed, map(read_run, Run.folders[before:]))
    return len(failed)


def attempt(function, args):
    """Call a function; returns the exception with which it failed, or None."""
    try:
        function(*copy.deepcopy(args))  # a job gets lists of its own, too: no run changes another's
    except SystemExit as error:
        return error if error.code else None
    except Exception as error:
        return error


def wait_for(job):
    """Show how many tasks of a job wait, run and have ended, until all have; then which failed, and the best run.

    Returns how many are not DONE. Ctrl-C ends the program, with exit code 130; the job goes on.
    """
    bar, began, shown, printed = progress_bar(len(job), "tasks"), time.monotonic(), None, -math.inf
    try:
        for counts in job.watch():
            ended = sum(counts[state] for state in ("DONE", "FAILED", "CANCELLED"))
            words = f"{counts['PENDING']} queued, {counts['RUNNING']} running, {counts['DONE']} done"
            words += "".join(f", {counts[state]} {state.lower()}" for state in ("FAILED", "CANCELLED") if counts[state])
            now = time.monotonic()
            if bar:
                bar.n = ended
                bar.set_postfix_str(words)  # draws it
            elif words != shown and (now - printed > 30 or ended == len(job)):
                rest = text_of_seconds((now - began) / ended * (len(job) - ended)) if 0 < ended < len(job) else ""
                print(f"tasks: {words}" + (f"; about {rest} more" if rest else ""), flush=True)
                shown, printed = words, now
    except KeyboardInterrupt:
        leave(bar, f"waiting is over, the job goes on; make status shows it, make stop JOB={job.id} stops it")
    if bar:
        bar.close()
    bad = [task for task in job.tasks if task.state != "DONE"] if counts["DONE"] < len(job) else []
    failed = [f"task {task.number} is {task.state}: {task.reason}" for task in bad]
    for look in range(5):  # on a network file system the last ones may be seen a little late
        results = [one for one in read_runs()[0] if one.about.get("submission") == job.folder.name]
        if len(results) >= counts["DONE"] or look and not results:  # a worker need not leave any
            break
        time.sleep(1)
    tasks = "1 task" if len(job) == 1 else f"{len(job)} tasks"
    say_how_it_went(f"{tasks} in {text_of_seconds(time.monotonic() - began)}", failed, results)
    return len(failed)


def say_how_it_went(what, failed, results):
    """Print how many runs there were, which failed, which is the best, and how to compare them."""
    print(f"{what}, {len(failed) or 'none'} failed")
    for line in failed[:10]:
        print(f"    {line}")
    if len(failed) > 10:
        print(f"    and {len(failed) - 10} more")
    results = [one for one in results if isinstance(one, Result)]
    if results:
        print("the best: " * (len(results) > 1) + best_in_words(results))
        print("make results compares all runs")


def progress_bar(total, what):
    """A bar; None where standard error is no terminal, or tqdm is not installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    # smoothing=0: runs end in bursts, so the rest is estimated from the mean of all
    return tqdm(total=total, desc=what, bar_format=BAR, smoothing=0) if sys.stderr.isatty() else None


def above(bar):
    """A context in which what is printed appears above the bar."""
    if not bar or not sys.stdout.isatty():
        return nullcontext()
    from tqdm.contrib import DummyTqdmFile

    return redirect_stdout(DummyTqdmFile(sys.stderr))  # the bar's file, or tqdm would not make room


def leave(bar, words):
    """End the program as Ctrl-C does: leave the bar as it is, print words below it."""
    if bar:
        bar.close()
    print(f"\n{words}", file=sys.stderr)
    sys.exit(130)


# --- reading them -----------------------------------------------------------------------------------------------------


def read_runs(root="results"):
    """Read all runs. Needs nothing but Python's standard library.

    Args:
        root: the folder that holds the runs' folders.

    Returns:
        Three lists: the Results, in the order of their folders' names; the names of folders without metrics.json, whose
        run goes on or has failed; a text for each run that cannot be read.
    """
    from concurrent.futures import ThreadPoolExecutor

    root = Path(root)
    names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir()) if root.is_dir() else []
    folders = [root / name for name in names if not name.startswith(".")]
    with ThreadPoolExecutor(16) as pool:  # on a network file system each file takes its time
        found = list(pool.map(read_run, folders))
    results = [one for one in found if isinstance(one, Result)]
    unfinished = [folder.name for folder, one in zip(folders, found) if one is None]
    return results, unfinished, [one for one in found if isinstance(one, str)]


def read_run(folder):
    """The Result in a run's folder; None if it has no metrics.json; a text that says what is wrong with it."""
    parts = []
    for name, may_be_missing in (("metrics.json", False), ("params.json", False), ("run.json", True)):
        try:
            part = json.loads((folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            if name == "metrics.json":
                return None
            if not may_be_missing:
                return f"{folder.name}: there is no {name}"
            part = {}
        except (OSError, ValueError, RecursionError) as error:
            return f"{folder.name}: {name} cannot be read: {error}"
        if not isinstance(part, dict):
            return f"{folder.name}: {name} holds no names with values"
        parts.append(part)
    metrics, params, about = parts
    if not any(is_number(value) for value in metrics.values()):
        return f"{folder.name}: metrics.json holds no number"
    return Result(folder, params, metrics, about)


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def choose_metric(results, wanted=None):
    """The name of the metric to compare by: accuracy, or else the first, if none is wanted. ValueError: there is none such."""
    names = dict.fromkeys(name for one in results for name, value in one.metrics.items() if is_number(value))
    if wanted is None:
        return "accuracy" if "accuracy" in names else next(iter(names))
    if wanted not in names:
        raise ValueError(f"no run has a metric {wanted}; there are {', '.join(names)}")
    return wanted


def best_first(results, metric):
    """The Results sorted by a metric. Those that have none come last, and also inf: the run has diverged."""

    def key(one):
        value = number(one.metrics.get(metric))
        return not math.isfinite(value), value if LESS_IS_BETTER.search(metric) else -value

    return sorted(results, key=key)


def number(value):
    """The float that a value is; nan if it is none."""
    try:
        return float(value) if is_number(value) else math.nan
    except OverflowError:
        return math.inf


def swept(results):
    """The names of the parameters that are not the same in all runs; one that some runs do not know counts by the others."""
    values = {}
    for one in results:
        for name, value in one.params.items():
            values.setdefault(name, set()).add(identity(value))
    return [name for name, texts in values.items() if len(texts) > 1]


def identity(value):
    """What is equal for equal values, and can be a key: the float of a number, and a text for all else."""
    return number(value) if is_number(value) else f"{type(value).__name__} {value}"


def describe(one, names):
    """A run's parameters in words: learning_rate 0.01, hidden_layers [64, 32]."""
    return ", ".join(f"{name} {text(one.params[name])}" for name in names if name in one.params)


def text(value, longest=32):
    """A value as a text, in so many characters at most."""
    words = f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else repr(value)
    words = " ".join(words.split())
    return words if len(words) <= longest else words[: longest - 3] + "..."


def best_in_words(results):
    """One line on the best of some runs: its metrics, what distinguishes it, where it is."""
    metric = choose_metric(results)
    best = best_first(results, metric)[0]
    metrics = ", ".join(f"{name} {text_of_metric(value)}" for name, value in best.metrics.items())
    if len(results) > 1:
        metrics += f": {describe(best, swept(results)) or 'the same parameters as the others'}"
    return f"{metrics}, in {best.folder}"


def text_of_metric(value):
    small = isinstance(value, float) and (value == 0 or 0.001 <= abs(value) < 10000)
    return f"{value:.4f}" if small else text(value)


def text_of_seconds(seconds):
    """A duration in words: 0.8 s, 3 min 20 s, 2 h 5 min."""
    if not math.isfinite(number(seconds)):
        return ""
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
