"""Raw outputs of the network -> a `Prediction` that says what was recognised, how surely, and where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnn_perception.errors import FrameError
from cnn_perception.spec import ModelSpec

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Outputs:
    """What the network returned for one image.

    Attributes:
        logits: (K,) float32.
        activation: (rows, columns) float32 map of the top class, see `spec.ActivationSpec`; None without one.
        embedding: (D,) float32, the last hidden layer.
    """

    logits: FloatArray
    activation: FloatArray | None
    embedding: FloatArray


@dataclass(frozen=True, eq=False)
class Prediction:
    """What was recognised in one image.

    Attributes:
        class_names: The K classes of the model.
        scores: (K,) float32, softmax of the logits over the temperature: in [0, 1], sum 1.
        top: Index of the best class.
        activation: (rows, columns) float32 map of the top class, in units of its logit: positive where the image
            speaks for the class, negative where it speaks against it. None for a model without spatial features.
        embedding: (D,) float32, the last hidden layer.
    """

    class_names: tuple[str, ...]
    scores: FloatArray
    top: int
    activation: FloatArray | None
    embedding: FloatArray

    @property
    def name(self) -> str:
        """The best class."""
        return self.class_names[self.top]

    @property
    def score(self) -> float:
        """The score of the best class, in [0, 1]."""
        return float(self.scores[self.top])

    def ranked(self, top_k: int, threshold: float = 0.0) -> list[tuple[str, float]]:
        """Returns up to `top_k` (class, score) with score >= threshold, best first; equal scores in label order."""
        order = np.argsort(-self.scores, kind="stable")[: max(top_k, 0)]
        return [(self.class_names[i], float(self.scores[i])) for i in order if self.scores[i] >= threshold]


def postprocess(outputs: Outputs, spec: ModelSpec) -> Prediction:
    """Turns the outputs of one image into a prediction.

    Raises:
        FrameError: If a logit is not finite: a NaN is never published as a score.
    """
    if not np.isfinite(outputs.logits).all():
        raise FrameError("not_finite", "the model returned NaN or Inf for this image; it was dropped")
    scaled = outputs.logits / np.float32(spec.temperature)
    exponentials = np.exp(scaled - scaled.max())
    scores = exponentials / exponentials.sum()
    return Prediction(spec.class_names, scores, int(scores.argmax()), outputs.activation, outputs.embedding)
