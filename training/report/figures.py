"""Pictures of a training run and of a network, drawn by matplotlib: the one place that knows it."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox, ScaledTranslation, Transform

from cnn_perception.intervals import Estimate
from cnn_perception.metrics import Counts
from training.graphs.layers import Layer, totals
from training.loop.run import EpochRecord
from training.run_files import replacing
from training.scoring.scores import ScoredLogits
from training.tasks.by_name import METRIC_TITLES
from training.tasks.scaling import in_units

NumberRows = npt.NDArray[np.float64]

MOST_NAMED = 150
"""Classes beyond which a bar has no room for its name."""
NUMBERED = 25
"""Classes up to which the cells of a confusion matrix carry their counts; beyond, they are too small to read."""

_SAME_TIME = 0.03
"""Logarithms of times nearer than this are drawn as of one time: intervals on each other cannot be told apart."""
_APART_PT = 9.0
_RISES_PT = (0, *(sign * step for step in range(12, 120, 12) for sign in (1, -1)))
"""How far above or below its point a name may stand, the nearest first."""


@dataclass(frozen=True)
class Curve:
    """Positive values over places.

    Attributes:
        name: In the legend.
        x: Places, ascending.
        y: Values, as many; 0 and infinity are marked at the lower and the upper edge, NaN at the upper one.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Plot:
    """Curves on a logarithmic axis.

    Attributes:
        title: Written above.
        x_label: Of the places.
        y_label: Of the values.
        curves: From the first colour on.
        level: A value that is drawn as a line; None draws none.
        places: Places that are marked from top to bottom.
    """

    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    level: float | None = None
    places: tuple[float, ...] = ()


@dataclass(frozen=True)
class Point:
    """A way to answer as a point of a picture.

    Attributes:
        name: Written beside it.
        latency_ms: Of an image, above 0.
        score: How good it is, with its interval.
        on_front: Whether no other one is both as good and as fast.
        chosen: Whether it was taken.
    """

    name: str
    latency_ms: float
    score: Estimate
    on_front: bool
    chosen: bool


def _metric_title(name: str) -> str:
    """What a figure is called; where teachers labelled the images, it is no accuracy."""
    return METRIC_TITLES.get(name, f"agreement with the teacher ({name.removeprefix('agreement_')})")


def learning_curves(history: Sequence[EpochRecord], path: Path) -> None:
    """Draws loss and metric on training and validation images over the epochs, with the phases marked."""
    epochs = [record.epoch for record in history]
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    titles = ("loss", _metric_title(history[0].metric) if history else "")
    for axis, measure, title in zip(axes, ("loss", "metric"), titles, strict=True):
        for part in ("train", "val"):
            axis.plot(epochs, [getattr(record, f"{part}_{measure}") for record in history], label=part, marker=".")
        for before, after in itertools.pairwise(history):
            if before.phase != after.phase:
                axis.axvline(after.epoch - 0.5, color="grey", linestyle=":")
                axis.text(after.epoch - 0.4, 0.02, after.phase, color="grey", transform=axis.get_xaxis_transform())
        axis.set(title=title, xlabel="iteration" if history and history[0].phase == "probe" else "epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        axis.legend()
    _write(figure, path)


def confusion_matrix(confusion: Counts, class_names: Sequence[str], path: Path) -> None:
    """Draws a (K, K) confusion matrix; a row is shaded by the share of its class that went to each column."""
    size = float(np.clip(0.45 * len(class_names), 4, 24))
    figure = Figure(figsize=(size + 1.5, size + 1), layout="constrained")
    axis = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    ticks = range(len(class_names))
    names = [_plain(name) for name in class_names]
    axis.set_xticks(ticks, names, rotation=90)
    axis.set_yticks(ticks, names)
    axis.set(xlabel="predicted", ylabel="true")
    if len(class_names) <= NUMBERED:
        for row, column in np.argwhere(confusion > 0):
            color = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, str(confusion[row, column]), ha="center", va="center", color=color)
    _write(figure, path)


