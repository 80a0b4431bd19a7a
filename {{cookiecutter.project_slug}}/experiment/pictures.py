"""Plots of many runs: how a metric depends on the parameters, and the learning curves of the best runs."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiment.sweep import LESS_IS_BETTER, Result, as_float, comparison_key, describe, format_value, varying

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

# Runs that differ only in a parameter with such a name are repetitions: shown as mean and standard deviation.
REPETITION = re.compile(r"(^|_)(seed|random_state|repeat|repetition|fold)$", re.IGNORECASE)


def draw_sweep(results: list[Result], metric: str, path: Path) -> bool:
    """Draw how a metric depends on the parameters that vary. Their number and their values decide the kind of plot.

    One parameter: a line. Two or three with few values in all combinations: lines and panels, or a map. Others: a panel
    for each parameter, over all values of the others. Returns whether there was something to draw.
    """
    import pandas
    from matplotlib.figure import Figure

    finite = [one for one in results if math.isfinite(as_float(one.metrics.get(metric)))]
    left_out, results = len(results) - len(finite), finite
    names = varying(results)
    names = [name for name in names if not REPETITION.search(name)] or names
    # numbers with the most values go along the x axis, the next become lines, then panels
    scales = [Scale(name, results) for name in names]
    scales.sort(key=lambda scale: (not scale.numeric, -len(scale)))
    if not scales:
        return False
    rows = [[as_float(one.metrics[metric]), *(scale.rank(one) for scale in scales)] for one in results]
    runs = pandas.DataFrame(rows, columns=["metric", *range(len(scales))], dtype=float)
    combinations = runs.dropna().groupby(list(range(len(scales)))).ngroups
    complete = combinations > 0.5 * math.prod(map(len, scales)) and not runs.isna().any(axis=None)
    few = all(len(scale) <= most for scale, most in zip(scales[1:], (6, 6)))
    figure = Figure(layout="constrained")
    if len(scales) == 1 or len(scales) <= 3 and complete and few and scales[0].numeric:
        draw_lines(figure, runs, scales, metric)
    elif len(scales) == 2 and complete:
        draw_map(figure, runs, scales, metric)
    else:
        draw_panels(figure, runs, scales, metric)
    gap = f" (not shown: {left_out:,} runs without it)" if left_out else ""
    figure.suptitle(f"{label(metric)} of {len(results):,} runs{gap}")
    save_picture(figure, path)
    return True


def draw_lines(figure: "Figure", runs: "DataFrame", scales: list["Scale"], metric: str) -> None:
    """Draw the first parameter along the x axis, a line for each value of the second, a panel for each of the third."""
    x = scales[0]
    lines = scales[1] if len(scales) > 1 else None
    panels = scales[2] if len(scales) > 2 else None
    number_of_panels = len(panels) if panels else 1
    figure.set_size_inches(max(6.4, 0.6 + 3.4 * number_of_panels), 4.4)
    repeated = False
    for panel, axes in enumerate(figure.subplots(1, number_of_panels, sharey=True, squeeze=False)[0]):
        here = runs[runs[2] == panel] if panels else runs
        for line, color in enumerate(sample_colors(len(lines)) if lines else ["C0"]):
            these = here[here[1] == line] if lines else here
            groups = these.groupby(0)["metric"].agg(["mean", "std", "count"])
            several = (groups["count"] > 1).any()
            repeated |= several
            if several:
                axes.plot([x.position(rank) for rank in these[0]], these["metric"], ".", color=color, alpha=0.3, ms=5)
            axes.errorbar(
                [x.position(rank) for rank in groups.index],
                groups["mean"],
                yerr=groups["std"].fillna(0) if several else None,
                marker="o",
                linestyle="-" if x.numeric else "none",
                capsize=3,
                color=color,
                label=lines and lines.labels[line],
            )
        x.draw(axes.xaxis)
        draw_metric(axes, runs["metric"], metric if panel == 0 else "")
        if panels:
            axes.set_title(f"{label(panels.name)} {panels.labels[panel]}", fontsize="medium")
    if lines:
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, title=label(lines.name), loc="outside right upper")
    if repeated:
        figure.supxlabel("mean and standard deviation of repeated runs", fontsize="small")


def draw_map(figure: "Figure", runs: "DataFrame", scales: list["Scale"], metric: str) -> None:
    """Draw one parameter across and one up, the metric as a colour, and as a number if there is room."""
    means = runs.groupby([1, 0])["metric"].mean().unstack()
    means = means.reindex(index=range(len(scales[1])), columns=range(len(scales[0])))
    figure.set_size_inches(min(16, 3 + 0.75 * len(scales[0])), min(12, 2 + 0.5 * len(scales[1])))
    axes = figure.subplots()
    reverse = "_r" if LESS_IS_BETTER.search(metric) else ""  # the best is bright
    norm = "log" if spans_decades(runs["metric"]) else "linear"
    image = axes.imshow(means, cmap=f"viridis{reverse}", norm=norm, origin="lower", aspect="auto")
    figure.colorbar(image, label=label(metric))
    if means.size <= 200:
        for (row, column), value in means.stack().dropna().items():
            red, green, blue, _ = image.cmap(image.norm(value))
            color = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
            words = f"{value:.3f}" if 0.01 <= abs(value) < 100 else f"{value:.2g}"
            axes.text(column, row, words, ha="center", va="center", color=color, fontsize="small")
    scales[0].draw(axes.xaxis, side_by_side=True)
    scales[1].draw(axes.yaxis, side_by_side=True)


def draw_panels(figure: "Figure", runs: "DataFrame", scales: list["Scale"], metric: str) -> None:
    """Draw a panel for each parameter: all runs, and the best and the mean at each of its values."""

    def effect(i):
        return runs.groupby(i)["metric"].mean().std() if len(runs) > 2 * len(scales[i]) else 0

    shown = sorted(range(len(scales)), key=effect, reverse=True)[:9]  # those with the largest effect first
    columns = min(3, len(shown))
    height = math.ceil(len(shown) / columns)
    figure.set_size_inches(4.2 * columns, 0.6 + 3.2 * height)
    grid = figure.subplots(height, columns, sharey=True, squeeze=False).flat
    best = "min" if LESS_IS_BETTER.search(metric) else "max"
    for panel, (i, axes) in enumerate(zip(shown, grid)):
        known = runs.dropna(subset=[i])
        positions = [scales[i].position(rank) for rank in known[i]]
        faint = {"alpha": max(0.1, min(0.6, 60 / len(runs))), "ms": 6 if len(runs) < 100 else 4}
        axes.plot(positions, known["metric"], "o", color="C0", mew=0, **faint)
        groups = known.groupby(i)["metric"].agg([best, "mean", "count"])
        if groups["count"].mean() >= 2:
            along = [scales[i].position(rank) for rank in groups.index]
            line = "-" if scales[i].numeric else "none"
            axes.plot(along, groups[best], color="C2", marker="^", ms=5, linestyle=line, label="best")
            axes.plot(along, groups["mean"], color="C1", marker="s", ms=5, linestyle=line, label="mean")
            if not figure.legends:
                figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
        scales[i].draw(axes.xaxis)
        draw_metric(axes, runs["metric"], metric if panel % columns == 0 else "")
    for axes in grid:
        axes.set_visible(False)


def draw_metric(axes: "Axes", values: "Series", metric: str) -> None:
    """Set up the y axis for a metric."""
    axes.set_yscale("log" if spans_decades(values) else "linear")
    axes.set_ylabel(label(metric))
    axes.grid(alpha=0.3)


def spans_decades(values: "Series") -> bool:
    """Return whether values need a logarithmic axis."""
    return values.min() > 0 and values.max() > 100 * values.min()


def draw_learning_curves(results: list[Result], names: list[str], path: Path) -> bool:
    """Draw the metrics of each epoch: a panel for each metric, a colour for each run, a solid line for the last set.

    Args:
        results: the runs to draw.
        names: the parameters that tell them apart, for the legend.
        path: the picture to write.

    Returns whether there was something to draw.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    histories = []
    for one in results:
        try:
            epochs = json.loads((one.folder / "history.json").read_text(encoding="utf-8"))
            curves: dict[str, dict[str, list[float]]] = {}  # by metric and set
            for epoch in epochs:
                for name, values in epoch.items():
                    for metric, value in values.items():
                        curves.setdefault(metric, {}).setdefault(name, []).append(as_float(value))
            histories += [(one, curves)] if curves else []
        except (OSError, ValueError, AttributeError, TypeError):
            pass  # this run has no history, or one of another form
    if not histories:
        return False
    metrics = list(dict.fromkeys(metric for _, curves in histories for metric in curves))
    sets = list(dict.fromkeys(name for _, curves in histories for names in curves.values() for name in names))
    figure = Figure(figsize=(max(6, 4.5 * len(metrics)), 3.6 + 0.25 * len(histories)), layout="constrained")
    for metric, axes in zip(metrics, figure.subplots(1, len(metrics), squeeze=False)[0]):
        for i, (_, curves) in enumerate(histories):
            for name, values in curves.get(metric, {}).items():
                main = name == sets[-1]
                style = {"linestyle": "-", "linewidth": 1.8} if main else {"linestyle": ":", "linewidth": 1}
                values = [value if math.isfinite(value) else math.nan for value in values]
                style["marker"] = "o" if len(values) == 1 else ""
                axes.plot(range(1, len(values) + 1), values, color=f"C{i}", **style)
        axes.set(xlabel="epoch", ylabel=label(metric))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        styles = [Line2D([], [], color="gray", linestyle="-" if name == sets[-1] else ":") for name in sets]
        axes.legend(styles, map(label, sets))
    lines = [Line2D([], [], color=f"C{i}") for i in range(len(histories))]
    texts = [(describe(one, names) or one.folder.name).replace("$", r"\$") for one, _ in histories]
    figure.legend(lines, texts, loc="outside lower center", title="the best runs")
    save_picture(figure, path)
    return True


