"""One class an image: the scores are the softmax of the logits, and the best of them is the answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnn_perception import metrics
from cnn_perception.intervals import Estimate, Independent, Sampling
from cnn_perception.label_text import NONE_OF_THESE, UNLABELLED, Truth, text_of
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import UNKNOWN, ModelSpec
from cnn_perception.tasks.classes import (
    ClassReport,
    ClassTask,
    class_reports,
    is_none_of_these,
    macro_f1,
    quality,
    require_known,
    share,
)
from cnn_perception.tasks.prediction import Prediction
from cnn_perception.tasks.rules import Figure, Flags, FrameCounts, Gate, Numbers, TimelineKind

MOST_WITHOUT_TOP5 = 5
"""Classes up to which the top-5 accuracy is always 1."""
KEPT_CLASSES = 5
"""How many of the best classes are kept of a prediction."""


@dataclass(frozen=True)
class MulticlassScores:
    """Rates are in [0, 1] and None where nothing was scored.

    Attributes:
        frames: What became of the frames.
        top1: Share of the scored frames that were answered rightly; one of a class that is called unknown is wrong, and
            for one of none of the classes that is the right answer.
        top5: Share of the scored frames of a class with it among the best five, whatever the unknown rule says.
        balanced_accuracy: Mean recall of the classes that occur; one called unknown is not found.
        macro_f1: Mean F1 of the classes that occur or were answered.
        unknown: Share of the scored frames that were called unknown; 0 for a model without a rule.
        top1_answered: `top1` among the frames that were not called unknown.
        coverage: Share of the scored frames that were not called unknown and whose score reaches the threshold.
        top1_above_threshold: `top1` among those.
        confusion: Counts; the K rows are the truth, the K columns the answer. A model with an unknown rule has one
            more column for it, and frames of none of the classes one more row.
        classes: Scores of each class, in the model's order.
        headline: Top-1 with the unknown rule and without, and how many frames are answered, with their intervals.
        intervals: 95 % interval of other figures, by their names: Wilson's of shares of the frames, else by bootstrap;
            of a recording by blocks of time, see `time_blocks`.
    """

    frames: FrameCounts
    top1: float | None
    top5: float | None
    balanced_accuracy: float | None
    macro_f1: float | None
    unknown: float | None
    top1_answered: float | None
    coverage: float | None
    top1_above_threshold: float | None
    confusion: tuple[tuple[int, ...], ...]
    classes: tuple[ClassReport, ...]
    headline: metrics.Headline | None = None
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    def reaches(self, limit: float) -> bool:
        """Whether top-1 is at least the limit, where lost frames are wrong."""
        if self.top1 is None:
            return False
        if not self.frames.lost:
            return self.top1 >= limit
        right = round(self.top1 * self.frames.scored)  # a quotient of whole numbers is rounded as its decimal is
        return right / (self.frames.scored + self.frames.lost) >= limit

    def summary(self) -> list[str]:
        """Returns the shares in one line, and what can be believed of them in another."""
        figures = {"top-1": self.top1, "balanced": self.balanced_accuracy}
        if self.unknown:
            figures |= {"unknown": self.unknown, "top-1 of the answered": self.top1_answered}
        return quality(figures) + ([] if self.headline is None else [f"95 %       {self.headline.in_words()}"])

    def figures(self, spec: ModelSpec, threshold: float) -> list[Figure]:
        """Returns the shares that mean something for this model and threshold."""
        found = self.headline
        if found is None:
            return []
        of_none = " but for none of the classes" * (len(self.confusion) > len(self.classes))
        figures = [_figure("top-1 accuracy" + (f", unknown is wrong{of_none}" if spec.unknown else ""), found.top1)]
        if spec.unknown:
            figures.append(_figure("top-1 accuracy without the unknown rule", found.top1_without_rule))
            ends = (1 - found.coverage.high, 1 - found.coverage.low)
            figures.append(Figure("of frames called unknown", 1 - found.coverage.value, interval=ends))
            if found.top1_answered is not None:
                figures.append(_figure("top-1 of the others", found.top1_answered))
        others = [("top-5 accuracy", "top5")] if len(spec.class_names) > MOST_WITHOUT_TOP5 else []
        others += [("balanced accuracy", "balanced_accuracy"), ("macro F1", "macro_f1")]
        if threshold > 0.0:
            others.append((f"of frames score {threshold:g} or more", "coverage"))
            others.append((f"top-1 at score {threshold:g} or more", "top1_above_threshold"))
        named = [(name, key, getattr(self, key)) for name, key in others]
        figures += [
            Figure(name, value, interval=self.intervals.get(key)) for name, key, value in named if value is not None
        ]
        return figures


class Multiclass(ClassTask):
    """One class an image."""

    name: str = "multiclass"
    is_exclusive: bool = True
    gates: tuple[Gate, ...] = (Gate("min_accuracy", "top-1", is_least=True),)
    timeline: TimelineKind = "strips"
    order_of_worst: str = "mistakes first, the most confident one at the top; then the closest calls"

    def read(self, logits: FloatArray, temperature: float) -> FloatArray:
        """Returns the softmax over the first axis, over the temperature."""
        scaled = logits / np.float32(temperature)
        exponentials = np.exp(scaled - scaled.max(0))
        return np.asarray(exponentials / exponentials.sum(0), np.float32)

    def text(self, prediction: Prediction) -> str:
        """Returns the class."""
        return UNKNOWN if prediction.unknown else prediction.name

    def margin(self, prediction: Prediction) -> float:
        """Returns by how much the best score exceeds the second."""
        second, best = np.partition(prediction.scores, -2)[-2:]
        return float(best - second)

    def disagreements(self, ours: Prediction, theirs: Prediction, common: Sequence[str]) -> list[tuple[str, str]]:
        """Returns both answers where they are different classes."""
        pair = (self.text(ours), self.text(theirs))
        return [pair] if pair[0] != pair[1] else []

    def answered(self, prediction: Prediction) -> Flags:
        """Returns the best class alone."""
        flags = np.zeros(len(prediction.class_names), np.bool_)
        flags[prediction.top] = not prediction.unknown
        return flags

    def wanted(self, averages: Numbers, unknown: float, answers: Flags, thresholds: FloatArray, band: float) -> Flags:
        """Returns the one class, or `unknown`, that is better than the one held: first known or unknown, then which."""
        holder = int(answers.argmax())
        best = int(averages.argmax())
        is_unknown = holder == len(averages)
        for_change = 1.0 - 2.0 * unknown if is_unknown else 2.0 * unknown - 1.0
        winner = holder
        if for_change > band:
            winner = best if is_unknown else len(averages)
        elif not is_unknown and averages[best] > averages[holder] + band:
            winner = best
        flags = np.zeros_like(answers)
        flags[winner] = True
        return flags

    def entropy(self, prediction: Prediction) -> float:
        """Returns the entropy of the scores."""
        return metrics.entropy(prediction.scores)

    def usual_columns(self, names: Sequence[str]) -> tuple[str, ...]:
        """Returns the column of the class."""
        return ("class",)

    def label_columns(self, header: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
        """Returns the column of the class."""
        return ("class",)

    def truth_of_text(self, text: str, names: Sequence[str], where: str) -> str | None:
        """Returns the class that a text names; nothing is known where the text is empty or `UNLABELLED`.

        `NONE_OF_THESE` is what is true of an image of no class.

        Raises:
            DataError: If it is no class of the model.
        """
        if not text or (text == UNLABELLED and text not in names):
            return None
        if is_none_of_these(text, names, where):
            return text
        require_known({text}, names, where)
        return text

    def truth_of_numbers(self, columns: Sequence[str], values: Sequence[float]) -> str:
        """Returns the class with the largest number."""
        return columns[int(np.argmax(values))]

    def kept(self, prediction: Prediction, truth: Truth | None) -> Prediction:
        """Returns it without embedding, with the best classes and the known one only, best first."""
        best: list[int] = np.argsort(-prediction.scores, kind="stable")[:KEPT_CLASSES].tolist()
        known = [index for index, name in enumerate(prediction.class_names) if name == truth and index not in best]
        kept = best + known
        return dataclasses.replace(
            prediction,
            embedding=np.empty(0, np.float32),
            class_names=tuple(prediction.class_names[index] for index in kept),
            scores=prediction.scores[kept],
            top=0,
        )

    def is_right(self, prediction: Prediction, truth: Truth) -> bool:
        """Whether the known class is answered; of an image of no class whether it is called unknown."""
        return prediction.unknown if truth == NONE_OF_THESE else self.text(prediction) == text_of(truth)

    def badness(self, prediction: Prediction, truth: Truth | None) -> float:
        """Orders confident mistakes (1 to 2), images wrongly called unknown (1), close calls (0 to 1), unlabelled ones.

        An image of no class that is called unknown is no close call. Of the others, whether the network's own best
        class is the known one decides what is a mistake.
        """
        if truth is None:
            return -self.margin(prediction)
        if prediction.unknown:
            return 1.0 if truth != NONE_OF_THESE else 0.0
        if _rank(prediction, truth) > 0:
            return 1.0 + prediction.score
        return 1.0 - self.margin(prediction)

    def score(
        self,
        frames: FrameCounts,
        scored: Sequence[tuple[Truth, Prediction]],
        spec: ModelSpec,
        threshold: float,
        sampling: Sampling | None = None,
    ) -> MulticlassScores:
        """Returns how often answers are right, and which class was taken for which."""
        names = spec.class_names
        position = {name: index for index, name in enumerate((*names, UNKNOWN) if spec.unknown else names)}
        truth = [len(names) if known == NONE_OF_THESE else position[text_of(known)] for known, _ in scored]
        found = [position[self.text(one)] for _, one in scored]
        of_class = np.array(truth, np.int64) < len(names)
        confusion = metrics.confusion_matrix(truth, found, len(names) + 1)
        ranks = np.array([_rank(one, known) for known, one in scored], np.int64)
        is_unknown = np.array([one.unknown for _, one in scored], np.bool_)
        answered = [(known, one) for known, one in scored if not one.unknown]
        sure = [(known, one) for known, one in answered if one.score >= threshold]
        is_sure = np.array([not one.unknown and one.score >= threshold for _, one in scored], np.bool_)
        classes = class_reports(names, metrics.per_class(confusion))
        rows = len(names) + (not of_class.all())
        return MulticlassScores(
            frames=frames,
            top1=self._accuracy(scored),
            top5=share((ranks[of_class] < 5).tolist()),
            balanced_accuracy=metrics.balanced_accuracy(confusion, len(names)) if of_class.any() else None,
            macro_f1=macro_f1(classes, confusion.sum(axis=0)) if scored else None,
            unknown=1 - len(answered) / len(scored) if scored else None,
            top1_answered=self._accuracy(answered),
            coverage=len(sure) / len(scored) if scored else None,
            top1_above_threshold=self._accuracy(sure),
            confusion=tuple(tuple(row[: len(position)]) for row in confusion[:rows].tolist()),
            classes=classes,
            headline=metrics.headline(ranks == 0, is_unknown, ~of_class, sampling),
            intervals=_intervals(
                truth, found, len(names), _Ranked(ranks, of_class, is_sure), sampling or Independent(len(scored))
            ),
        )

    def _accuracy(self, scored: Sequence[tuple[Truth, Prediction]]) -> float | None:
        return share([self.is_right(one, known) for known, one in scored])

    def columns(self, names: Sequence[str]) -> tuple[str, ...]:
        """Returns the columns of the known and the answered class, and of the scores of both."""
        return ("truth", "predicted", "score", "margin", "truth_score")

    def cells(self, prediction: Prediction | None, truth: Truth | None, names: Sequence[str]) -> list[str]:
        """Returns both classes and their scores; that of the answer is of the network's best class."""
        known = text_of(truth)
        if prediction is None:
            return [known, "", "", "", ""]
        figures = [f"{prediction.score:.6f}", f"{self.margin(prediction):.6f}"]
        place = prediction.class_names.index(known) if known and known != NONE_OF_THESE else None
        truth_score = "" if place is None else f"{prediction.scores[place]:.6f}"
        return [known, self.text(prediction), *figures, truth_score]


