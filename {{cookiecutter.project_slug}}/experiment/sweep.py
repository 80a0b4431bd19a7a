"""Many runs of one function: run them here, wait for them on the grid, read their results.

run_all(train_and_evaluate, tasks)    # run each list of arguments here
print_next_steps(job)                 # how to follow, compare and stop a job
wait_for(job)                         # show the progress of a job until it has ended
read_runs("results")                  # the parameters and metrics of all runs

This file needs only Python's standard library: a Python without packages can submit jobs. With tqdm there is a bar.
"""

import copy
import inspect
import json
import math
import os
import re
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from grid import Job

PROJECT = Path(__file__).resolve().parent.parent

# Of a metric with such a name less is better: loss, log_loss, val_error, rmse.
LESS_IS_BETTER = re.compile(r"loss|error|perplexity|distance|(^|_)(mse|rmse|mae|mape|nll)(_|$)", re.IGNORECASE)
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


class Result(NamedTuple):
    """A finished run: its folder, and the contents of its JSON files."""

    folder: Path
    params: dict[str, Any]
    metrics: dict[str, Any]
    metadata: dict[str, Any]  # of run.json


class Stopped(BaseException):
    """Ctrl-C during run_all. KeyboardInterrupt is not enough: scikit-learn, for one, catches it and goes on."""


# --- run them here ----------------------------------------------------------------------------------------------------


def run_all(function: Callable, tasks: list[list]) -> int:
    """Call a function with each list of arguments, one after another. One that fails does not stop the others.

    Args:
        function: the worker's function. What it prints appears above the progress bar.
        tasks: a list of lists of arguments.

    Returns how many runs failed. Ctrl-C prints what is done and ends the program with exit code 130.
    """
    from experiment.run import Run

    def stop(*_):
        raise Stopped

    signal.signal(signal.SIGINT, stop)
    before, began, done, failed = len(Run.folders), time.monotonic(), 0, []
    bar, names = progress_bar(len(tasks), "runs"), list(inspect.signature(function).parameters)
    differing = [i for i in range(len(names)) if any(args[i : i + 1] != tasks[0][i : i + 1] for args in tasks)]
    try:
        with print_above(bar):
            for number, args in enumerate(tasks, 1):
                values = ", ".join(f"{names[i]} {format_value(args[i])}" for i in differing)
                print(f"run {number} of {len(tasks)}: {values}", flush=True)
                if error := call_safely(function, args):
                    failed.append(f"run {number}, {values}: {type(error).__name__}: {format_value(str(error), 200)}")
                    print("".join(traceback.format_exception(error)).rstrip(), flush=True)
                else:
                    done += 1
                if bar:
                    bar.update()
    except Stopped:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        folders = [folder for folder in Run.folders[before:] if (folder / "metrics.json").exists()]
        where = f", in {folders[0]} to {folders[-1]}; make results compares them" if folders else ""
        exit_interrupted(bar, f"stopped: {done} of {len(tasks)} runs are done{where}")
    if bar:
        bar.close()
    duration = format_duration(time.monotonic() - began)
    print_summary(f"{len(tasks)} runs in {duration}", failed, map(read_run, Run.folders[before:]))
    return len(failed)


def call_safely(function: Callable, args: list) -> BaseException | None:
    """Call a function. Return the exception with which it failed, or None."""
    try:
        function(*copy.deepcopy(args))  # a job gets its own lists, too: no run changes those of another
    except SystemExit as error:
        return error if error.code else None
    except Exception as error:
        return error
    return None


# --- on the grid ------------------------------------------------------------------------------------------------------


def print_next_steps(job: "Job") -> None:
    """Print how to follow, compare and stop a job that was submitted."""
    make = "make" if Path.cwd() == PROJECT else f"make -C {shlex.quote(str(PROJECT))}"

    def show(path):
        return shlex.quote(os.path.relpath(path))

    lines = [f"submitted job {job.id}, {job.name}" + (f": {len(job)} tasks" if len(job) > 1 else "")]
    if len(job) > 1:
        lines += [f"    output   {show(job.log_dir)}, two files per task"]
        lines += [f"    compare  {make} results JOB={job.id}, also while it runs"]
    else:
        lines += [f"    output   {show(job.stdout)}", f"    errors   {show(job.stderr)}"]
        lines += [f"    follow   {make} log JOB={job.id}"]
    lines += [f"    status   {make} status", f"    stop     {make} stop JOB={job.id}"]
    if "snapshot" in job.facts:
        large = "".join(f", {name} (large)" for name in job.facts.get("snapshot_without", []))
        lines += [f"    snapshot of the code, without what git ignores{large}"]
    say("\n".join(lines))


