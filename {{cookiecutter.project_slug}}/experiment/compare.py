"""Compare all runs in results/: print a table, the best run first; write a CSV file and plots.

    make results                           all runs
    make results ARGS="--metric loss"      by another metric
    make results JOB=4711                  only the runs of one job

A run is a folder with metrics.json and params.json, each a dict; other files may be missing.
"""

import argparse
import json
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if sys.version_info < (3, 11):  # a login node's own Python, most likely
    sys.exit("This needs Python 3.11 or newer: run `make results`, which uses the environment's Python.")

import grid
from experiment.sweep import (
    LESS_IS_BETTER,
    Result,
    best_first,
    choose_metric,
    format_duration,
    format_metric,
    format_value,
    read_runs,
    varying,
)

if TYPE_CHECKING:
    from pandas import DataFrame

CURVES = 5  # how many of the best runs learning_curves.png shows
RUN_COLUMNS = ["duration", "job", "run"]


def main(words: list[str] | None = None) -> None:
    """Compare the runs that the command line selects."""
    parser = argparse.ArgumentParser(
        prog="python -m experiment.compare",
        description="Compare all runs: print a table, write a CSV file and plots.",
    )
    parser.add_argument("--metric", help="the metric to compare by (default: accuracy, or else the first)")
    parser.add_argument("--rows", type=int, default=20, help="how many runs to print (default: 20); the file has all")
    parser.add_argument("--job", help="compare only the runs of this job, an id or a name; the files get its name")
    parser.add_argument("--root", type=Path, default="results", help="the folder of the runs (default: results)")
    options = parser.parse_args(words)

    results, unfinished, broken = read_runs(options.root, options.job and runs_of(options.job))
    if results:
        try:
            metric = choose_metric(results, options.metric)
            # the files of one job are its own: those of all runs stay as they are
            suffix = "-" + re.sub(r"[^A-Za-z0-9_.]+", "_", options.job) if options.job else ""
            written = compare(best_first(results, metric), metric, options.root, options.rows, suffix)
        except ImportError as error:
            sys.exit(f"compare.py: {error}. Run `make results`, which uses the environment.")
        except (ValueError, OSError) as error:  # there is no such metric; the files cannot be written
            sys.exit(f"compare.py: {error}")
    elif options.job:
        print(f"no results of job {options.job} in {options.root}/ yet")
    else:
        print(f"no results in {options.root}/ yet; run make local or make grid")
    if unfinished:
        print(f"{count(unfinished, 'run')} unfinished or failed: {first_few(unfinished)}")
    if broken:
        print(f"{count(broken, 'run')} cannot be read: {first_few(broken)}")
    if results:
        print("\nin " + ", ".join(map(str, written)))


def runs_of(job: str) -> Callable[[dict[str, Any]], bool]:
    """Return a function that says whether the metadata of a run is of this job, an id or a name."""
    jobs = grid.jobs()
    chosen = [one for one in jobs if job in one.ids] or [one for one in jobs if one.name == job]
    if not chosen:  # the beginning of one, as elsewhere
        begins = [one for one in jobs if (one.id or "").startswith(job) or one.name.startswith(job)]
        chosen = begins if len(begins) == 1 else []
    folders = {one.folder.name for one in chosen}  # a job's retries have other ids, but the same folder
    return lambda metadata: metadata.get("submission") in folders or metadata.get("job") == job


