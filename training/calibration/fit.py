"""What is fitted after training, on validation images: how sure a score is, and when an image shows no class at all.

The network's own images are no use for it: it is surer of them than of any other.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnn_perception import metrics
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import UNKNOWN, Task, UnknownMethod
from training.calibration import cross_fit, embeddings, unknown_rule
from training.calibration.embeddings import Predictions
from training.calibration.outside import OutsideFigures
from training.checkpoint import UNCALIBRATED, Calibration
from training.config import UnknownChoice
from training.loop.run import Run
from training.scoring.scores import ScoredLogits, mean_loss
from training.tasks.by_name import task_of
from training.tasks.probabilities import Doubles, sigmoid, softmax
from training.tasks.task import LearningTask, Meaning

_COOLEST, _HOTTEST = 1e-2, 1e2


@dataclass(frozen=True, eq=False)
class TemperatureEffect:
    """Expected calibration error with its bins, and the mean loss, on some images before and after the temperature."""

    before: metrics.CalibrationScores
    after: metrics.CalibrationScores
    loss_before: float
    loss: float


@dataclass(frozen=True, eq=False)
class Fitted:
    """What was fitted, and how well it does.

    Attributes:
        calibration: For the checkpoint.
        reliability: By the part of the data (`val`); empty for regression.
        unknown_scores: Score of each image by what it is (`val`, `outside`); empty without a rule.
        auroc: Of each method, known validation images against the others; empty where none were given.
        measured_by: How the figures of the validation images were measured, in words; empty for regression.
        is_unknown: Of each validation image, (n,), whether a rule that was fitted to others calls it unknown; empty
            without a rule.
        outside: What the rule makes of images of none of the classes; None without a rule or such images.
    """

    calibration: Calibration
    reliability: dict[str, TemperatureEffect]
    unknown_scores: dict[str, Doubles]
    auroc: dict[UnknownMethod, float]
    measured_by: str = ""
    is_unknown: npt.NDArray[np.bool_] = dataclasses.field(default_factory=lambda: np.empty(0, np.bool_))
    outside: OutsideFigures | None = None

    def report(self) -> dict[str, Any]:
        """Returns the figures as report.json keeps them; of the rule's centres only how many there are."""
        figures: dict[str, Any] = {"temperature": self.calibration.temperature, "fitted_on": "val"}
        if self.measured_by:
            figures["measured_by"] = self.measured_by
        for part, found in self.reliability.items():
            errors = {"ece_before": found.before.ece, "ece": found.after.ece}
            figures[part] = {**errors, "loss_before": found.loss_before, "loss": found.loss}
        if (rule := self.calibration.unknown) is not None:
            rest = dataclasses.asdict(rule) | {"centres": len(rule.centres)}
            figures["unknown"] = {**rest, "called_unknown": self.called_unknown(), "auroc_of_methods": self.auroc}
            if self.outside is not None:
                figures["unknown"]["outside"] = dataclasses.asdict(self.outside)
        return figures

    def called_unknown(self) -> dict[str, float]:
        """Returns the share that the rule calls unknown, of each kind of images; by rules fitted to others."""
        rule = self.calibration.unknown
        if rule is None:
            return {}
        below = {part: float((scores < rule.threshold).mean()) for part, scores in self.unknown_scores.items()}
        below["val"] = rule.false_alarm_rate
        if self.outside is not None:
            below["outside"] = self.outside.called_unknown.value
        return below