def wait_for(job: "Job") -> int:
    """Show how many tasks of a job are queued, running and done. At the end print what failed, and the best run.

    Returns how many tasks are not DONE. Ctrl-C ends the program with exit code 130; the job keeps running.
    """
    bar, began, shown, printed = progress_bar(len(job), "tasks"), time.monotonic(), None, -math.inf
    try:
        for counts in job.watch():
            ended = sum(counts[state] for state in ("DONE", "FAILED", "CANCELLED"))
            line = f"{counts['PENDING']} queued, {counts['RUNNING']} running, {counts['DONE']} done"
            line += "".join(f", {counts[state]} {state.lower()}" for state in ("FAILED", "CANCELLED") if counts[state])
            now = time.monotonic()
            if bar:
                bar.n = ended
                bar.set_postfix_str(line)  # draws it
            elif line != shown and (now - printed > 30 or ended == len(job)):
                left = format_duration((now - began) / ended * (len(job) - ended)) if 0 < ended < len(job) else ""
                say(f"tasks: {line}" + (f"; about {left} left" if left else ""))
                shown, printed = line, now
    except KeyboardInterrupt:
        how = f"make status shows it, make stop JOB={job.id} stops it"
        exit_interrupted(bar, f"stopped waiting; job {job.id} keeps running: {how}")
    if bar:
        bar.close()
    not_done = [task for task in job.tasks if task.state != "DONE"] if counts["DONE"] < len(job) else []
    failed = [f"task {task.number} {task.state.lower()}: {task.reason}" for task in not_done]
    for attempt in range(5):  # on a network file system the last results may appear a little late
        results, _, _ = read_runs(select=lambda metadata: metadata.get("submission") == job.folder.name)
        if len(results) >= counts["DONE"] or attempt and not results:  # a worker need not leave any
            break
        time.sleep(1)
    tasks = "1 task" if len(job) == 1 else f"{len(job)} tasks"
    print_summary(f"{tasks} in {format_duration(time.monotonic() - began)}", failed, results)
    return len(failed)


# --- what both print --------------------------------------------------------------------------------------------------


def print_summary(what: str, failed: list[str], results: Iterable[Result | str | None]) -> None:
    """Print how many runs there were, which failed, which is the best, and how to compare them."""
    lines = [f"{what}, {len(failed) or 'none'} failed", *(f"    {line}" for line in failed[:10])]
    if len(failed) > 10:
        lines.append(f"    and {len(failed) - 10} more")
    if finished := [result for result in results if isinstance(result, Result)]:
        lines += ["best: " * (len(finished) > 1) + describe_best(finished), "make results compares all runs"]
    say("\n".join(lines))


def say(text: str) -> None:
    """Print a text. If nobody reads any more (`make grid | head -1`), print no more: that is no failure."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def progress_bar(total: int, unit: str) -> Any:
    """Return a progress bar, or None if standard error is no terminal or tqdm is not installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    # smoothing=0: runs end in bursts, so the time left is estimated from the mean of all
    return tqdm(total=total, desc=unit, bar_format=BAR, smoothing=0) if sys.stderr.isatty() else None


def print_above(bar: Any) -> AbstractContextManager:
    """Return a context in which all that is printed appears above the bar."""
    if not bar or not sys.stdout.isatty():
        return nullcontext()
    from tqdm.contrib import DummyTqdmFile

    return redirect_stdout(DummyTqdmFile(sys.stderr))  # the bar's file, or tqdm would not make room


def exit_interrupted(bar: Any, message: str) -> NoReturn:
    """End the program as Ctrl-C does: leave the bar as it is and print a message below it."""
    if bar:
        bar.close()
    print(f"\n{message}", file=sys.stderr)
    sys.exit(130)


# --- read their results -----------------------------------------------------------------------------------------------