def _figure(name: str, share: Estimate) -> Figure:
    return Figure(name, share.value, interval=(share.low, share.high))


@dataclass(frozen=True, eq=False)
class _Ranked:
    """Of n scored frames (n,): how many classes are ranked before the known one, and which frames are meant.

    Attributes:
        ranks: The classes before it.
        of_class: Whether it is a class at all.
        is_sure: Whether the answer reaches the threshold, and is not unknown.
    """

    ranks: metrics.Counts
    of_class: Flags
    is_sure: Flags


def _intervals(
    truth: Sequence[int], found: Sequence[int], classes: int, ranked: _Ranked, sampling: Sampling
) -> dict[str, tuple[float, float]]:
    """Returns the 95 % intervals of the figures beside the headline.

    Args:
        truth: (n,) known classes; one more than the classes is none of them.
        found: (n,) answers; of a model with an unknown rule, one more than the classes is that.
        classes: How many there are.
        ranked: How the answers are right.
        sampling: Of the frames.
    """
    if not truth:
        return {}
    is_best, is_sure, of_class = ranked.ranks == 0, ranked.is_sure, ranked.of_class
    shares = {"coverage": sampling.share(is_sure)}
    if of_class.any():
        shares["top5"] = sampling.share((ranked.ranks < 5) & of_class, of_class)
    if is_sure.any():
        shares["top1_above_threshold"] = sampling.share(is_best & of_class & is_sure, is_sure)
    return {name: (one.low, one.high) for name, one in shares.items()} | metrics.mean_intervals(
        truth, found, classes, sampling
    )


def _rank(prediction: Prediction, truth: Truth) -> int:
    """How many classes are ranked before the known one; all of them where it is none."""
    if truth == NONE_OF_THESE:
        return len(prediction.class_names)
    return metrics.true_rank(prediction.scores, prediction.class_names.index(text_of(truth)))