def fit(
    train: Predictions,
    held_out: Mapping[str, Predictions],
    outside: Predictions | None,
    task: Task,
    *,
    unknown: UnknownChoice = "auto",
    false_alarm_rate: float = 0.05,
    choosing: Predictions | None = None,
) -> Fitted:
    """Fits the temperature, the thresholds of several labels and the unknown rule, and measures them.

    Args:
        train: Training images, for the centres of the classes.
        held_out: `val`, on which all is fitted, and measured by cross-fitting; perhaps others, which are only measured.
        outside: Images that show none of the classes, on which the rule is measured.
        task: Thresholds are for multilabel alone, the rule for multiclass; regression has nothing of it.
        unknown: The method of the rule, see `unknown_rule.fit`; `none` is no rule.
        false_alarm_rate: Largest share of the validation images that may be called unknown, in [0, 1); 0 is no rule.
        choosing: Other images that show none of the classes, which only choose the method of the rule.
    """
    learning = task_of(task)
    if not learning.has_probabilities:
        return Fitted(UNCALIBRATED, {}, {}, {})
    val = held_out["val"]
    truth = learning.targets(val.samples)
    temperature = fit_temperature(val.logits, truth)
    thresholds = learning.thresholds(val.logits / temperature, truth)
    parts = cross_fit.folds(val.labels, [sample.group for sample in val.samples])
    others = cross_fit.each(parts, len(val), lambda rows: fit_temperature(val.logits[rows], truth[rows]))
    temperatures = {part: np.full(len(found), temperature) for part, found in held_out.items()} | {"val": others}
    reliability = {part: _reliability(found, temperatures[part], learning) for part, found in held_out.items()}
    measured_by = cross_fit.in_words(parts, len(val))
    if not learning.one_class or unknown == "none" or not false_alarm_rate:
        return Fitted(Calibration(temperature, thresholds, None), reliability, {}, {}, measured_by)
    found = unknown_rule.fit(train, held_out, outside, unknown, false_alarm_rate, parts, choosing)
    fitted = Calibration(temperature, thresholds, found.rule)
    return Fitted(fitted, reliability, found.scores, found.auroc, measured_by, found.is_unknown, found.outside)


def evaluation(found: Predictions, meaning: Meaning, calibration: Calibration) -> ScoredLogits:
    """Returns the logits of a network as they are scored: as they came, or over the temperature.

    Thresholds are for scores over the temperature, and no other figure of several labels but the loss depends on it.
    """
    temperature = calibration.temperature if calibration.thresholds else 1.0
    truth = task_of(meaning.task).targets(found.samples)
    return ScoredLogits((found.logits / temperature).astype(np.float32), truth, meaning)


def of_run(run: Run, found: Mapping[str, Predictions]) -> Fitted:
    """Fits what the settings of a run ask for, to what `embeddings.of_run` returned.

    A class of ours that is called as the rule's answer leaves no place for the rule.
    """
    unknown = "none" if UNKNOWN in run.data.class_names else run.config.unknown
    rate = run.config.false_alarm_rate
    return fit(
        found["train"],
        {"val": found["val"]},
        found.get(embeddings.OUTSIDE),
        run.data.task,
        unknown=unknown,
        false_alarm_rate=rate,
        choosing=found.get(embeddings.CHOOSING),
    )


def fit_temperature(logits: FloatArray, truth: npt.NDArray[Any]) -> float:
    """Returns the temperature at which the scores explain the truth best, in [0.01, 100].

    What is minimised, the negative log-likelihood, is convex in 1 / temperature, so the root of its slope is the
    minimum. A normal distribution of 1 / temperature around 1, with deviation 1, goes before the images and weighs as
    much as a few of them: it keeps a handful of images, or a hundred that are all right, from making every score 100 %.

    Args:
        logits: (n, K).
        truth: (n,) class indices, whose scores are a softmax; or (n, K) of 0 and 1, whose scores are sigmoids.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2; the prior is ours.
    """
    exact = logits.astype(np.float64)
    told = exact[np.arange(len(truth)), truth] if truth.ndim == 1 else (exact * truth).sum(axis=1)

    def slope(inverse: float) -> float:
        scores = softmax(exact * inverse) if truth.ndim == 1 else sigmoid(exact * inverse)
        return float(((scores * exact).sum(axis=1) - told).sum()) + inverse - 1

    low, high = 1 / _HOTTEST, 1 / _COOLEST
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 1 / math.sqrt(low * high)


def _reliability(found: Predictions, temperatures: Doubles, task: LearningTask) -> TemperatureEffect:
    """What the temperature of each image, (n,), does."""
    truth = task.targets(found.samples)
    cooled = (found.logits / temperatures[:, np.newaxis]).astype(np.float32)
    return TemperatureEffect(
        before=_ece(task.probabilities(found.logits, 1.0), truth),
        after=_ece(task.probabilities(cooled, 1.0), truth),
        # what the temperature makes smaller, while the calibration error of few images may as well rise
        loss_before=mean_loss(task, found.logits, truth),
        loss=mean_loss(task, cooled, truth),
    )


def _ece(scores: Doubles, truth: npt.NDArray[Any]) -> metrics.CalibrationScores:
    """Of several classes an image, each counts as a decision between no and yes."""
    if truth.ndim == 1:
        return metrics.ece(scores, truth)
    yes = scores.ravel()
    return metrics.ece(np.stack([1 - yes, yes], axis=1), truth.ravel().astype(np.int64))
