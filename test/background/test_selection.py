"""Owns: which frames are kept. Leaves to others: where they are kept, and how many. Oracle: hand arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from recording import SURE, UNSURE, prediction, settings

from cnn_perception.background.selection import reason
from cnn_perception.errors import ConfigError
from cnn_perception.tasks import task_of


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (prediction((0.5, 0.375, 0.125)), 0.125),
        (prediction((0.125, 0.75, 0.125)), 0.625),
        (prediction((0.25, 0.25, 0.5)), 0.25),
        (prediction((0.5, 0.5, 0.0)), 0.0),
        (prediction((0.875, 0.125), names=("a", "b"), task="multilabel", thresholds=np.float32([0.5, 0.25])), 0.125),
        (prediction((0.75,), names=("a",), task="multilabel", thresholds=np.float32([0.25])), 0.5),
    ],
)
def test_the_margin_is_the_distance_to_another_answer(found, expected):
    assert task_of(found.task).margin(found) == expected


@pytest.mark.parametrize(
    ("found", "changes", "expected"),
    [
        (prediction(UNSURE), {}, "margin"),
        (prediction(UNSURE), {"margin": 0.125}, None),  # less, not equal
        (prediction(SURE), {}, None),
        (prediction(SURE, unknown=True), {}, "unknown"),
        (prediction(UNSURE, unknown=True), {"unknown": False}, None),
        (prediction(UNSURE), {"margin": 0.0}, None),
    ],
)
def test_unsure_is_a_small_margin_or_unknown(tmp_path, found, changes, expected):
    assert reason(found, settings(tmp_path, **changes)) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"margin": -0.1}, "margin is -0.1; choose 0 to 1"),
        ({"margin": 1.1}, "margin is 1.1"),
        ({"margin": math.nan}, "margin is nan"),
        ({"margin": 0.0, "unknown": False}, "margin is 0 and unknown frames are not wanted"),
        *(({"max_mb": value}, f"max_mb is {value}") for value in (0.0, -1.0, math.inf)),
        *(({"max_rate_hz": value}, f"max_rate_hz is {value}") for value in (0.0, -1.0, math.inf)),
        ({"max_mb": math.nan}, "max_mb is nan"),
    ],
)
def test_nonsense_settings_are_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        settings(tmp_path, **changes)
