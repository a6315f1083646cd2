"""Whether a camera still shows what the model was trained on: brightness, confidence and answers of the latest frames.

A camera's frames resemble each other, and a robot may look at one thing for minutes: its frames are then one view, not
hundreds. So a window is compared with single training images, never as the mean of that many independent ones, and its
classes only where the views in it vary. What is warned of is clearly wrong; all figures are given besides.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnn_perception.model.spec import InputSpec, ModelSpec, Moments
from cnn_perception.pipeline.preprocess import InputTensor
from cnn_perception.tasks.prediction import Prediction
from cnn_perception.tasks.registry import task_of

WINDOW_FRAMES = 600
"""What is judged: 20 seconds at 30 Hz, a minute at 10 Hz."""
LEAST_FRAMES = 200
"""Before that many nothing is warned of."""
BRIGHTNESS_DEVIATIONS = 3.0
"""A view is too dark or too bright beyond so many standard deviations of the training images. Of any distribution
with one peak at most 4.9 % lie there, of a normal one 0.3 %. Source: Vysochanskij and Petunin 1980."""
ENTROPY_DEVIATIONS = 2.0
"""As above, upwards only: being sure is no fault. At most 20 % of any distribution lie there (Cantelli 1929); a larger
factor would often lie above the largest entropy, ln K."""
LEAST_CHANGE = 0.1
"""And by at least so much of the whole range (brightness 1, entropy ln K): training images may be all alike."""
SHARE_CHANGE = 0.25
"""By so much the share of a class must differ, beyond chance. Of two equally frequent classes, it is a population
stability index of 0.27; 0.25 is its usual limit. Source: Siddiqi 2006, Credit Risk Scorecards."""
UNKNOWN_SHARE = 0.5
"""Answers that must be unknown, beyond what the rule's false alarms explain by chance."""
CHANCE = 1e-6
"""How likely chance alone may explain a share that is warned of, were the frames independent."""
VARIED = 0.5
"""Views vary where their brightness has at least this part of its standard deviation over the training images,"""
LEAST_VARIATION = 0.01
"""and at least this one: a still camera's light flickers and its noise is not zero."""


@dataclass(frozen=True)
class Comparison:
    """A quantity over the window, and over the validation images when the model was exported."""

    now: Moments
    trained: Moments


@dataclass(frozen=True)
class Share:
    """How often something was answered in the window, and how often it would be as in training, both in [0, 1]."""

    name: str
    now: float
    trained: float


@dataclass(frozen=True)
class DriftReport:
    """The latest frames compared with the training images.

    Attributes:
        frames: How many frames are in the window.
        brightness: In [0, 1]; None without frames, or without statistics in the model.
        entropy: Of the scores, in nats; None where the brightness is, and unless multiclass.
        views_vary: Whether the frames show different views, so that the classes are judged.
        class_share: The class whose share differs most, `unknown` answers left out; None without any, and for
            regression.
        unknown: Share of the answers that are `unknown`; None for a model without the rule.
        warnings: What is clearly wrong, in plain words; empty where nothing is.
    """

    frames: int
    brightness: Comparison | None
    entropy: Comparison | None
    views_vary: bool
    class_share: Share | None
    unknown: Share | None
    warnings: tuple[str, ...]

    def values(self) -> dict[str, str]:
        """Returns the figures by stable names, for a diagnostic status; those that there are."""
        found = {"drift: frames": str(self.frames)}
        for name, pair in (("brightness", self.brightness), ("entropy (nats)", self.entropy)):
            if pair is not None:
                found[f"drift: {name} now/trained"] = f"{pair.now.mean:.3f} / {pair.trained.mean:.3f}"
                found[f"drift: {name} deviation now/trained"] = f"{pair.now.std:.3f} / {pair.trained.std:.3f}"
        if self.brightness is not None:
            found["drift: views vary"] = "yes" if self.views_vary else "no"
        if (share := self.class_share) is not None:
            found["drift: class that differs most"] = share.name
            found["drift: its share now/trained"] = f"{share.now:.3f} / {share.trained:.3f}"
        if (share := self.unknown) is not None:
            found["drift: unknown now/trained"] = f"{share.now:.3f} / {share.trained:.3f}"
        return found


@dataclass(frozen=True)
class _Frame:
    classes: tuple[int, ...]
    unknown: bool
    entropy: float
    brightness: float