def read_runs(
    root: str | Path = "results", select: Callable[[dict[str, Any]], bool] | None = None
) -> tuple[list[Result], list[str], list[str]]:
    """Read all runs.

    Args:
        root: the folder with the folders of the runs.
        select: a function of the dict in run.json that says whether to read this run; None: read all.

    Returns three lists: the Results, sorted by folder; the folders of unfinished or failed runs (no metrics.json); for
    each run that cannot be read a text that says why.
    """
    from concurrent.futures import ThreadPoolExecutor

    root = Path(root)
    names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir()) if root.is_dir() else []
    folders = [root / name for name in names if not name.startswith(".")]

    def selected(folder):
        try:
            return select(read_json(folder / "run.json") or {})
        except ValueError:
            return False  # nobody can tell

    with ThreadPoolExecutor(16) as pool:  # on a network file system each file takes its time
        if select:
            folders = [folder for folder, yes in zip(folders, pool.map(selected, folders)) if yes]
        found = list(pool.map(read_run, folders))
    results = [one for one in found if isinstance(one, Result)]
    unfinished = [folder.name for folder, one in zip(folders, found) if one is None]
    return results, unfinished, [one for one in found if isinstance(one, str)]


def read_run(folder: Path) -> Result | str | None:
    """Return the Result in a run's folder, None without a metrics.json, or a text that says why it cannot be read."""
    try:
        if (metrics := read_json(folder / "metrics.json")) is None:
            return None
        if (params := read_json(folder / "params.json")) is None:
            return f"{folder.name}: there is no params.json"
        metadata = read_json(folder / "run.json") or {}  # it may be missing
    except ValueError as error:
        return f"{folder.name}: {error}"
    if not any(is_number(value) for value in metrics.values()):
        return f"{folder.name}: metrics.json holds no number"
    return Result(folder, params, metrics, metadata)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the dict in a file of a run, or None if there is no such file. Raises ValueError if it cannot be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path.name}: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds no names with values")
    return value


# --- compare and describe them ----------------------------------------------------------------------------------------


def choose_metric(results: list[Result], wanted: str | None = None) -> str:
    """Return the metric to compare by: the wanted one, or else accuracy, or else the first.

    Raises ValueError if no run has the wanted one.
    """
    names = dict.fromkeys(name for one in results for name, value in one.metrics.items() if is_number(value))
    if wanted is None:
        return "accuracy" if "accuracy" in names else next(iter(names))
    if wanted not in names:
        raise ValueError(f"no run has a metric {wanted}; there are {', '.join(names)}")
    return wanted


def best_first(results: list[Result], metric: str) -> list[Result]:
    """Return the Results sorted by a metric. Those without it come last, and also inf and nan: the run has diverged."""

    def key(one):
        value = as_float(one.metrics.get(metric))
        return not math.isfinite(value), value if LESS_IS_BETTER.search(metric) else -value

    return sorted(results, key=key)


def varying(results: list[Result]) -> list[str]:
    """Return the names of the parameters that differ between runs. Runs without a parameter do not count for it."""
    values: dict[str, set] = {}
    for one in results:
        for name, value in one.params.items():
            values.setdefault(name, set()).add(comparison_key(value))
    return [name for name, keys in values.items() if len(keys) > 1]


def is_number(value: object) -> bool:
    """Return whether a value is a number (a bool is none)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_float(value: Any) -> float:
    """Return a number as a float, and nan for all else."""
    try:
        return float(value) if is_number(value) else math.nan
    except OverflowError:
        return math.inf


def comparison_key(value: object) -> float | str:
    """Return a hashable key that is equal for equal values: the float of a number, a text for all else."""
    return as_float(value) if is_number(value) else f"{type(value).__name__} {value}"


def describe(result: Result, names: list[str]) -> str:
    """Return some parameters of a run as text: learning_rate 0.01, hidden_layers [64, 32]."""
    return ", ".join(f"{name} {format_value(result.params[name])}" for name in names if name in result.params)


def describe_best(results: list[Result]) -> str:
    """Return one line on the best run: its metrics, the parameters in which it differs, its folder."""
    best = best_first(results, choose_metric(results))[0]
    line = ", ".join(f"{name} {format_metric(value)}" for name, value in best.metrics.items())
    if len(results) > 1:
        line += f": {describe(best, varying(results)) or 'the same parameters as the others'}"
    return f"{line}, in {best.folder}"


def format_value(value: object, longest: int = 32) -> str:
    """Return a value as text of one line and limited length."""
    words = f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else repr(value)
    words = " ".join(words.split())
    return words if len(words) <= longest else words[: longest - 3] + "..."


def format_metric(value: object) -> str:
    """Return a metric as text: four decimals, or six digits if it is very small or large."""
    plain = isinstance(value, float) and (value == 0 or 0.001 <= abs(value) < 10000)
    return f"{value:.4f}" if plain else format_value(value)


def format_duration(seconds: Any) -> str:
    """Return a duration as text: 0.8 s, 3 min 20 s, 2 h 5 min."""
    if not math.isfinite(as_float(seconds)):
        return ""
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
