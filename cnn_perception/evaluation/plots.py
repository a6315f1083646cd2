"""Answers and truth of a recording, as plots show them: classes over time, numbers over time and against each other.

Places in a plot are shares of its width and height, from its lower left corner; how many pixels these are is said in
the templates.
"""

from __future__ import annotations

import colorsys
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.model.spec import UNKNOWN
from cnn_perception.tasks.classes import right_answer

_COLUMNS = 600
"""More points than this cannot be told apart in a picture."""
_MOST_POINTS = 2000
_BINS = 480
_MOST_LEGENDS = 24
_LABEL_LETTERS = 12
"""Room beside a row."""
_TICKS = 6
_WRONG, _UNKNOWN = "#c8322b", "#8a94a3"
_PRESENCE = {"seen": "#12805c", "missed": _WRONG, "seen by mistake": "#e09a1f", "seen, unlabelled": "#8fa3bd"}

_Values = npt.NDArray[np.float64]
_Line = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Series:
    """One number over time, what was answered and what is known.

    Attributes:
        template: What shows it.
        name: Of the number.
        unit: Of the number; may be empty.
        levels: (value, height) of some round values.
        true_lines: (x, y) of what is known, a line for each stretch without gap; empty without truth.
        predicted_lines: Likewise of what was answered.
        times_s: Of equidistant ticks from the first frame to the last.
    """

    template: ClassVar[str] = "series.html"
    name: str
    unit: str
    levels: tuple[tuple[float, float], ...]
    true_lines: tuple[_Line, ...]
    predicted_lines: tuple[_Line, ...]
    times_s: tuple[float, ...]


@dataclass(frozen=True)
class Scatter:
    """The answered over the known values of one number; on the diagonal they are equal.

    Attributes:
        template: What shows it.
        name: Of the number.
        levels: (value, share of both axes) of some round values.
        points: (true, predicted) of each frame, as shares of both axes.
    """

    template: ClassVar[str] = "scatter.html"
    name: str
    levels: tuple[tuple[float, float], ...]
    points: _Line


@dataclass(frozen=True)
class Stretch:
    """Part of a row that has one name and colour; its start and width are shares of the row."""

    start: float
    width: float
    name: str
    colour: str


@dataclass(frozen=True)
class Strip:
    """What happened over time, in stretches; where nothing did, there is none."""

    label: str
    stretches: tuple[Stretch, ...]


@dataclass(frozen=True)
class Strips:
    """Rows of coloured stretches over time.

    Attributes:
        template: What shows it.
        legend: (name, colour) of what occurs.
        rows: From the top down.
        times_s: Of equidistant ticks from the first frame to the last.
    """

    template: ClassVar[str] = "pages/strips.html"
    legend: tuple[tuple[str, str], ...]
    rows: tuple[Strip, ...]
    times_s: tuple[float, ...]


def series(records: Sequence[FrameRecord], index: int, name: str, unit: str) -> Series | None:
    """Returns one number over time; each point is the mean of its column.

    Args:
        records: All frames of a recording, in order.
        index: Which of the model's numbers.
        name: Its name.
        unit: Its unit; may be empty.

    Returns:
        None where there are no two good frames.
    """
    good = [record for record in records if record.prediction is not None]
    if len(good) < 2:
        return None
    times_s = np.array([record.time_s for record in good])
    predicted = np.array([record.prediction.values[index] for record in good if record.prediction], np.float64)
    true = np.array([_known_number(record, index) for record in good], np.float64)
    first_s, span_s = _span(good)
    count = min(_COLUMNS, len(good))
    column = np.clip((times_s - first_s) / span_s * count, 0, count - 1).astype(int)
    limits = _limits(np.concatenate((predicted, true)))
    return Series(
        name=name,
        unit=unit,
        levels=_levels(limits),
        true_lines=_lines(_shares(true, limits), column, count),
        predicted_lines=_lines(_shares(predicted, limits), column, count),
        times_s=_tick_times(good),
    )


