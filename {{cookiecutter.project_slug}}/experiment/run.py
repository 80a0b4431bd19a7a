"""One run: its folder in results/, its progress, its plots. For many runs see sweep.py.

run = Run(parameters={"learning_rate": 0.1})    # a new folder in results/
progress = Progress(epochs=30)                  # a bar in a terminal, lines in a log file
for epoch in progress:
    ...
    progress.report(training={"loss": 0.2, "accuracy": 0.91}, validation={"loss": 0.3, "accuracy": 0.88})
run.plot_learning_curve(progress.history)
run.finish({"accuracy": 0.9})                   # call this last: a folder with metrics.json is a finished run
"""

import json
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from tqdm import tqdm

# The metrics of one epoch by set: {"training": {"loss": 0.2}, "validation": {"loss": 0.3}}
Epoch = dict[str, dict[str, Any]]


class Run:
    """The folder of one run, in results/ of the current folder.

    params.json               the parameters
    run.json                  when, where and for how long it ran, and as which job
    history.json              the metrics of each epoch
    learning_curve.png        a plot of the history
    confusion_matrix.png      a plot of the predictions
    model.joblib              the trained model; load it with joblib.load
    metrics.json              the final metrics; written last
    """

    folders: list[Path] = []  # of all runs of this process, in order

    def __init__(self, parameters: dict[str, Any], root: str | Path = "results") -> None:
        self.began = time.monotonic()
        self.metadata: dict[str, Any] = {
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
            "duration": None,  # in seconds
            "host": socket.gethostname(),
            "job": os.environ.get("GRID_JOB_ID"),
            "task": os.environ.get("GRID_TASK"),
            "submission": job_folder(),
        }
        job, task = self.metadata["job"], self.metadata["task"]
        self.folder = new_folder(Path(root), time.strftime("%Y%m%d-%H%M%S"), job, task)
        self.folders.append(self.folder)
        self.write("params.json", parameters)
        self.write("run.json", self.metadata)

    def save_model(self, model: object) -> None:
        """Save any Python object that can be pickled."""
        import joblib  # only needed here: your project may save its model in another way

        joblib.dump(model, self.folder / "model.joblib")

    def plot_learning_curve(self, history: list[Epoch]) -> None:
        """Draw one panel for each metric (loss, accuracy) with one line for each set (training, validation)."""
        self.write("history.json", history)
        metrics = list(next(iter(history[0].values())))
        figure = Figure(figsize=(4.5 * len(metrics), 3.5), layout="constrained")
        epochs = range(1, len(history) + 1)
        for metric, axes in zip(metrics, figure.subplots(1, len(metrics), squeeze=False)[0]):
            for name in history[0]:
                values = [sets[name][metric] for sets in history]
                axes.plot(epochs, values, label=name, marker="o" if len(history) == 1 else None)
            axes.set(xlabel="epoch", ylabel=metric)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.3)
            axes.legend()
        figure.savefig(self.folder / "learning_curve.png", dpi=150)

    def plot_confusion_matrix(self, true: Sequence, predicted: Sequence) -> None:
        """Draw how often each true class (rows) was predicted as each class (columns)."""
        labels = numpy.union1d(true, predicted)
        counts = numpy.zeros((len(labels), len(labels)), int)
        numpy.add.at(counts, (numpy.searchsorted(labels, true), numpy.searchsorted(labels, predicted)), 1)
        size = min(max(4, len(labels) / 2), 20)
        figure = Figure(figsize=(size, size), layout="constrained")
        axes = figure.subplots()
        shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
        axes.imshow(shares**0.5, cmap="Blues", vmin=0, vmax=1)  # the root makes a single mistake visible
        for (row, column), count in numpy.ndenumerate(counts):
            if count:
                color = "white" if shares[row, column] > 0.4 else "black"
                axes.text(column, row, count, ha="center", va="center", color=color)
        axes.set(xlabel="predicted", ylabel="true", xticks=range(len(labels)), yticks=range(len(labels)))
        correct, total = counts.trace(), counts.sum()
        title = f"accuracy {100 * correct / max(1, total):.1f} % ({correct}/{total})"
        axes.set(xticklabels=labels, yticklabels=labels, title=title)
        figure.savefig(self.folder / "confusion_matrix.png", dpi=150)

    def finish(self, metrics: dict[str, Any]) -> None:
        """Save the final metrics; print them and the folder."""
        self.metadata["duration"] = round(time.monotonic() - self.began, 3)
        self.write("run.json", self.metadata)
        self.write("metrics.json", metrics)
        print(format_metrics(metrics, ", "))
        print(f"results in {self.folder}", flush=True)

    def write(self, name: str, value: object) -> None:
        """Write a JSON file in one step: no reader and no crash ever leaves half of it."""
        text = json.dumps(value, indent=2, ensure_ascii=False, default=json_default)
        part = self.folder / f"{name}.part"
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(self.folder / name)


class Progress:
    """Counts the epochs and shows the metrics of each: a bar in a terminal, plain lines in a log file."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.history: list[Epoch] = []

    def __iter__(self) -> Iterator[int]:
        self.printed = time.monotonic()
        bar = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
        # disable=None: no bar if standard error is no terminal; leave=None: none stays below the bar of a sweep
        with tqdm(range(1, self.epochs + 1), desc="epoch", bar_format=bar, disable=None, leave=None) as self.bar:
            yield from self.bar

    def report(self, **sets: dict[str, Any]) -> None:
        """Keep and show the metrics of an epoch: report(training={"loss": 0.2}, validation={"loss": 0.3})."""
        # plain numbers: a tensor would stay on its GPU, and cannot be drawn
        self.history.append(
            {name: {metric: plain(value) for metric, value in metrics.items()} for name, metrics in sets.items()}
        )
        texts = [f"{name} {format_metrics(metrics)}" for name, metrics in sets.items()]
        if not self.bar.disable:
            self.bar.set_postfix_str(texts[-1], refresh=False)
            return
        # a line for each tenth of the epochs, and after ten seconds without one
        epoch, now = len(self.history), time.monotonic()
        if epoch % max(1, self.epochs // 10) == 0 or epoch == self.epochs or now - self.printed > 10:
            print(f"epoch {epoch:>{len(str(self.epochs))}}/{self.epochs}:", ", ".join(texts), flush=True)
            self.printed = now


def format_metrics(metrics: dict[str, Any], separator: str = " ") -> str:
    """Return metrics as text: accuracy 0.9778 loss 0.0832."""
    plain_metrics = {name: plain(value) for name, value in metrics.items()}
    return separator.join(
        f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in plain_metrics.items()
    )


def plain(value: Any) -> Any:
    """Return a number or an array of numpy or torch as Python's own number or list, and all else unchanged."""
    return value.tolist() if hasattr(value, "tolist") else value


def json_default(value: Any) -> Any:
    """Return what JSON can hold of a value that it cannot hold itself: a number, a list, or else a text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def new_folder(root: Path, stem: str, job: str | None = None, task: str | None = None) -> Path:
    """Make and return a new folder. Processes that call this in the same second each get their own.

    Job and task become part of its name: so a thousand tasks that start at once do not all try the same name.
    """
    root.mkdir(exist_ok=True)
    if job:
        stem += "-" + re.sub(r"[^A-Za-z0-9_.]+", "_", f"{job}.{task}" if task else job)
    number = 1
    while True:
        folder = root / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1


def job_folder() -> str | None:
    """Return the name of this job's folder in .grid/, or None outside of a job."""
    return os.path.basename(os.environ.get("GRID_FOLDER", "")) or None
