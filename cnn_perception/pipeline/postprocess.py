"""Raw outputs of the network -> a `Prediction` that says what was recognised, how surely, and where."""

from __future__ import annotations

import numpy as np

from cnn_perception.errors import FrameError
from cnn_perception.model.outputs import FloatArray, Outputs
from cnn_perception.model.spec import ModelSpec, UnknownMethod
from cnn_perception.tasks.prediction import Prediction
from cnn_perception.tasks.registry import task_of

_NOTHING = np.empty(0, np.float32)


class Postprocessor:
    """Turns outputs into predictions as one model's spec says."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._task = task_of(spec.task)
        self._thresholds = np.array(spec.thresholds, np.float32)
        self._centres = np.array(spec.unknown.centres if spec.unknown else (), np.float32)

    def __call__(self, outputs: Outputs) -> Prediction:
        """Returns the prediction for one image.

        Raises:
            FrameError: If an output is not finite: a NaN is never published.
        """
        spec = self._spec
        for values in (outputs.logits, outputs.embedding, outputs.activation):
            if values is not None and not np.isfinite(values).all():
                raise FrameError("not_finite", "the model returned NaN or Inf for this image; it was dropped")
        answers = self._task.read(outputs.logits, spec.temperature)
        known = self._known_score(outputs)
        return Prediction(
            class_names=spec.class_names,
            scores=answers if self._task.has_classes else _NOTHING,
            top=int(outputs.logits.argmax()),
            activation=outputs.activation,
            embedding=outputs.embedding,
            task=spec.task,
            thresholds=self._thresholds,
            values=_NOTHING if self._task.has_classes else answers,
            units=spec.units,
            unknown=known is not None and self._is_unknown(known),
            known_score=known,
        )

    def _known_score(self, outputs: Outputs) -> float | None:
        """Returns what the rule of `spec.UnknownRule` looks at; None without one."""
        rule = self._spec.unknown
        return None if rule is None else known_score(outputs, rule.method, self._centres)

    def _is_unknown(self, known: float) -> bool:
        """Applies the rule."""
        rule = self._spec.unknown
        return rule is not None and bool(known < np.float32(rule.threshold))


def known_score(outputs: Outputs, method: UnknownMethod, centres: FloatArray) -> float:
    """Returns the score of `spec.UnknownRule` of one image, as the robot computes it: low where it shows no class.

    Args:
        outputs: Of the image.
        method: Of the rule.
        centres: (K, D) of the rule; not used for `energy`.
    """
    if method == "energy":
        peak = outputs.logits.max()
        return float(peak + np.log(np.exp(outputs.logits - peak).sum()))
    length = max(float(np.linalg.norm(outputs.embedding)), 1e-12)  # an embedding of zeros is near to no centre
    return float((centres @ outputs.embedding).max() / length - 1.0)


def postprocess(outputs: Outputs, spec: ModelSpec) -> Prediction:
    """Turns the outputs of one image into a prediction; for many images keep one `Postprocessor`.

    Raises:
        FrameError: If an output is not finite: a NaN is never published.
    """
    return Postprocessor(spec)(outputs)
