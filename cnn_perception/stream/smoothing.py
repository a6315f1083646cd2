"""Answers that do not flicker: scores smoothed over time, and an answer that is held until another is clearly better.

A robot that stops for one class and goes on for another must not jitter between them. Three means, in this order:

- Smoothing: an exponential moving average. A frame's weight follows from the time since the one before, so that the
  frame rate makes no difference. The rule for `unknown` says yes or no; its answers are smoothed likewise, to the share
  of unknown frames of late. The scores of unknown frames mean nothing and are left out.
- Hysteresis: another answer must be better by a margin.
- Hold: a least time between two changes of the answer.

No answer is held on to without knowing for how long. A frame sent twice or out of order changes nothing, but where time
stands still, steps back or has a long gap, everything starts afresh with the answer to that frame alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cnn_perception.errors import ConfigError
from cnn_perception.stream.stamps import STEP_BACK_S
from cnn_perception.tasks.prediction import Prediction
from cnn_perception.tasks.registry import task_of
from cnn_perception.tasks.rules import Flags, Numbers

_GAP_TIME_CONSTANTS = 5.0
"""After this many time constants less than 1 % of the old answer is left: exp(-5) = 0.007."""
_GAP_S = 5.0
"""A shorter gap never starts afresh: the answers of slow cameras are smoothed, too."""
_LATE_FRAMES = 5
"""So many frames in a row may be no newer than the latest; more of them mean that its stamps do not tell the time."""


@dataclass(frozen=True)
class SmoothingSettings:
    """How much answers are smoothed; all 0 leaves them as they are.

    Attributes:
        smoothing_s: Time constant of the moving average, seconds: after a change of the scene 63 % of it are seen
            after this time; 0 switches it off.
        hysteresis: In [0, 1). Multiclass: by how much the score of another class, or the share of unknown frames, must
            exceed what is held. Multilabel: width of the band around a class's threshold within which it stays as it
            is; the band lies in (0, 1) whatever the threshold is. Without meaning for regression.
        hold_s: Least time between two changes of the answer, for multilabel of each class, seconds; 0 for none.
            Without meaning for regression.

    Raises:
        ConfigError: If a value is out of range.
    """

    smoothing_s: float = 0.0
    hysteresis: float = 0.0
    hold_s: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("smoothing_s", self.smoothing_s), ("hold_s", self.hold_s)):
            if not 0.0 <= value < math.inf:
                raise ConfigError(f"{name} is {value}; give a number of seconds from 0")
        if not 0.0 <= self.hysteresis < 1.0:
            raise ConfigError(f"hysteresis is {self.hysteresis}; give a number from 0 to below 1")


@dataclass
class _State:
    """What is known of a camera.

    Attributes:
        stamp_s: Time of the latest frame.
        late: How many frames came since that were not newer.
        raw: Its prediction.
        values: (K,) smoothed scores, or numbers of a regression.
        unknown: Smoothed share of unknown frames, in [0, 1].
        answers: (K + 1,) which answers are given: the classes, and `unknown` as the last.
        changed_s: (K + 1,) when each last changed.
    """

    stamp_s: float
    late: int
    raw: Prediction
    values: Numbers
    unknown: float
    answers: Flags
    changed_s: Numbers


class AnswerSmoother:
    """Smooths the answers of one camera over time; for one thread."""

    def __init__(self) -> None:
        self._state: _State | None = None

    def __call__(self, prediction: Prediction, stamp_s: float, settings: SmoothingSettings) -> Prediction:
        """Returns the smoothed answer to the next frame.

        Args:
            prediction: The answer to this frame alone.
            stamp_s: When the frame was taken, seconds of any clock.
            settings: As of now; they may change between two calls.

        Returns:
            The prediction with smoothed scores or values, and the classes it holds on to in `Prediction.held`; its
            activation map and embedding remain those of this frame. With settings that are all 0 the same object.
        """
        if settings == SmoothingSettings():
            self._state = None
            return prediction
        state = self._state
        if state is None or _starts_afresh(state, prediction, stamp_s, settings):
            state = self._state = _first(prediction, stamp_s)
        elif stamp_s > state.stamp_s:
            _smooth(state, prediction, stamp_s, settings.smoothing_s)
            _decide(state, settings)
        else:
            state.late += 1
        averages = state.values.astype(np.float32)
        return task_of(prediction.task).held(prediction, averages, state.answers)


def _starts_afresh(state: _State, prediction: Prediction, stamp_s: float, settings: SmoothingSettings) -> bool:
    """Returns whether what came before says nothing of this frame: another model's answer, or a break in time."""
    before = state.raw
    if (prediction.class_names, prediction.task) != (before.class_names, before.task):
        return True
    step_s = stamp_s - state.stamp_s
    if -STEP_BACK_S <= step_s <= 0.0:
        return state.late >= _LATE_FRAMES
    return not 0.0 < step_s <= max(_GAP_S, settings.hold_s, _GAP_TIME_CONSTANTS * settings.smoothing_s)


def _values(prediction: Prediction) -> Numbers:
    """Returns what is averaged: scores, or the numbers of a regression."""
    return np.array(task_of(prediction.task).averaged(prediction), np.float64)


def _first(prediction: Prediction, stamp_s: float) -> _State:
    """Returns the state after a frame that nothing came before."""
    answers = np.append(task_of(prediction.task).answered(prediction), prediction.unknown)
    changed_s = np.full(len(answers), stamp_s)
    return _State(stamp_s, 0, prediction, _values(prediction), float(prediction.unknown), answers, changed_s)


def _smooth(state: _State, prediction: Prediction, stamp_s: float, smoothing_s: float) -> None:
    """Lets a frame count by 1 - exp(-dt / time constant)."""
    weight = -math.expm1(-(stamp_s - state.stamp_s) / smoothing_s) if smoothing_s > 0 else 1.0
    state.stamp_s = stamp_s
    state.late = 0
    state.raw = prediction
    state.unknown += weight * (float(prediction.unknown) - state.unknown)
    if not prediction.unknown:
        # The mean over the known frames alone, of which there were a share of 1 - unknown.
        state.values += weight / max(1.0 - state.unknown, weight) * (_values(prediction) - state.values)


def _decide(state: _State, settings: SmoothingSettings) -> None:
    """Changes the answer where that is due."""
    task = task_of(state.raw.task)
    wanted = task.wanted(state.values, state.unknown, state.answers, state.raw.thresholds, settings.hysteresis)
    # One answer has one time of its latest change, of several each has its own.
    changed_s = state.changed_s.max() if task.is_exclusive else state.changed_s
    due = (wanted != state.answers) & (state.stamp_s - changed_s >= settings.hold_s)
    state.answers[due] = wanted[due]
    state.changed_s[due] = state.stamp_s