def scatter(records: Sequence[FrameRecord], index: int, name: str) -> Scatter | None:
    """Returns the answered over the known values of one number.

    Args:
        records: All frames.
        index: Which of the model's numbers.
        name: Its name.

    Returns:
        None where no frame was scored.
    """
    pairs = list(_known_and_answered(records, index))
    if not pairs:
        return None
    every = math.ceil(len(pairs) / _MOST_POINTS)
    values = np.array(pairs[::every])
    limits = _limits(values)
    points = tuple((true, predicted) for true, predicted in _shares(values, limits).tolist())
    return Scatter(name, _levels(limits), points)


def timeline(records: Sequence[FrameRecord], class_names: Iterable[str]) -> Strips | None:
    """Returns truth, prediction and mistakes over time; each column of the picture shows its most frequent class.

    Args:
        records: All frames of a recording, in order.
        class_names: The model's classes, and the word for what is unknown; each has its colour.

    Returns:
        None where there are no two good frames.
    """
    timed, columns = _columns(records)
    if not columns:
        return None
    truth = [_frequent_truth(column) for column in columns]
    predicted = [_frequent_answer(column) for column in columns]
    wrong = [_mistake(column) for column in columns]
    seen = [name for name in class_names if name in {*truth, *predicted}]
    colours = {name: _colour(index) if name != UNKNOWN else _UNKNOWN for index, name in enumerate(seen)}
    rows = [_row("predicted", predicted, colours)]
    if any(record.truth is not None for record in timed):
        rows = [_row("truth", truth, colours), *rows, _row("mistakes", wrong, {"mistake": _WRONG})]
    legend = tuple((name, colours[name]) for name in seen[:_MOST_LEGENDS])
    return Strips(legend, tuple(rows), _tick_times(timed))


def named_strips(rows: Mapping[str, Sequence[str | None]], first_s: float, last_s: float) -> Strips:
    """Returns rows of names over time, of which each has its colour.

    Args:
        rows: By label, the name in each of equally long parts of the time; None for none. The same number in each row.
        first_s: When they begin, seconds.
        last_s: When they end.
    """
    seen = dict.fromkeys(name for names in rows.values() for name in names if name is not None)
    colours = {name: _colour(index) if name != UNKNOWN else _UNKNOWN for index, name in enumerate(seen)}
    ticks = tuple(first_s + tick * (last_s - first_s) / (_TICKS - 1) for tick in range(_TICKS))
    strips = tuple(_row(label, names, colours) for label, names in rows.items())
    return Strips(tuple(colours.items())[:_MOST_LEGENDS], strips, ticks)


def presence(records: Sequence[FrameRecord], class_names: Sequence[str]) -> Strips | None:
    """Returns of each class when it was seen, and when that was a mistake or not known to be right.

    Args:
        records: All frames of a recording, in order, of a multilabel model.
        class_names: The model's classes; those that neither occur nor were seen are left out.

    Returns:
        None where there are no two good frames, or nothing was to be seen in them.
    """
    timed, columns = _columns(records)
    rows = []
    for name in class_names:
        found = [_frequent_presence(column, name) for column in columns]
        if any(found):
            rows.append(_row(name, found, _PRESENCE))
    if not rows:
        return None
    return Strips(tuple(_PRESENCE.items()), tuple(rows[:_MOST_LEGENDS]), _tick_times(timed))


def _known_and_answered(records: Sequence[FrameRecord], index: int) -> Iterator[tuple[float, float]]:
    """Yields one of the numbers of each scored frame, as it is known and as it was answered."""
    for record in records:
        if record.prediction and isinstance(record.truth, tuple):
            yield record.truth[index], float(record.prediction.values[index])


def _known_number(record: FrameRecord, index: int) -> float:
    """Returns one of the known numbers; NaN where the frame is unlabelled."""
    return record.truth[index] if isinstance(record.truth, tuple) else math.nan


def _lines(heights: _Values, column: npt.NDArray[np.int_], count: int) -> tuple[_Line, ...]:
    """Returns the mean of each column that has one, as lines with gaps where there is none."""
    known = np.isfinite(heights)
    weights = np.bincount(column[known], minlength=count)
    means = np.bincount(column[known], heights[known], count) / np.maximum(weights, 1)
    gaps = np.bincount(column[~known], minlength=count) > 0
    lines: list[list[tuple[float, float]]] = [[]]
    for index in range(count):
        if weights[index]:
            lines[-1].append((index / max(count - 1, 1), float(means[index])))
        elif gaps[index]:
            lines.append([])
    return tuple(tuple(line) for line in lines if line)


