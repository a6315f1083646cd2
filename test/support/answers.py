"""Predictions made by hand, one for each task."""

from __future__ import annotations

import numpy as np

from cnn_perception.tasks import Prediction

NOTHING = np.empty(0, np.float32)
NAMES = ("ant", "bee", "cat")


def one_class(*scores: float, names=NAMES, unknown: bool = False) -> Prediction:
    values = np.array(scores, np.float32)
    return Prediction(names, values, int(values.argmax()), None, np.ones(2, np.float32), unknown=unknown)


def some_classes(*scores: float, thresholds=(0.5, 0.5, 0.5), names=NAMES) -> Prediction:
    values, limits = np.array(scores, np.float32), np.array(thresholds, np.float32)
    top = int(values.argmax())
    return Prediction(names, values, top, None, np.ones(2, np.float32), task="multilabel", thresholds=limits)


def numbers(*values: float, names=("speed", "angle"), units=("m/s", "")) -> Prediction:
    found = np.array(values, np.float32)
    return Prediction(
        names, NOTHING, int(found.argmax()), None, np.ones(2, np.float32), task="regression", values=found, units=units
    )