def save_picture(figure: "Figure", path: Path) -> None:
    """Write a picture in one step: nobody sees half of it."""
    part = path.with_name(path.name + ".part")
    figure.savefig(part, dpi=150, format="png")
    part.replace(path)


class Scale:
    """The axis of a parameter: numbers stand at their value, all else side by side.

    Attributes:
        name: of the parameter.
        numeric: whether all values are finite numbers.
        order: the comparison keys of the different values, in order; of numbers the values themselves.
        labels: a text for each.
    """

    def __init__(self, name: str, results: list[Result]) -> None:
        values = {comparison_key(one.params[name]): one.params[name] for one in results if name in one.params}
        self.name = name
        self.numeric = all(math.isfinite(as_float(value)) for value in values.values())
        self.order = sorted(
            values, key=lambda key: key if self.numeric else natural_sort_key(format_value(values[key], 1000))
        )
        self.ranks = {key: rank for rank, key in enumerate(self.order)}
        self.labels = [label(values[key]) for key in self.order]

    def __len__(self) -> int:
        return len(self.order)

    def rank(self, result: Result) -> float:
        """Return the rank of a run's value among all values, from 0; nan if the run has none."""
        return self.ranks[comparison_key(result.params[self.name])] if self.name in result.params else math.nan

    def position(self, rank: float) -> Any:
        """Return where on the axis the value of a rank stands."""
        return self.order[int(rank)] if self.numeric else rank

    def kind(self) -> str:
        """Return "log" for numbers that span decades (0.001, 0.01, 0.1), "symlog" if one is 0, else "linear"."""
        import numpy

        numbers: list[Any] = [key for key in self.order if key != 0] if self.numeric else []
        if len(numbers) < 2 or numbers[0] < 0 or numbers[-1] < 8 * numbers[0]:
            return "linear"
        steps, ratios = numpy.diff(numbers), numpy.diff(numpy.log(numbers))
        even = steps.std() / steps.mean() < ratios.std() / ratios.mean()
        return "linear" if even else "log" if len(numbers) == len(self) else "symlog"

    def draw(self, axis: "Axis", side_by_side: bool = False) -> None:
        """Set up an axis: its scale, its name, and ticks at the values if there are few."""
        side_by_side = side_by_side or not self.numeric
        positions: Any = range(len(self)) if side_by_side else self.order
        kind = "linear" if side_by_side else self.kind()
        set_scale = axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale
        set_scale(kind, **({"linthresh": positions[1], "linscale": 0.5} if kind == "symlog" else {}))
        if side_by_side or len(self) <= 8:
            shown = self.labels if side_by_side else without_overlaps(self.labels, positions, kind)
            step = math.ceil(len(self) / 24)
            axis.set_ticks(positions[::step], shown[::step])
            axis.set_ticks([], minor=True)
            if axis.axis_name == "x" and sum(map(len, shown[::step])) > 40:
                for tick in axis.get_ticklabels():
                    tick.set(rotation=30, ha="right", rotation_mode="anchor")
        if side_by_side and axis.axis_name == "x":
            axis.axes.set_xlim(-0.5, len(self) - 0.5)
        axis.set_label_text(label(self.name))


def without_overlaps(labels: list[str], positions: Sequence[float], kind: str) -> list[str]:
    """Return the labels of rising numbers, empty where one would run into the one before."""
    if kind != "linear":
        positions = [math.log(position) if position else -math.inf for position in positions]
    least = 0.09 * (positions[-1] - next(position for position in positions if math.isfinite(position)))
    shown, last = [], -math.inf
    for text, position in zip(labels, positions):
        fits = not math.isfinite(last) or position - last >= least
        shown.append(text if fits else "")
        last = position if fits else last
    return shown


def natural_sort_key(text: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts texts by the numbers in them: [32] before [128]."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text)
    return [(part.isdecimal(), len(part) if part.isdecimal() else 0, part) for part in parts]


def label(value: Any) -> str:
    """Return a value as text for matplotlib, where $ would begin a formula."""
    return (f"{value:.4g}" if isinstance(value, float) else format_value(value, 24)).replace("$", r"\$")


def sample_colors(count: int) -> list[tuple]:
    """Return that many colours, from dark to light."""
    from matplotlib import colormaps

    return [colormaps["viridis"](0.9 * i / max(1, count - 1)) for i in range(count)]
