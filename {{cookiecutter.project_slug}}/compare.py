#!/usr/bin/env python3
"""Compares all runs in results/: a table, the best run first, a CSV file and pictures.

    python compare.py                      `make results` does this
    python compare.py --metric loss        by another metric
    python compare.py --job 4711           only the runs of one job

A run is a folder with metrics.json and params.json, both names with values; what else there is may be missing.
"""

import argparse
import json
import signal
import sys
from pathlib import Path

import grid
from sweep import LESS_IS_BETTER, best_first, choose_metric, read_runs, swept, text, text_of_metric, text_of_seconds

CURVES = 5  # how many of the best runs the picture of learning curves shows
OWN_COLUMNS = ["duration", "job", "run"]


def main():
    parser = argparse.ArgumentParser(description="Compare all runs: a table, a CSV file and pictures.")
    parser.add_argument("--metric", help="the metric to compare by; by default accuracy, or else the first")
    parser.add_argument("--rows", type=int, default=20, help="how many runs to print, 20 by default; the file has all")
    parser.add_argument("--job", help="only the runs of this job, an id or a name, with its retries")
    parser.add_argument("--root", type=Path, default="results", help="the folder of the runs, results by default")
    options = parser.parse_args()

    results, unfinished, broken = read_runs(options.root)
    if options.job:
        # all of its pieces and retries, which have ids of their own
        folders = {job.folder.name for job in grid.jobs() if options.job in (*job.ids, job.name)}
        results = [
            one for one in results if one.about.get("submission") in folders or one.about.get("job") == options.job
        ]
    if results:
        try:
            metric = choose_metric(results, options.metric)
            written = compare(best_first(results, metric), metric, options.root, options.rows)
        except (ValueError, OSError) as error:  # there is no such metric; the files cannot be written
            sys.exit(f"{Path(__file__).name}: {error}")
    else:
        whose = f" of job {options.job}" if options.job else ""
        print(f"there are no results{whose} in {options.root}/ yet; make local, or make grid, makes some")
    if unfinished:
        print(f"{len(unfinished)} without metrics, still running or failed: {some(unfinished)}")
    if broken:
        print(f"{len(broken)} that cannot be read: {some(broken)}")
    if results:
        print("\nin " + ", ".join(map(str, written)))


def compare(results, metric, root, rows):
    """Print the table, write the CSV file and the pictures; returns the paths of what was written."""
    from pictures import draw_learning_curves, draw_sweep

    best = "lowest" if LESS_IS_BETTER.search(metric) else "highest"
    print(f"{len(results):,} runs, the {best} {metric} first\n" if len(results) > 1 else "one run\n")
    table = make_table(results, metric)
    show_table(table, results, rows)
    csv, picture, curves = root / "results.csv", root / "sweep.png", root / "learning_curves.png"
    save_csv(table, csv)
    drawn = [
        (picture, draw_sweep(results, metric, picture)),
        (curves, draw_learning_curves(results[:CURVES], swept(results), curves)),
    ]
    for path, done in drawn:
        if not done:  # an older one would show something else
            path.unlink(missing_ok=True)
    return [csv] + [path for path, done in drawn if done]


def make_table(results, metric):
    """A pandas DataFrame with a row for each run: this metric, the others, the parameters, duration in seconds, job, run.

    A parameter that has a metric's name, or a name in OWN_COLUMNS, gets a longer one: "loss (parameter)".
    """
    import pandas

    metrics = {name for one in results for name in one.metrics}
    arrays = {one.about.get("job") for one in results if one.about.get("task") not in (None, "1")}
    rows = []
    for one in results:
        job, task = one.about.get("job"), one.about.get("task")
        row = {f"{name} (metric)" if name in OWN_COLUMNS else name: value for name, value in one.metrics.items()}
        row |= {column(name, metrics): value for name, value in one.params.items()}
        row |= {"duration": one.about.get("duration"), "job": f"{job}.{task}" if job in arrays else job or ""}
        rows.append(row | {"run": one.folder.name})
    names = dict.fromkeys(name for row in rows for name in row if name not in OWN_COLUMNS)
    in_order = sorted(names, key=lambda name: (name != metric, name not in metrics and not name.endswith(" (metric)")))
    rows = [[row.get(name, "") for name in in_order + OWN_COLUMNS] for row in rows]
    return pandas.DataFrame(rows, columns=in_order + OWN_COLUMNS, dtype=object)  # object: ints stay ints beside a gap


def column(parameter, metrics):
    return f"{parameter} (parameter)" if parameter in metrics or parameter in OWN_COLUMNS else parameter


def save_csv(table, path):
    """Write the whole table; lists and dicts as JSON."""
    part = path.with_name(path.name + ".part")
    rows = [[json.dumps(cell) if isinstance(cell, (list, dict)) else cell for cell in row] for row in table.to_numpy()]
    type(table)(rows, columns=table.columns, dtype=object).to_csv(part, index=False)
    part.replace(path)


def show_table(table, results, rows):
    """Print the first rows: the parameters that differ as columns, and the others in a line below."""
    metrics = {name for one in results for name in one.metrics}
    differing = swept(results)
    everywhere = set(results[0].params).intersection(*(one.params for one in results)).difference(differing)
    same = {name: value for name, value in results[0].params.items() if name in everywhere}
    shown = table.head(rows).drop(columns=[column(name, metrics) for name in same])
    shown = shown.drop(columns=["job"] * (not any(table["job"])))
    ways = {"duration": text_of_seconds} | {name: text_of_metric for name in metrics}
    for name in shown:
        shown[name] = [ways.get(name, text)(cell) for cell in shown[name]]
    print(shown.to_string(index=False))
    if len(table) > rows:
        print(f"... and {len(table) - rows:,} more")
    if same:
        print("\nthe same in all: " + ", ".join(f"{name} {text(value)}" for name, value in same.items()))


def some(names, most=3):
    """The first few of some names."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # make results | head
    main()