def _limits(values: _Values) -> tuple[float, float]:
    """Returns the lowest and the highest value that a plot shows: a little more than there is."""
    low = float(np.nanmin(values))
    high = float(np.nanmax(values))
    margin = 0.03 * (high - low) or max(abs(high), 1.0) * 0.1
    return low - margin, high + margin


def _shares(values: _Values, limits: tuple[float, float]) -> _Values:
    low, high = limits
    return (values - low) / (high - low)


def _levels(limits: tuple[float, float]) -> tuple[tuple[float, float], ...]:
    """Returns some round values between two limits, and where they are."""
    low, high = limits
    step = 10.0 ** np.floor(np.log10((high - low) / 2))
    step *= next(factor for factor in (5, 2, 1, 0.5) if (high - low) / (step * factor) >= 3)
    values = [float(step * k) for k in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]
    return tuple((value, (value - low) / (high - low)) for value in values)


def _frequent_truth(column: Sequence[FrameRecord]) -> str | None:
    return _most_frequent(right_answer(str(record.truth)) for record in column if record.truth)


def _frequent_answer(column: Sequence[FrameRecord]) -> str | None:
    return _most_frequent(record.answer for record in column)


def _frequent_presence(column: Sequence[FrameRecord], name: str) -> str | None:
    return _most_frequent(_presence(record, name) for record in column)


def _mistake(column: Sequence[FrameRecord]) -> str | None:
    """Returns `mistake` if one of the frames was answered wrongly."""
    return "mistake" if any(record.is_right is False for record in column) else None


def _presence(record: FrameRecord, name: str) -> str | None:
    """Returns whether a class was rightly or wrongly seen, or missed, as a key of `_PRESENCE`; None otherwise."""
    is_seen = record.prediction is not None and name in record.prediction.seen
    if not isinstance(record.truth, frozenset):
        return "seen, unlabelled" if is_seen else None
    if name in record.truth:
        return "seen" if is_seen else "missed"
    return "seen by mistake" if is_seen else None


def _columns(records: Sequence[FrameRecord]) -> tuple[list[FrameRecord], list[list[FrameRecord]]]:
    """Returns the good frames, and the same by the column of the picture; no columns for less than two frames."""
    timed = [record for record in records if record.prediction is not None]
    if len(timed) < 2:
        return timed, []
    first_s, span_s = _span(timed)
    columns: list[list[FrameRecord]] = [[] for _ in range(min(_BINS, max(len(timed) // 2, 1)))]
    for record in timed:
        share = (record.time_s - first_s) / span_s
        columns[min(max(int(share * len(columns)), 0), len(columns) - 1)].append(record)
    return timed, columns


def _span(timed: Sequence[FrameRecord]) -> tuple[float, float]:
    """Returns when frames begin, and how long they last, seconds."""
    first_s = timed[0].time_s
    return first_s, max(timed[-1].time_s - first_s, 1e-9)


def _tick_times(timed: Sequence[FrameRecord]) -> tuple[float, ...]:
    first_s, span_s = _span(timed)
    return tuple(first_s + tick * span_s / (_TICKS - 1) for tick in range(_TICKS))


def _row(label: str, names: Sequence[str | None], colours: Mapping[str, str]) -> Strip:
    """Returns a row of one name a column; equal neighbours become one stretch."""
    stretches = []
    start = 0
    for index in range(1, len(names) + 1):
        if index < len(names) and names[index] == names[start]:
            continue
        name = names[start]
        if name is not None:
            stretches.append(Stretch(start / len(names), (index - start) / len(names), name, colours[name]))
        start = index
    return Strip(label[:_LABEL_LETTERS], tuple(stretches))


def _most_frequent(names: Iterable[str | None]) -> str | None:
    counts = Counter(names)
    return counts.most_common(1)[0][0] if counts else None


def _colour(index: int) -> str:
    """Spreads hues by the golden angle, so that neighbouring classes differ and any number of them is possible."""
    red, green, blue = colorsys.hls_to_rgb((0.58 + index * 0.61803) % 1.0, 0.52 if index % 2 else 0.62, 0.62)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