def compare(results: list[Result], metric: str, root: Path, rows: int, suffix: str = "") -> list[Path]:
    """Print the table, write the CSV file and the plots. Return the paths of what was written.

    Args:
        results: the runs, the best first.
        metric: the metric to compare by.
        root: the folder to write to.
        rows: how many runs to print.
        suffix: for the names of the files: results-4711.csv.
    """
    import pandas  # noqa: F401  nothing is printed before it is known that the environment is the right one

    from experiment.pictures import draw_learning_curves, draw_sweep

    table = make_table(results, metric)
    best = "lowest" if LESS_IS_BETTER.search(metric) else "highest"
    print(f"{len(results):,} runs, {best} {metric} first\n" if len(results) > 1 else "1 run\n")
    show_table(table, results, rows)
    names = (f"results{suffix}.csv", f"sweep{suffix}.png", f"learning_curves{suffix}.png")
    csv, sweep, curves = (root / name for name in names)
    save_csv(table, csv)
    drawn = [
        (sweep, draw_sweep(results, metric, sweep)),
        (curves, draw_learning_curves(results[:CURVES], varying(results), curves)),
    ]
    for path, done in drawn:
        if not done:  # an older plot would show something else
            path.unlink(missing_ok=True)
    return [csv] + [path for path, done in drawn if done]


def make_table(results: list[Result], metric: str) -> "DataFrame":
    """Return a table with a row for each run: this metric, the others, the parameters, duration in seconds, job, run.

    A parameter that has the name of a metric or of RUN_COLUMNS gets a longer one: "loss (parameter)".
    """
    import pandas

    metrics = {name for one in results for name in one.metrics}
    arrays = {one.metadata.get("job") for one in results if one.metadata.get("task") not in (None, "1")}
    rows = []
    for one in results:
        job, task, duration = (one.metadata.get(name) for name in ("job", "task", "duration"))
        row = {f"{name} (metric)" if name in RUN_COLUMNS else name: value for name, value in one.metrics.items()}
        row |= {column_name(name, metrics): value for name, value in one.params.items()}
        row |= {"duration": "" if duration is None else duration}
        row |= {"job": f"{job}.{task}" if job in arrays else job or "", "run": one.folder.name}
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row if name not in RUN_COLUMNS)
    columns = sorted(names, key=lambda name: (name != metric, name not in metrics and not name.endswith(" (metric)")))
    columns += RUN_COLUMNS
    cells = [[row.get(name, "") for name in columns] for row in rows]
    return pandas.DataFrame(cells, columns=columns, dtype=object)  # object: ints stay ints beside a gap


def column_name(parameter: str, metrics: set[str]) -> str:
    """Return the column of a parameter."""
    return f"{parameter} (parameter)" if parameter in metrics or parameter in RUN_COLUMNS else parameter


def save_csv(table: "DataFrame", path: Path) -> None:
    """Write the whole table. Lists and dicts become JSON. None is "None"; a missing parameter is an empty cell."""

    def cell(value):
        return json.dumps(value) if isinstance(value, (list, dict)) else "None" if value is None else value

    part = path.with_name(path.name + ".part")
    rows = [[cell(value) for value in row] for row in table.to_numpy()]
    type(table)(rows, columns=table.columns, dtype=object).to_csv(part, index=False)
    part.replace(path)


def show_table(table: "DataFrame", results: list[Result], rows: int) -> None:
    """Print the first rows: parameters that vary as columns, the others in a line below."""
    metrics = {name for one in results for name in one.metrics}
    differing = varying(results)
    everywhere = set(results[0].params).intersection(*(one.params for one in results)).difference(differing)
    same = {name: value for name, value in results[0].params.items() if name in everywhere}
    shown = table.head(rows).drop(columns=[column_name(name, metrics) for name in same])
    shown = shown.drop(columns=["job"] * (not any(table["job"])))
    formatters = {"duration": format_duration} | {name: format_metric for name in metrics}
    for name in shown:
        shown[name] = [formatters.get(name, format_value)(cell) for cell in shown[name]]
    print(shown.to_string(index=False))
    if len(table) > rows:
        print(f"... and {len(table) - rows:,} more")
    if same:
        print("\nthe same in all runs: " + ", ".join(f"{name} {format_value(value)}" for name, value in same.items()))


def count(things: list, name: str) -> str:
    """Return how many there are: 1 run, 2 runs."""
    return f"{len(things):,} {name}" + "s" * (len(things) != 1)


def first_few(names: list[str], limit: int = 3) -> str:
    """Return the first names, and how many more there are."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit:,} more" if len(names) > limit else "")


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # make results | head
    main()
