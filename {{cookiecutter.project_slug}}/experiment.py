"""What surrounds a run: its folder, progress while it trains, pictures of what came out. Of many runs: see sweep.py.

run = Run(parameters={"learning_rate": 0.1})    # a new folder in results/
progress = Progress(epochs=30)                  # a bar in a terminal, lines in a log file
for epoch in progress:
    ...
    progress.report(training={"loss": 0.2, "accuracy": 0.91}, validation={"loss": 0.3, "accuracy": 0.88})
run.plot_learning_curve(progress.history)
run.finish({"accuracy": 0.9})                   # the last thing: a folder with metrics.json is a finished run
"""

import json
import os
import re
import socket
import time
from datetime import datetime
from pathlib import Path

import numpy
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from tqdm import tqdm


class Run:
    """One run's folder in results/ of the current folder.

    params.json               the parameters
    run.json                  when and where it ran, how long, and as which job
    history.json              what was reported after each epoch
    learning_curve.png        a picture of that
    confusion_matrix.png      a picture of what was taken for what
    model.joblib              the trained model; joblib.load reads it
    metrics.json              how well it does; written last
    """

    folders = []  # of all runs of this process, in their order

    def __init__(self, parameters, root="results"):
        self.began = time.monotonic()
        self.about = {
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
            "duration": None,  # in seconds
            "host": socket.gethostname(),
            "job": os.environ.get("GRID_JOB_ID"),
            "task": os.environ.get("GRID_TASK"),
            "submission": submission(),  # the job's folder in .grid/
        }
        self.folder = new_folder(Path(root), time.strftime("%Y%m%d-%H%M%S"), self.about["job"], self.about["task"])
        self.folders.append(self.folder)
        self.write("params.json", parameters)
        self.write("run.json", self.about)

    def save_model(self, model):
        """Save any Python object that can be pickled."""
        import joblib  # only needed here: a project may save its model in another way

        joblib.dump(model, self.folder / "model.joblib")

    def plot_learning_curve(self, history):
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

    def plot_confusion_matrix(self, truth, answers):
        """Draw how often each class (down) was taken for each class (across)."""
        labels = numpy.union1d(truth, answers)
        counts = numpy.zeros((len(labels), len(labels)), int)
        numpy.add.at(counts, (numpy.searchsorted(labels, truth), numpy.searchsorted(labels, answers)), 1)
        size = min(max(4, len(labels) / 2), 20)
        figure = Figure(figsize=(size, size), layout="constrained")
        axes = figure.subplots()
        shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
        axes.imshow(shares**0.5, cmap="Blues", vmin=0, vmax=1)  # the root makes a single mistake visible
        for (row, column), count in numpy.ndenumerate(counts):
            if count:
                color = "white" if shares[row, column] > 0.4 else "black"
                axes.text(column, row, count, ha="center", va="center", color=color)
        axes.set(xlabel="answer", ylabel="truth", xticks=range(len(labels)), yticks=range(len(labels)))
        axes.set(xticklabels=labels, yticklabels=labels, title=f"{counts.trace()} of {counts.sum()} right")
        figure.savefig(self.folder / "confusion_matrix.png", dpi=150)

    def finish(self, metrics):
        """Save the metrics, and print them and where the folder is."""
        self.about["duration"] = round(time.monotonic() - self.began, 3)
        self.write("run.json", self.about)
        self.write("metrics.json", metrics)
        print(in_words(metrics, ", "))
        print(f"results in {self.folder}", flush=True)

    def write(self, name, value):
        """Write a JSON file so that a reader, or a crash, never sees half of it."""
        text = json.dumps(value, indent=2, ensure_ascii=False, default=plain)
        part = self.folder / f"{name}.part"
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(self.folder / name)


class Progress:
    """Counts the epochs and shows what was reported after each: a bar in a terminal, plain lines in a log file."""

    def __init__(self, epochs):
        self.epochs = epochs
        self.history = []

    def __iter__(self):
        self.printed = time.monotonic()
        bar = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
        # disable=None: no bar where standard error is no terminal; leave=None: none stays behind below the bar of a sweep
        with tqdm(range(1, self.epochs + 1), desc="epoch", bar_format=bar, disable=None, leave=None) as self.bar:
            yield from self.bar

    def report(self, **sets):
        """Keep and show the metrics of an epoch: report(training={"loss": 0.2}, validation={"loss": 0.3})."""
        self.history.append(sets)
        texts = [f"{name} {in_words(metrics)}" for name, metrics in sets.items()]
        if not self.bar.disable:
            self.bar.set_postfix_str(texts[-1], refresh=False)
            return
        # a line for each tenth of the epochs, and whenever there was none for ten seconds
        epoch, now = len(self.history), time.monotonic()
        if epoch % max(1, self.epochs // 10) == 0 or epoch == self.epochs or now - self.printed > 10:
            print(f"epoch {epoch:>{len(str(self.epochs))}}/{self.epochs}:", ", ".join(texts), flush=True)
            self.printed = now


def in_words(metrics, between=" "):
    """Metrics as text: accuracy 0.9778 loss 0.0832."""
    return between.join(
        f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}" for name, value in metrics.items()
    )


def new_folder(root, stem, job=None, task=None):
    """Make and return a folder that did not exist before, also if other processes make theirs in the same second.

    Job and task are part of its name, so that a thousand tasks that begin at once need not all try the same one.
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


def submission():
    """The name of the folder in .grid/ of the job that this process is; None if it is none."""
    record = os.environ.get("GRID_RECORD")  # the path FOLDER/records/TASK.ATTEMPT.running
    return Path(record).parent.parent.name if record else None


def plain(value):
    """What JSON can hold of a value that it cannot: a number or a list of numpy's as Python's, all else as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
