"""How well an unknown rule tells the images of the classes from others, measured on images that fitted nothing of it.

Where the method of the rule was chosen by the very images that it is measured on, each fold of them is measured by the
method that the others choose. An AUROC is a mean over pairs of a known image and another, so that the mean over pairs
of folds is the AUROC itself wherever all folds choose alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnn_perception import metrics
from cnn_perception.intervals import Estimate, wilson
from cnn_perception.model.spec import UnknownMethod
from training.calibration.cross_fit import Folds
from training.calibration.quantile import lower_quantile
from training.tasks.probabilities import Doubles

_Z = 1.959963984540054  # of the standard normal distribution: 95 % lie nearer to 0

FITTED_NOTHING = "they fitted nothing"

Scores = Mapping[UnknownMethod, Doubles]
"""(n,) scores of the same images by each method; what is below a threshold is unknown."""
Rows = npt.NDArray[np.int64]
Choose = Callable[[Rows, Rows], UnknownMethod]
"""Gives the method that some known images and some others choose, by their rows."""


@dataclass(frozen=True, eq=False)
class OutsideFigures:
    """What a rule makes of images of none of the classes.

    Attributes:
        images: How many.
        auroc: Of the scores of the known validation images against theirs, in [0, 1].
        called_unknown: Share that is called unknown.
        measured_by: How, in words.
    """

    images: int
    auroc: Estimate
    called_unknown: Estimate
    measured_by: str

    def in_words(self) -> str:
        """Returns all of it in one line."""
        of = f"of {self.images} images of none of the classes {self.called_unknown.in_percent()} are called unknown"
        ends = f"{self.auroc.low:.3f} to {self.auroc.high:.3f}"
        return f"{of}; AUROC {self.auroc.value:.3f} ({ends}); {self.measured_by}"


def outside_in_words(figures: Mapping[str, Any]) -> str:
    """Returns what report.json keeps of `OutsideFigures`, in one line."""
    shares = {name: Estimate(**figures[name]) for name in ("auroc", "called_unknown")}
    return OutsideFigures(**{**figures, **shares}).in_words()


@dataclass(frozen=True, eq=False)
class Measurement:
    """What is measured of a rule: scores, how its method is chosen, and the folds; None where they are too few.

    Attributes:
        known: Of the n validation images.
        outside: Of the m images of none of the classes; empty arrays where there are none.
        choose: How the method is chosen.
        share: Of the known images that may be called unknown.
        folds: Of the known images, (n,).
        outside_folds: Of the others, (m,).
    """

    known: Scores
    outside: Scores
    choose: Choose
    share: float
    folds: Folds | None
    outside_folds: Folds | None

    def is_unknown(self) -> npt.NDArray[np.bool_]:
        """Returns of each known image, (n,), whether a rule that was fitted to the others calls it unknown."""
        every = _all(self.outside)
        result = np.empty(len(_all(self.known)), np.bool_)
        for rows, rest in _divided(self.folds, len(result)):
            scores = self.known[self.choose(rest, every)]
            result[rows] = scores[rows] < lower_quantile(scores[rest], self.share)
        return result

    def outside_unknown(self) -> npt.NDArray[np.bool_]:
        """Returns the same of each of the others, (m,)."""
        every = _all(self.known)
        result = np.empty(len(_all(self.outside)), np.bool_)
        for rows, rest in _divided(self.outside_folds, len(result)):
            method = self.choose(every, rest)
            result[rows] = self.outside[method][rows] < lower_quantile(self.known[method], self.share)
        return result

    def auroc(self) -> float:
        """Returns the area of the known images against the others, of which there must be some."""
        known, others = (_all(scores) for scores in (self.known, self.outside))
        parts = [
            (self.choose(rest, other_rest), rows, other_rows)
            for rows, rest in _divided(self.folds, len(known))
            for other_rows, other_rest in _divided(self.outside_folds, len(others))
        ]
        if len({method for method, _, _ in parts}) == 1:
            return auroc(self.known[parts[0][0]], self.outside[parts[0][0]])
        pairs = len(known) * len(others)
        areas = [
            auroc(self.known[method][rows], self.outside[method][other_rows]) * len(rows) * len(other_rows) / pairs
            for method, rows, other_rows in parts
        ]
        return math.fsum(areas)

    def figures(self, measured_by: str) -> OutsideFigures:
        """Returns what report.json says of the others, of which there must be some."""
        unknown = self.outside_unknown()
        area = auroc_interval(self.auroc(), len(_all(self.known)), len(unknown))
        return OutsideFigures(len(unknown), area, wilson(int(unknown.sum()), len(unknown)), measured_by)


def of_rule(known: Doubles, others: Doubles, threshold: float) -> OutsideFigures:
    """Measures a rule that is there already.

    Args:
        known: (n,) scores of images of the classes.
        others: (m,) scores of images of none of them.
        threshold: What is below is unknown.
    """
    area = auroc_interval(auroc(known, others), len(known), len(others))
    unknown = wilson(int((others < threshold).sum()), len(others))
    return OutsideFigures(len(others), area, unknown, FITTED_NOTHING)


def auroc(known: Doubles, others: Doubles) -> float:
    """Returns how often a known image has a higher score than another one, in [0, 1]."""
    is_known = np.arange(len(known) + len(others)) < len(known)
    return metrics.auroc(np.concatenate([known, others]), is_known)


def auroc_interval(value: float, known: int, others: int) -> Estimate:
    """Returns an AUROC of so many known images and others with its 95 % interval, which is none of length 0 at 1.

    Source: Newcombe 2006, Confidence Intervals for an Effect Size Measure Based on the Mann-Whitney Statistic, part 2,
        method 5: the ends are the areas from which this one is 1.96 of their own standard errors (Hanley and McNeil's,
        with the mean of both numbers in place of each) away.
    """
    mean = (known + others) / 2

    def distance(area: float) -> float:
        rest = 1 + (mean - 1) * ((1 - area) / (2 - area) + area / (1 + area))
        return abs(value - area) - _Z * math.sqrt(area * (1 - area) * rest / (known * others))

    return Estimate(value, _end(distance, 0.0, value), _end(distance, 1.0, value))


def _end(distance: Callable[[float], float], beyond: float, inside: float) -> float:
    """Returns where a distance becomes 0 between a place where it is above and one where it is below."""
    for _ in range(60):
        middle = (beyond + inside) / 2
        beyond, inside = (middle, inside) if distance(middle) > 0 else (beyond, middle)
    return inside


def _all(scores: Scores) -> Rows:
    return np.arange(len(next(iter(scores.values()))))


def _divided(folds: Folds | None, count: int) -> list[tuple[Rows, Rows]]:
    """Returns the rows of each fold with those of all others; without folds all of them, twice."""
    if folds is None:
        return [(np.arange(count), np.arange(count))]
    return [(np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)) for fold in np.unique(folds)]
