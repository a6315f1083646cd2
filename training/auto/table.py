"""The candidates beside each other: accuracy with its interval, time and size, and which are worth having."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnn_perception.errors import printable
from cnn_perception.intervals import Estimate, paired, paired_mean
from training.baselines.comparison import SURE, qualities
from training.baselines.rows import Row
from training.report import figures
from training.run_files import write_csv
from training.tasks.by_name import task_of
from training.text_table import text_table

HEADER = (
    "candidate",
    "weights",
    "metric",
    "score",
    "low",
    "high",
    "images",
    "precision",
    "latency_ms",
    "size_mb",
    "seconds",
    "front",
    "ended",
)

SHORT = 160
"""Characters of an error in the table."""


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        name: Of the candidate.
        weights: Where it starts from; a dash for what has none.
        folds: Such as `5 of 5`; empty of what was not tried.
        score: The metric over the held-out images of these folds; None of what was not tried.
        images: How many these are.
        latency_ms: Of an image by its model file; None where it has none.
        size_mb: Of that file.
        seconds: That its folds took.
        ended: Why nothing more was tried.
        precision: Of the model file that is timed, whose answers the score is of; a dash for what has none.
        deployable: Whether it is a network that the node can run.
    """

    name: str
    weights: str
    folds: str
    score: Estimate | None
    images: int
    latency_ms: float | None
    size_mb: float | None
    seconds: float
    ended: str
    precision: str = "-"
    deployable: bool = True

    def as_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Line:
        """Returns the line of plain values."""
        score = values["score"]
        return cls(**{**values, "score": None if score is None else Estimate(**score)})


def is_worse(ours: Row, best: Row) -> bool:
    """Whether candidates that answered some of the same images differ by more than chance, ours being the worse."""
    one, other = qualities(ours), qualities(best)
    common = [path for path in one if path in other]
    if len(common) < 2:
        return False
    first, second = (np.array([values[path] for path in common]) for values in (one, other))
    if task_of(ours.data.task).one_class:
        found = paired(first > 0.5, second > 0.5)
        return found.lost > found.gained and found.chance < SURE
    return paired_mean(first - second).high < 0


def better(ours: Row, theirs: Row) -> bool:
    """Whether a candidate has the higher figure on the images that both answered."""
    common = {sample.path for sample in ours.samples} & {sample.path for sample in theirs.samples}
    if not common:
        return ours.score.value > theirs.score.value
    one, other = (_score(row, common) for row in (ours, theirs))
    return (one, -ours.cost.ms_per_image) > (other, -theirs.cost.ms_per_image)


def _score(row: Row, among: set[Path]) -> float:
    rows = [index for index, sample in enumerate(row.samples) if sample.path in among]
    task = task_of(row.data.task)
    return task.score(row.outputs[rows], task.targets([row.samples[index] for index in rows]))


def front(lines: Sequence[Line]) -> set[str]:
    """Returns the names of those of which no other one is both as good and as fast, and one of it more so."""
    known = [
        (line.name, line.score.value, line.latency_ms)
        for line in lines
        if line.deployable and line.score is not None and line.latency_ms is not None
    ]
    return {
        name
        for name, score, latency in known
        if not any(
            other >= score and faster <= latency and (other, -faster) > (score, -latency) for _, other, faster in known
        )
    }


def in_words(lines: Sequence[Line], metric: str, chosen: str) -> list[str]:
    """Returns the table as text, and what has to be said of it, a line each."""
    best = front(lines)
    cells = [["", metric, "folds", "", "ms", "MB", "s", "", "ended"]]
    for line in lines:
        marks = "chosen" if line.name == chosen else "front" if line.name in best else ""
        score = "-" if line.score is None else f"{line.score.value:.3f} ({line.score.low:.3f}-{line.score.high:.3f})"
        cost = (_number(line.latency_ms, ".3g"), _number(line.size_mb, ".1f"), f"{line.seconds:.0f}")
        cells.append([line.name, score, line.folds or "-", line.precision, *cost, marks, line.ended or "-"])
    return [
        *map(printable, text_table(cells)),
        "cross-validated on the training part, with 95 % intervals, each in the precision beside it; the best of "
        "several looks a little too good, and what was held out of the data set was not looked at; front: no other one "
        "is both as good and as fast",
    ]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def write(folder: Path, lines: Sequence[Line], metric: str) -> None:
    """Leaves auto.csv in the folder of a search."""
    best = front(lines)
    rows = [
        (
            line.name,
            line.weights,
            metric,
            *(("", "", "") if line.score is None else (line.score.value, line.score.low, line.score.high)),
            line.images,
            line.precision,
            "" if line.latency_ms is None else line.latency_ms,
            "" if line.size_mb is None else line.size_mb,
            round(line.seconds, 1),
            "yes" if line.name in best else "",
            line.ended,
        )
        for line in lines
    ]
    write_csv(folder / "auto.csv", HEADER, rows)


def draw(folder: Path, lines: Sequence[Line], metric: str, chosen: str, limit_ms: float | None) -> None:
    """Leaves accuracy_latency.png there if anything has answered, and else none."""
    best = front(lines)
    points = [
        figures.Point(line.name, line.latency_ms, line.score, line.name in best, line.name == chosen)
        for line in lines
        if line.score is not None and line.latency_ms is not None
    ]
    picture = folder / "accuracy_latency.png"
    if points:
        figures.accuracy_over_latency(points, metric, limit_ms, picture)
    else:
        picture.unlink(missing_ok=True)
