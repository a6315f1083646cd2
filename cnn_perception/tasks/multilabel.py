"""Any number of classes: the scores are the sigmoid of each logit, and those over their thresholds are the answer."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnn_perception import metrics
from cnn_perception.intervals import Independent, Sampling
from cnn_perception.label_text import UNLABELLED, Truth, text_of
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import UNKNOWN, ModelSpec
from cnn_perception.tasks.classes import (
    ClassReport,
    ClassTask,
    class_reports,
    macro_f1,
    quality,
    require_known,
    share,
)
from cnn_perception.tasks.prediction import Prediction
from cnn_perception.tasks.rules import Figure, Flags, FrameCounts, Gate, Numbers, TimelineKind


@dataclass(frozen=True)
class LabelReport(ClassReport):
    """One class of a multilabel model, at its threshold.

    Attributes:
        threshold: Score from which it counts as seen.
        average_precision: See `metrics.average_precision`; over all thresholds. None where the class never occurs.
    """

    threshold: float
    average_precision: float | None


@dataclass(frozen=True)
class MultilabelScores:
    """Rates are in [0, 1] and None where nothing was scored.

    Attributes:
        frames: What became of the frames.
        mean_average_precision: Mean `average_precision` of the classes that occur, whatever the thresholds.
        macro_f1: Mean F1 of the classes that occur or were seen, at their thresholds.
        exact: Share of the scored frames in which exactly the known classes were seen.
        classes: Scores of each class, in the model's order.
        intervals: 95 % interval of each figure by its name: Wilson's of `exact`, the others' by bootstrap;
            of a recording by blocks of time, see `time_blocks`.
    """

    frames: FrameCounts
    mean_average_precision: float | None
    macro_f1: float | None
    exact: float | None
    classes: tuple[LabelReport, ...]
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    def reaches(self, limit: float) -> bool:
        """Whether the mean average precision is at least the limit, and no frame was lost."""
        if self.mean_average_precision is None or self.frames.lost:
            return False
        return self.mean_average_precision >= limit

    def summary(self) -> list[str]:
        """Returns the shares in one line, and what can be believed of them in another."""
        lines = quality({"mAP": self.mean_average_precision, "macro F1": self.macro_f1, "exact": self.exact})
        words = {"mean_average_precision": "mAP", "macro_f1": "macro F1", "exact": "exact"}
        ends = [f"{words[name]} {100 * low:.1f} to {high:.1%}" for name, (low, high) in self.intervals.items()]
        return lines + ([f"95 %       {', '.join(ends)}"] if ends else [])

    def figures(self, spec: ModelSpec, threshold: float) -> list[Figure]:
        """Returns all shares that there are."""
        shares = (
            ("mean average precision", "mean_average_precision"),
            ("macro F1 at the thresholds", "macro_f1"),
            ("frames with exactly the right classes", "exact"),
        )
        named = [(name, key, getattr(self, key)) for name, key in shares]
        return [
            Figure(name, value, interval=self.intervals.get(key)) for name, key, value in named if value is not None
        ]


class Multilabel(ClassTask):
    """Any number of classes an image."""

    name: str = "multilabel"
    is_exclusive: bool = False
    gates: tuple[Gate, ...] = (Gate("min_map", "mAP", is_least=True),)
    timeline: TimelineKind = "presence"
    order_of_worst: str = "wrong classes first, the farthest from their thresholds at the top; then the closest calls"

    def read(self, logits: FloatArray, temperature: float) -> FloatArray:
        """Returns the sigmoid of each, over the temperature."""
        scaled = logits / np.float32(temperature)
        # Written so that no logit overflows.
        return np.asarray(0.5 + 0.5 * np.tanh(0.5 * scaled), np.float32)

    def text(self, prediction: Prediction) -> str:
        """Returns the classes seen, in the order of the alphabet."""
        return UNKNOWN if prediction.unknown else text_of(prediction.seen)

    def margin(self, prediction: Prediction) -> float:
        """Returns the least distance of a score to its threshold."""
        return float(np.abs(prediction.scores - prediction.thresholds).min())

    def disagreements(self, ours: Prediction, theirs: Prediction, common: Sequence[str]) -> list[tuple[str, str]]:
        """Returns each class that only one has seen; one that only one of them knows is no one's mistake."""
        only_ours = sorted((ours.seen - theirs.seen) & set(common))
        only_theirs = sorted((theirs.seen - ours.seen) & set(common))
        return [(name, "not seen") for name in only_ours] + [("not seen", name) for name in only_theirs]

    def answered(self, prediction: Prediction) -> Flags:
        """Returns the classes whose scores reach their thresholds."""
        return np.asarray(prediction.scores >= prediction.thresholds)

    def wanted(self, averages: Numbers, unknown: float, answers: Flags, thresholds: FloatArray, band: float) -> Flags:
        """Returns the classes above their band if they are not seen now, or above its lower end if they are."""
        limits = np.asarray(thresholds, np.float64)
        rising = limits + band * (1.0 - limits)
        falling = limits * (1.0 - band)
        return np.append(averages >= np.where(answers[:-1], falling, rising), False)

    def entropy(self, prediction: Prediction) -> float:
        """Returns 0: the scores do not add up to 1."""
        return 0.0

    def usual_columns(self, names: Sequence[str]) -> tuple[str, ...]:
        """Returns the column of all classes."""
        return ("classes",)

    def label_columns(self, header: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
        """Returns the column `classes` or `class`, or one of 0 and 1 for each class."""
        if "classes" in header:
            return ("classes",)
        if "class" not in header and set(names) <= set(header):
            return tuple(names)
        return ("class",)

    def truth_of_text(self, text: str, names: Sequence[str], where: str) -> frozenset[str] | None:
        """Returns the classes of a text, `SEPARATOR` between them; empty means none of them, `UNLABELLED` not known.

        Raises:
            DataError: If one is no class of the model.
        """
        if text == UNLABELLED and text not in names:
            return None
        found = frozenset(name.strip() for name in re.split("[;|]", text)) - {""}
        require_known(found, names, where)
        return found

    def truth_of_numbers(self, columns: Sequence[str], values: Sequence[float]) -> frozenset[str]:
        """Returns the classes whose number is not 0."""
        return frozenset(name for name, value in zip(columns, values, strict=True) if value)

    def kept(self, prediction: Prediction, truth: Truth | None) -> Prediction:
        """Returns it without embedding."""
        return dataclasses.replace(prediction, embedding=np.empty(0, np.float32))

    def is_right(self, prediction: Prediction, truth: Truth) -> bool:
        """Whether exactly the known classes are answered."""
        return self.text(prediction) == text_of(truth)

    def badness(self, prediction: Prediction, truth: Truth | None) -> float:
        """Orders wrong classes, each with how far its score is on the wrong side (1 and more), then close calls."""
        if truth is None:
            return -self.margin(prediction)
        distances = prediction.scores - prediction.thresholds
        is_wrong = _flags(truth, prediction.class_names) != (distances >= 0)
        if is_wrong.any():
            return 1.0 + float(np.abs(distances[is_wrong]).sum())
        return 1.0 - self.margin(prediction)

    def score(
        self,
        frames: FrameCounts,
        scored: Sequence[tuple[Truth, Prediction]],
        spec: ModelSpec,
        threshold: float,
        sampling: Sampling | None = None,
    ) -> MultilabelScores:
        """Returns of each class how often it was seen where it is, at all thresholds and at its own."""
        names = spec.class_names
        shape = (len(scored), len(names))
        truth = np.array([_flags(known, names) for known, _ in scored], np.bool_).reshape(shape)
        scores = np.array([one.scores for _, one in scored], np.float32).reshape(shape)
        seen = scores >= np.array(spec.thresholds, np.float32)
        classes = []
        for k, row in enumerate(class_reports(names, _there_or_not(truth, seen))):
            precision = metrics.average_precision(scores[:, k], truth[:, k]) if row.support else None
            figures = dataclasses.asdict(row)
            classes.append(LabelReport(**figures, threshold=spec.thresholds[k], average_precision=precision))
        hits = [self.is_right(one, known) for known, one in scored]
        return MultilabelScores(
            frames=frames,
            mean_average_precision=metrics.mean_average_precision(scores, truth) if truth.any() else None,
            macro_f1=macro_f1(classes, seen.sum(axis=0)) if scored else None,
            exact=share(hits),
            classes=tuple(classes),
            intervals=_intervals(truth, scores, seen, np.array(hits, np.bool_), sampling or Independent(len(hits))),
        )

    def columns(self, names: Sequence[str]) -> tuple[str, ...]:
        """Returns the columns of the known and the answered classes, and of the score of each class."""
        return ("truth", "predicted", *(f"score {name}" for name in names))

    def cells(self, prediction: Prediction | None, truth: Truth | None, names: Sequence[str]) -> list[str]:
        """Returns both sets of classes, and all scores."""
        if prediction is None:
            return [text_of(truth), "", *[""] * len(names)]
        return [text_of(truth), self.text(prediction), *(f"{score:.6f}" for score in prediction.scores)]


def _intervals(
    truth: Flags, scores: FloatArray, seen: Flags, hits: Flags, sampling: Sampling
) -> dict[str, tuple[float, float]]:
    """Returns the 95 % intervals of the figures, of (n, K) arrays and (n,) hits."""
    if not len(hits):
        return {}
    exact = sampling.share(hits)
    found = {
        "mean_average_precision": sampling.figure(
            lambda rows: metrics.mean_average_precision(scores[rows], truth[rows])
        ),
        "macro_f1": sampling.figure(lambda rows: metrics.macro_f1_of_labels(truth[rows], seen[rows])),
        "exact": (exact.low, exact.high),
    }
    return {name: interval for name, interval in found.items() if interval is not None and truth.any()}


def _flags(truth: Truth, names: Sequence[str]) -> Flags:
    """Returns (K,) bool: which classes are known to be there."""
    assert isinstance(truth, frozenset)
    return np.array([name in truth for name in names], np.bool_)


def _there_or_not(truth: Flags, seen: Flags) -> list[metrics.ClassScores]:
    """Returns the scores of each of K classes: "there" against "not there" is a confusion matrix of its own."""
    pairs = zip((~truth).astype(int).T, (~seen).astype(int).T, strict=True)
    return [metrics.per_class(metrics.confusion_matrix(known, found, 2))[0] for known, found in pairs]