class Drift:
    """Watches the answers to one camera's frames; every method may be called from any thread."""

    def __init__(self, spec: ModelSpec) -> None:
        """Starts with no frames; a model without statistics is watched for `unknown` answers alone."""
        self._spec = spec
        self._shares = np.array(spec.statistics.class_shares if spec.statistics else ())
        self._lock = threading.Lock()
        self._frames: deque[_Frame] = deque(maxlen=WINDOW_FRAMES)

    def observe(self, prediction: Prediction, brightness: float) -> None:
        """Notes an answered frame.

        Args:
            prediction: What was recognised, before any smoothing.
            brightness: Of the model's input, see `brightness`.
        """
        task = task_of(prediction.task)
        frame = _Frame(
            classes=tuple(np.flatnonzero(task.answered(prediction)).tolist()),
            unknown=prediction.unknown,
            entropy=task.entropy(prediction),
            brightness=brightness,
        )
        with self._lock:
            self._frames.append(frame)

    def report(self) -> DriftReport:
        """Returns how the frames of the window compare with the training images."""
        with self._lock:
            frames = tuple(self._frames)
        statistics = self._spec.statistics if frames else None
        light: Comparison | None = None
        entropy: Comparison | None = None
        share: Share | None = None
        if statistics is not None:
            light = Comparison(moments([frame.brightness for frame in frames]), statistics.brightness)
            share = self._class_share(frames)
        if statistics is not None and statistics.entropy is not None:
            entropy = Comparison(moments([frame.entropy for frame in frames]), statistics.entropy)
        figures = DriftReport(
            frames=len(frames),
            brightness=light,
            entropy=entropy,
            views_vary=light is not None and light.now.std >= max(VARIED * light.trained.std, LEAST_VARIATION),
            class_share=share,
            unknown=self._unknown(frames),
            warnings=(),
        )
        return dataclasses.replace(figures, warnings=self._warnings(figures, frames))

    def _warnings(self, figures: DriftReport, frames: Sequence[_Frame]) -> tuple[str, ...]:
        """Returns what is clearly wrong; nothing before there are enough frames."""
        if len(frames) < LEAST_FRAMES:
            return ()
        found = (
            _brightness_warning(figures.brightness),
            _entropy_warning(figures.entropy, len(self._spec.class_names)),
            self._class_warning(figures.class_share, frames) if figures.views_vary else "",
            _unknown_warning(figures.unknown, len(frames)),
        )
        return tuple(text for text in found if text)

    def _class_share(self, frames: Sequence[_Frame]) -> Share | None:
        """Returns the class whose share differs most from the training images'."""
        known = [frame.classes for frame in frames if not frame.unknown]
        if not known or not len(self._shares):
            return None
        indices = list(itertools.chain.from_iterable(known))
        now = np.bincount(np.array(indices, np.int64), minlength=len(self._shares)) / len(known)
        index = int(np.abs(now - self._shares).argmax())
        return Share(self._spec.class_names[index], float(now[index]), float(self._shares[index]))

    def _unknown(self, frames: Sequence[_Frame]) -> Share | None:
        """Returns how often the answer was `unknown`; None for a model without the rule."""
        rule = self._spec.unknown
        if rule is None or not frames:
            return None
        return Share("unknown", sum(frame.unknown for frame in frames) / len(frames), rule.false_alarm_rate)

    def _class_warning(self, share: Share | None, frames: Sequence[_Frame]) -> str:
        known = sum(not frame.unknown for frame in frames)
        if share is None or known < LEAST_FRAMES:
            return ""
        if abs(share.now - share.trained) <= SHARE_CHANGE + _by_chance(known, len(self._shares)):
            return ""
        return f"{share.name} is in {share.now:.0%} of the answers but in {share.trained:.0%} of the training images"


def brightness(tensor: InputTensor, spec: InputSpec) -> float:
    """Returns the mean of a model's input over pixels and channels before its normalisation, in [0, 1].

    The padding of a letterbox counts, as the mean colour that it is.

    Args:
        tensor: (3, height, width) float32, from `preprocess`.
        spec: How it was normalised.
    """
    channels = tensor.reshape(3, -1).mean(axis=1)  # the sums are exact enough in float32: numpy adds pairwise
    return float((channels * spec.std + spec.mean).mean())


def moments(values: Sequence[float]) -> Moments:
    """Returns mean and standard deviation (population) of at least one number."""
    return Moments(float(np.mean(values)), float(np.std(values)))


def _brightness_warning(pair: Comparison | None) -> str:
    if pair is None:
        return ""
    change = pair.now.mean - pair.trained.mean
    if abs(change) <= max(BRIGHTNESS_DEVIATIONS * pair.trained.std, LEAST_CHANGE):
        return ""
    word = "darker" if change < 0 else "brighter"
    return f"the images are {word} than those of training: brightness {_both(pair)}"


def _entropy_warning(pair: Comparison | None, classes: int) -> str:
    if pair is None:
        return ""
    least = max(ENTROPY_DEVIATIONS * pair.trained.std, LEAST_CHANGE * math.log(classes))
    if pair.now.mean - pair.trained.mean <= least:
        return ""
    return f"the model is less sure than in training: entropy {_both(pair)} nats"


def _unknown_warning(share: Share | None, frames: int) -> str:
    if share is None or share.now <= max(UNKNOWN_SHARE, share.trained + _by_chance(frames, 1)):
        return ""
    return f"{share.now:.0%} of the answers are unknown, of the validation images {share.trained:.0%} were"


def _both(pair: Comparison) -> str:
    """Returns both means in words."""
    return f"{pair.now.mean:.2f}, then {pair.trained.mean:.2f} +/- {pair.trained.std:.2f}"


def _by_chance(frames: int, shares: int) -> float:
    """Returns how far any of some shares of independent frames may be off by chance: farther is rarer than `CHANCE`.

    Source: Hoeffding 1963, theorem 2, for either side of each share (union bound).
    """
    return math.sqrt(math.log(2 * shares / CHANCE) / (2 * frames))
