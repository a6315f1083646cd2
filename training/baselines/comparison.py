"""Is the network worth its cost here? The best baseline beside it, image by image."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnn_perception.intervals import Estimate, PairedDifference, paired, paired_mean
from training.baselines.rows import Cost, Row
from training.tasks.by_name import task_of

SURE = 0.05
"""Chance below which a difference counts as shown."""


@dataclass(frozen=True)
class Comparison:
    """A network and the best baseline, which answered the same images.

    Attributes:
        network: The network's name.
        baseline: The baseline's.
        tried: How many baselines there were, of which it is the best on these very images.
        metric: Of the task, in words.
        scores: The metric of the network and of the baseline, each with its interval.
        unit: In what the difference is counted.
        difference: By how much the network is better, a mean over the images.
        paired: How many images were won and lost; None where an image has several classes, or numbers.
        costs: Of the network and of the baseline.
    """

    network: str
    baseline: str
    tried: int
    metric: str
    scores: tuple[Estimate, Estimate]
    unit: str
    difference: Estimate
    paired: PairedDifference | None
    costs: tuple[Cost, Cost]

    @property
    def verdict(self) -> str:
        """`yes`, `no`, or `not shown` where chance explains the difference."""
        shown = not self.difference.low <= 0 <= self.difference.high
        if self.paired is not None:
            shown = self.paired.chance < SURE
        if not shown:
            return "not shown"
        return "yes" if self.difference.value > 0 else "no"

    def in_words(self) -> str:
        """Returns the answer, in one line."""
        ours, theirs = (f"{one.value:.3f} ({one.low:.3f}-{one.high:.3f})" for one in self.scores)
        asked = f"is the network worth its cost here? {self.verdict}: {self.metric} {ours}"
        best = f"the best of {self.tried} baselines, {self.baseline}, {theirs}"
        return f"{asked}, {best}; {self._difference()}; {self._costs()}"

    def as_json(self) -> dict[str, Any]:
        """Returns what report.json keeps."""
        pairs = {} if self.paired is None else dataclasses.asdict(self.paired)
        return {
            "verdict": self.verdict,
            "network": self.network,
            "baseline": self.baseline,
            "tried": self.tried,
            "unit": self.unit,
            **pairs,
            "difference": dataclasses.asdict(self.difference),
            "in_words": self.in_words(),
        }

    def _difference(self) -> str:
        value, low, high = self.difference.value, self.difference.low, self.difference.high
        if self.paired is None:
            return f"{self.unit} {value:+.3g} better on average (95 %: {low:+.3g} to {high:+.3g})"
        points = f"{100 * value:+.1f} points (95 %: {100 * low:+.1f} to {100 * high:+.1f})"
        found = self.paired
        won = f"of the same {found.images} images {found.gained} are right by the network alone and {found.lost} by the"
        return f"{won} baseline alone: {points}, chance {found.chance:.2g} (McNemar's exact test)"

    def _costs(self) -> str:
        ours, theirs = self.costs
        time = _times(ours.ms_per_image, theirs.ms_per_image, "the time an image")
        return f"the network takes {time} and {_times(ours.size_bytes, theirs.size_bytes, 'the memory')}"


def compare(network: Row, baselines: Sequence[Row]) -> Comparison | None:
    """Compares a network with the best of the baselines without one; None if there is none or no common image.

    Args:
        network: The network's own answers.
        baselines: All other rows, those with a part of a network too.
    """
    plain = [row for row in baselines if not row.of_network]
    if not plain:
        return None
    best = max(plain, key=lambda row: row.score.value)
    task = task_of(network.data.task)
    ours, theirs = qualities(network), qualities(best)
    common = [path for path in ours if path in theirs]
    if not common:
        return None
    one = np.array([ours[path] for path in common])
    other = np.array([theirs[path] for path in common])
    pairs = paired(one > 0.5, other > 0.5) if task.one_class else None
    if task.one_class:
        unit = "share of right answers"
    else:
        unit = "mean absolute error, standardised," if task.least_squares else "share of right labels"
    return Comparison(
        network=network.name,
        baseline=best.name,
        tried=len(plain),
        metric=task.metric_title,
        scores=(network.score, best.score),
        unit=unit,
        difference=paired_mean(one - other) if pairs is None else pairs.difference,
        paired=pairs,
        costs=(network.cost, best.cost),
    )


def qualities(row: Row) -> dict[str, float]:
    """Returns how well each image was answered, by its path, higher is better."""
    task = task_of(row.data.task)
    truth = task.targets(row.samples)
    values: npt.NDArray[np.floating[Any]]
    if task.one_class:
        values = (row.outputs.argmax(axis=1) == truth).astype(np.float64)
    elif task.least_squares:
        values = -np.abs(row.outputs - truth).mean(axis=1)
    else:
        values = ((row.outputs > 0) == (truth > 0.5)).mean(axis=1)
    return {str(sample.path): float(value) for sample, value in zip(row.samples, values, strict=True)}


def _times(ours: float, theirs: float, what: str) -> str:
    """How many times as much one is as another."""
    share = ours / theirs
    return f"{share:,.0f} times {what}" if share >= 10 else f"{share:.2g} times {what}"