def numbers(answers: ScoredLogits, path: Path) -> None:
    """Draws what a network answers over what is true, a picture for each number."""
    truth = in_units(answers.truth, answers.meaning.scaling)
    found = in_units(answers.logits, answers.meaning.scaling)
    names = answers.meaning.class_names
    units = answers.meaning.units
    figure = Figure(figsize=(4 * len(names), 4), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for column, (axis, name, unit) in enumerate(zip(axes, names, units, strict=True)):
        axis.plot(truth[:, column], found[:, column], ".", alpha=0.5)
        axis.axline((float(truth[:, column].mean()),) * 2, slope=1, color="grey", linestyle=":")
        label = f"{name} [{unit}]" if unit else name
        axis.set(xlabel=f"true {label}".replace("$", r"\$"), ylabel="answered")
        axis.grid(alpha=0.3)
    _write(figure, path)


def class_balance(counts: Mapping[str, Sequence[int]], class_names: Sequence[str]) -> bytes:
    """Draws how many images of each class each part has, as PNG."""
    places = np.arange(len(class_names))
    figure = Figure(figsize=(9, float(np.clip(0.28 * len(class_names) + 1.2, 2, 40))), layout="constrained")
    axis = figure.subplots()
    left = np.zeros(len(class_names))
    for part, values in counts.items():
        axis.barh(places, values, left=left, label=part)
        left += values
    if len(class_names) <= MOST_NAMED:
        axis.set_yticks(places, [_plain(name) for name in class_names])
    axis.invert_yaxis()
    axis.set(xlabel="images")
    axis.grid(axis="x", alpha=0.3)
    axis.legend()
    return _png(figure)


def number_spread(values: Mapping[str, NumberRows], names: Sequence[str], units: Sequence[str]) -> bytes:
    """Draws how the numbers (n, K) of each part's images are spread, a picture for each number, as PNG."""
    figure = Figure(figsize=(4 * len(names), 3), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for column, (axis, name, unit) in enumerate(zip(axes, names, units, strict=True)):
        edges = np.histogram_bin_edges(np.concatenate([rows[:, column] for rows in values.values()]), 30)
        for part, rows in values.items():
            axis.hist(rows[:, column], edges, density=True, histtype="step", label=part)
        axis.set(xlabel=_plain(f"{name} [{unit}]" if unit else name), ylabel="density")
        axis.grid(alpha=0.3)
        axis.legend()
    return _png(figure)


def shares_of_units(shares: Mapping[str, npt.NDArray[np.floating[Any]]]) -> bytes:
    """Draws how often the units of some layers are on, as PNG: the 5th, 25th, 50th, 75th and 95th percentile.

    Args:
        shares: (C,) share of the cells in which each unit is above zero, by the layer's name.
    """
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    axis = figure.subplots()
    axis.boxplot(list(shares.values()), showfliers=False, whis=(5, 95))
    axis.set_xticks(range(1, len(shares) + 1), list(map(_plain, shares)))
    axis.set(ylabel="share of cells above zero", ylim=(0, 1), title="how often units are on: 5 to 95 % of them")
    axis.grid(alpha=0.3, axis="y")
    return _png(figure)


def _plain(name: str) -> str:
    """A name as matplotlib shows it unchanged: it reads $...$ as a formula, which a name may contain by chance."""
    return name.replace("$", r"\$").encode(errors="replace").decode()


def learning_rates(rates: Sequence[float], losses: Sequence[float], suggested: float | None, path: Path) -> None:
    """Draws the smoothed loss over the learning rate, with the one that is suggested marked."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    axis.plot(rates, losses)
    if suggested is not None:
        axis.axvline(suggested, color="grey", linestyle=":", label=f"steepest at {suggested:.1e}")
        axis.legend()
    axis.set(xscale="log", title="training loss while the rate rises", xlabel="learning rate of the head")
    axis.grid(alpha=0.3)
    _write(figure, path)


def plots(grid: Sequence[Sequence[Plot]], path: Path) -> None:
    """Draws rows of plots, all with the same vertical axis, logarithmic, and one legend."""
    columns = len(grid[0])
    figure = Figure(figsize=(3.1 * columns + 0.4, 2.5 * len(grid) + 0.5), dpi=80, layout="constrained")
    axes = figure.subplots(len(grid), columns, squeeze=False, sharey=True)
    for axis, plot in zip(axes.flat, itertools.chain.from_iterable(grid), strict=True):
        for number, curve in enumerate(plot.curves):
            _draw_curve(axis, curve, f"C{number}")
        if plot.level is not None:
            axis.axhline(plot.level, color="black", linewidth=0.8)
        for place in plot.places:
            axis.axvline(place, color="grey", linestyle=":")
        axis.set(title=plot.title, xlabel=plot.x_label)
        axis.grid(alpha=0.3)
    for row, row_plots in zip(axes, grid, strict=True):
        row[0].set(ylabel=row_plots[0].y_label, yscale="log")
    named = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
    names = list(dict.fromkeys(curve.name for row in grid for plot in row for curve in plot.curves))
    figure.legend([named[name] for name in names], names, loc="outside lower center", ncols=min(len(names), 6))
    _write(figure, path)


def _draw_curve(axis: Axes, curve: Curve, color: str) -> None:
    shown = [value if 0 < value < math.inf else math.nan for value in curve.y]
    axis.plot(curve.x, shown, marker=".", markersize=4, linewidth=1, color=color, label=curve.name)
    zeros = [x for x, y in zip(curve.x, curve.y, strict=True) if y == 0]
    beyond = [x for x, y in zip(curve.x, curve.y, strict=True) if not y < math.inf]
    for places, height, marker in ((zeros, 0.03, "x"), (beyond, 0.97, "^")):
        axis.scatter(
            places, [height] * len(places), s=16, color=color, marker=marker, transform=axis.get_xaxis_transform()
        )


def layers(table: Sequence[Layer], title: str, path: Path) -> None:
    """Draws parameters, multiply-adds and receptive field of each layer as bars, from the first down to the last."""
    places = range(len(table))
    figure = Figure(figsize=(14, min(max(0.18 * len(table) + 1.5, 4), 60)), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    sums = totals(table)
    axes[0].barh(places, [layer.parameters for layer in table], color="tab:blue")
    axes[0].set(title=f"parameters: {sums['parameters']:,}")
    axes[1].barh(places, [layer.multiply_adds for layer in table], color="tab:orange")
    axes[1].set(title=f"multiply-adds: {sums['multiply_adds']:,}")
    seen = [max(layer.geometry.receptive_field) if layer.geometry else 0 for layer in table]
    axes[2].barh(places, seen, color="tab:green")
    axes[2].set(title="receptive field, pixels (none: the whole image)")
    axes[0].set_yticks(places, [layer.name for layer in table], fontsize=7)
    axes[0].invert_yaxis()
    for axis in axes:
        axis.grid(axis="x", alpha=0.3)
        axis.margins(y=0.01)
    figure.suptitle(title)
    _write(figure, path)


def accuracy_over_latency(points: Sequence[Point], metric: str, limit_ms: float | None, path: Path) -> None:
    """Draws how good each point is over the time that it takes, the front as steps, and a limit of the time.

    Intervals of points that take the same time stand beside each other, and no name lies on another one, on a point or
    on an interval, as far as there is room.

    Args:
        points: At least one.
        metric: What the score is.
        limit_ms: The longest time that was allowed; None for none.
        path: The .png file.
    """
    _write(_over_latency(points, metric, limit_ms), path)


def _over_latency(points: Sequence[Point], metric: str, limit_ms: float | None) -> Figure:
    figure = Figure(figsize=(9, 5), layout="constrained")
    axis = figure.subplots()
    ordered = sorted(points, key=lambda point: (point.latency_ms, point.score.value))
    # Of a point alone, and of the widest name at the edge, there is something to both sides.
    times = [point.latency_ms for point in points] + ([limit_ms] if limit_ms is not None else [])
    lowest, highest = min(point.score.low for point in points), max(point.score.high for point in points)
    room = 0.08 * ((highest - lowest) or 1.0)
    axis.set(xscale="log", xlim=(min(times) / 2, max(times) * 2), ylim=(lowest - room, highest + room))
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_minor_locator(NullLocator())
    kinds = {"crimson": "chosen", "tab:blue": "on the front", "grey": "others"}
    front = "front: no other one is as good and as fast"
    places = _side_by_side(axis, ordered)
    for point, place in zip(ordered, places, strict=True):
        color = "crimson" if point.chosen else "tab:blue" if point.on_front else "grey"
        reach = [[point.score.value - point.score.low], [point.score.high - point.score.value]]
        label = kinds.pop(color, None)
        at = (point.latency_ms, point.score.value)
        axis.errorbar(*at, yerr=reach, fmt="o", color=color, capsize=3, transform=place, label=label)
    best = [(point.latency_ms, point.score.value) for point in ordered if point.on_front]
    if len(best) > 1:
        axis.step(*zip(*best, strict=True), where="post", color="tab:blue", alpha=0.5, label=front)
    if limit_ms is not None:
        axis.axvline(limit_ms, color="grey", linestyle=":", label=f"at most {limit_ms:g} ms")
    axis.set(xlabel="latency of an image, ms", ylabel=f"{metric}, cross-validated, 95 % intervals")
    axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    _name_points(figure, axis, ordered, places, best, limit_ms)
    return figure


def _side_by_side(axis: Axes, ordered: Sequence[Point]) -> list[Transform]:
    """Returns how each point is placed: those of one time are moved apart by the width of an interval's ends."""
    figure = axis.get_figure(root=True)
    assert figure is not None
    places: list[Transform] = []
    steps = np.diff(np.log([point.latency_ms for point in ordered]))
    starts = [0, *(np.flatnonzero(steps > _SAME_TIME) + 1).tolist(), len(ordered)]
    for first, end in itertools.pairwise(starts):
        count = end - first
        shifts = [(number - (count - 1) / 2) * _APART_PT / 72 for number in range(count)]
        places += [axis.transData + ScaledTranslation(shift, 0, figure.dpi_scale_trans) for shift in shifts]
    return places


def _name_points(
    figure: Figure,
    axis: Axes,
    points: Sequence[Point],
    places: Sequence[Transform],
    best: Sequence[tuple[float, float]],
    limit_ms: float | None,
) -> None:
    """Writes the names of points where nothing else is, with a line to a point that is farther away."""
    figure.draw_without_rendering()  # by which the layout is known
    taken = []
    for point, place in zip(points, places, strict=True):
        x, y = place.transform((point.latency_ms, point.score.value))
        ends = place.transform([(point.latency_ms, point.score.low), (point.latency_ms, point.score.high)])
        taken += [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5), Bbox(ends).padded(3)]
    for (before, score), (after, higher) in itertools.pairwise(best):
        corners = axis.transData.transform([(before, score), (after, score), (after, higher)])
        taken += [Bbox(corners[:2]).padded(1), Bbox(corners[1:]).padded(1)]
    if limit_ms is not None:
        x, _ = axis.transData.transform((limit_ms, points[0].score.value))
        taken.append(Bbox.from_extents(x - 1, axis.bbox.y0, x + 1, axis.bbox.y1))
    for point, place in zip(points, places, strict=True):
        x, y = axis.transData.inverted().transform(place.transform((point.latency_ms, point.score.value)))
        for rise, side in itertools.product(_RISES_PT, (1, -1)):
            name = axis.annotate(
                _plain(point.name),
                (x, y),
                (side * 9, rise),
                textcoords="offset points",
                fontsize=8,
                ha="left" if side > 0 else "right",
                va="center",
                arrowprops={"arrowstyle": "-", "color": "grey", "linewidth": 0.5} if rise else None,
            )
            name.set_in_layout(False)
            name.get_window_extent()  # by which its text is placed; it is of the line, too
            box = Text.get_window_extent(name)
            inside = (
                axis.bbox.x0 <= box.x0 and box.x1 <= axis.bbox.x1 and axis.bbox.y0 <= box.y0 <= box.y1 <= axis.bbox.y1
            )
            if inside and not any(box.overlaps(other) for other in taken):
                break
            if (rise, side) != (_RISES_PT[-1], -1):
                name.remove()
        taken.append(box)


def points_of_images(
    panels: Mapping[str, NumberRows],
    groups: Mapping[str, npt.NDArray[np.int64]],
    marked: Mapping[str, npt.NDArray[np.int64]],
    values: tuple[str, npt.NDArray[np.floating[Any]]] | None = None,
) -> bytes:
    """Draws images as points of one or more maps, as PNG.

    Args:
        panels: (n, 2) places of the images in each map, by its title.
        groups: Rows of the images of each colour, by its name; together all of them.
        marked: Rows of images that get a ring, by what that means.
        values: A name and (n,) numbers that decide on the colour in place of the groups.
    """
    figure = Figure(figsize=(5.2 * len(panels), 5.2), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    colors = colormaps["tab10" if len(groups) <= 10 else "tab20"]
    for axis, (title, places) in zip(axes, panels.items(), strict=True):
        if values is None:
            for index, (name, rows) in enumerate(groups.items()):
                axis.scatter(*places[rows].T, s=16, color=colors(index % colors.N), alpha=0.75, label=_plain(name))
        else:
            drawn = axis.scatter(*places.T, s=16, c=values[1], cmap="viridis", alpha=0.8)
        for (name, rows), color in zip(marked.items(), ("black", "crimson"), strict=False):
            axis.scatter(*places[rows].T, s=90, facecolors="none", edgecolors=color, linewidths=1.4, label=name)
        axis.set(title=title, xticks=[], yticks=[])
    if values is not None:
        figure.colorbar(drawn, ax=axes, label=_plain(values[0]), shrink=0.8)
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False)
    return _png(figure)


def removal_curves(panels: Mapping[str, Mapping[str, npt.NDArray[np.floating[Any]]]], ordinate: str) -> bytes:
    """Draws how an answer falls or rises while pixels go or come, a picture for each way, as PNG.

    Args:
        panels: (N, steps + 1) of N images over the share of the pixels, by the order in which they go; by the way.
        ordinate: What the curves are.
    """
    figure = Figure(figsize=(5.2 * len(panels), 3.8), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (title, orders) in zip(axes, panels.items(), strict=True):
        for (name, curves), color in zip(orders.items(), ("tab:blue", "tab:grey"), strict=False):
            shares = np.linspace(0, 100, curves.shape[1])
            axis.plot(shares, curves.T, color=color, alpha=0.2, linewidth=0.8)
            axis.plot(shares, curves.mean(axis=0), color=color, linewidth=2.2, label=name)
        axis.set(title=title, xlabel="% of the pixels", ylim=(-0.02, 1.02))
        axis.grid(alpha=0.3)
        axis.legend(loc="best")
    axes[0].set_ylabel(ordinate)
    return _png(figure)


def fall_by_stage(curves: Mapping[str, NumberRows], stages: Sequence[str]) -> bytes:
    """Draws how similar maps stay while a network is randomised from its top down, as PNG.

    Args:
        curves: (N, stages) of N images, by the measure.
        stages: What is randomised up to there.
    """
    figure = Figure(figsize=(max(5.2, 1.0 * len(stages) + 2), 3.8), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(stages))
    for name, values in curves.items():
        (line,) = axis.plot(places, values.mean(axis=0), marker="o", label=name)
        axis.plot(places, values.T, color=line.get_color(), alpha=0.2, linewidth=0.8)
    axis.axhline(0, color="grey", linewidth=0.8)
    axis.set(ylim=(-1.05, 1.05), ylabel="similarity to the original map", xlabel="randomised from the top down to")
    axis.set_xticks(places, [_plain(stage) for stage in stages], rotation=30, ha="right")
    axis.grid(alpha=0.3)
    axis.legend()
    return _png(figure)


def _write(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, complete or not at all."""
    data = _png(figure)
    with replacing(path) as file:
        file.write(data)


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()
