"""What was recognised in one image, whatever the task."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import UNKNOWN, Task


def _nothing() -> FloatArray:
    return np.empty(0, np.float32)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What was recognised in one image.

    Attributes:
        class_names: The K classes of the model, or the names of its K numbers.
        scores: (K,) float32 in [0, 1]. Multiclass: softmax of the logits over the temperature, sum 1; multilabel:
            the sigmoid of each; regression: empty.
        top: Index of the largest logit: the best class of this image, and what the activation map belongs to.
        activation: (rows, columns) float32 map of `top`, in units of its logit: positive where the image
            speaks for it, negative where it speaks against it. None for a model without spatial features.
        embedding: (D,) float32, the last hidden layer.
        task: What the model answers, see `spec.ModelSpec`.
        thresholds: (K,) float32, the score from which each class counts as seen, for multilabel; empty otherwise.
        values: (K,) float32 numbers in their `units`, for regression; empty otherwise.
        units: Of each number, for regression; empty otherwise.
        unknown: Whether the model's rule says that the image shows none of the classes.
        held: Of an answer that was smoothed over time (`stream.smoothing`): indices of the classes it holds on to, best
            first; one for multiclass, those seen for multilabel. They are the answer even where the scores of this
            moment say otherwise. None where the scores decide.
        known_score: What the model's rule compares with its threshold, see `spec.UnknownRule`: low where the image
            shows none of the classes. None without a rule.
    """

    class_names: tuple[str, ...]
    scores: FloatArray
    top: int
    activation: FloatArray | None
    embedding: FloatArray
    task: Task = "multiclass"
    thresholds: FloatArray = field(default_factory=_nothing)
    values: FloatArray = field(default_factory=_nothing)
    units: tuple[str, ...] = ()
    unknown: bool = False
    held: tuple[int, ...] | None = None
    known_score: float | None = None

    @property
    def name(self) -> str:
        """The best class, or the one held; the name of the largest number."""
        return self.class_names[self._best]

    @property
    def score(self) -> float:
        """The score of the class of that name, in [0, 1]; 0 for regression."""
        return float(self.scores[self._best]) if len(self.scores) else 0.0

    @property
    def _best(self) -> int:
        return self.held[0] if self.held else self.top

    @property
    def seen(self) -> frozenset[str]:
        """The classes that reach their own threshold; for multiclass all of them."""
        return frozenset(name for name, _ in self.ranked(len(self.class_names)))

    def ranked(self, top_k: int, threshold: float = 0.0) -> list[tuple[str, float]]:
        """Returns the answer: up to `top_k` (class, score), best first; equal scores in label order.

        Args:
            top_k: Most classes that are wanted.
            threshold: Least score in [0, 1]; for multilabel a class must also reach its own threshold, or be held.

        Returns:
            For an unknown image only (`UNKNOWN`, 1.0), whatever the arguments are: the rule says yes or no, and its
            score is no probability. For regression nothing. A class that is held comes first; below the threshold it
            leaves no answer at all rather than its challenger's.
        """
        if self.unknown:
            return [(UNKNOWN, 1.0)]
        best = self._order()[: max(top_k, 0)]
        if self.held and self.score < threshold:
            return []
        return [(self.class_names[i], float(self.scores[i])) for i in best if self.scores[i] >= threshold]

    def _order(self) -> npt.NDArray[np.intp]:
        """Returns the indices of the classes that are an answer, best first."""
        order = np.argsort(-self.scores, kind="stable")
        if self.held is not None:
            held = np.array(self.held, np.intp)
            return held if len(self.thresholds) else np.concatenate([held, order[~np.isin(order, held)]])
        return order[self.scores[order] >= self.thresholds[order]] if len(self.thresholds) else order
