"""What work will take, by what was measured of it on this machine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from training.auto.candidate import MOST_AT_HAND, Candidate, fewest_epochs
from training.batches import feature_cache
from training.calibration.embeddings import MOST_TRAINING_IMAGES
from training.data.records import LabelledImages
from training.graphs.quantise import CALIBRATION_IMAGES

PAGE_S = 10.0
"""For the figures and the page of a run, which hardly depend on it."""
MARGIN = 1.1
"""By how much more than planned everything may take."""
_PARITY_IMAGES = 64
_MOST_NUMBERS = 4096
"""Of a cell's features: VGG's."""
_OF_LAST_STAGE = 0.4
"""Share of the learning that is left where only the last stage learns: the rest has no gradients."""
_STEPS = (1.0, 0.75, 0.5, 0.35, 0.25, 0.15, 0.1)
"""Shares of the usual epochs that are considered."""


@dataclass(frozen=True)
class Costs:
    """Measured seconds.

    Attributes:
        read_s: To read and check the data set.
        forward_s: Of an image through the network.
        learn_s: Of an image that all of the network learns from.
        export_s: To make the model file.
    """

    read_s: float
    forward_s: float
    learn_s: float
    export_s: float

    def fixed_s(self, candidate: Candidate, data: LabelledImages) -> float:
        """Returns what the last training needs beside itself: the data are read again, and see `after_s`."""
        return self.read_s + self.after_s(candidate, data)

    def after_s(self, candidate: Candidate, data: LabelledImages) -> float:
        """Returns what follows the last training: the report, the model file and its checks, the test part."""
        # a probe has the features of both parts already, by which it is scored and its unknown rule is fitted
        probe = candidate.mode == "probe"
        seen = 0 if probe else min(len(data.part("train")), MOST_TRAINING_IMAGES) + 2 * len(data.part("val"))
        compared = 3 * min(len(data.part("val")), _PARITY_IMAGES)  # by torch, by its map's gradient, by the file
        checked = compared + len(data.part("val")) + len(data.part("test"))
        reading = self.read_s if data.part("test") else 0.0
        return reading + PAGE_S + 1.3 * self.export_s + self.forward_s * (seen + checked)

    def reduced_s(self, fold: LabelledImages) -> float:
        """Returns what the answers of a fold in a smaller precision take: they are those of its model file."""
        seen = CALIBRATION_IMAGES + 2 * _PARITY_IMAGES + 3 * len(fold.part("val"))
        return self.export_s + self.forward_s * seen

    def epoch_s(self, candidate: Candidate, data: LabelledImages) -> float:
        """Returns what one pass over the training part takes."""
        images = len(data.part("train"))
        if candidate.mode == "probe":
            return images * self.forward_s + self.read_s
        learn_s = self.learn_s
        if candidate.settings.get("last_stage_epochs") == candidate.settings.get("epochs"):
            learn_s = self.forward_s + _OF_LAST_STAGE * (self.learn_s - self.forward_s)
        return images * learn_s

    def fit_s(self, candidate: Candidate, epochs: int, data: LabelledImages) -> float:
        """Returns what the training of a candidate on the whole training part takes."""
        if candidate.mode == "probe":
            return self.epoch_s(candidate, data) + len(data.part("val")) * self.forward_s
        start = len(data.part("train")) * self.forward_s if candidate.settings.get("head_init") == "probe" else 0.0
        return self.read_s + start + epochs * (self.epoch_s(candidate, data) + len(data.part("val")) * self.forward_s)

    def last_fit_s(self, candidate: Candidate, epochs: int, data: LabelledImages) -> float:
        """Returns the same of one whose folds are tried: they have kept a probe's features, where these can be kept."""
        numbers = _MOST_NUMBERS * math.prod(candidate.settings.get("grid") or (1, 1))
        fits = 4 * numbers * len(data.part("train")) <= feature_cache.LIMIT_BYTES / MOST_AT_HAND
        if candidate.mode == "probe" and fits and feature_cache.folder() is not None:
            return self.read_s + len(data.part("val")) * self.forward_s
        return self.fit_s(candidate, epochs, data)


@dataclass(frozen=True)
class Plan:
    """How long a candidate learns, and in how many folds.

    Attributes:
        epochs: Of each training.
        folds: How many are tried.
    """

    epochs: int
    folds: int


def plans(candidate: Candidate, usual_epochs: int, folds: int) -> Iterator[Plan]:
    """Yields the ways to try a candidate, the best and longest first."""
    if candidate.mode == "probe":
        yield Plan(usual_epochs, folds)
        return
    fewest = fewest_epochs(candidate, usual_epochs)
    for epochs in dict.fromkeys(max(fewest, round(share * usual_epochs)) for share in _STEPS):
        for count in dict.fromkeys((folds, min(3, folds), 2)):  # fewer images tell less, too short a training nothing
            yield Plan(epochs, count)


def trial_s(fit_s: float, folds: int, plan: Plan) -> float:
    """Returns what the folds of a plan take, of a candidate whose whole training takes so many seconds."""
    return fit_s * (folds - 1) / folds * plan.folds
