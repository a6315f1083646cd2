"""What the original graph answers: as it was exported, run by ONNX Runtime on its own kind of input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from cnn_perception.model.spec import CheckedOutput, InputSpec, Task
from training.adopt.graph.head import Head
from training.adopt.graph.image_input import ImageInput
from training.adopt.graph.rewriting import LEAST_DOUBT, LOGITS, Rewritten
from training.adopt.graph.scores_output import ScoresOutput
from training.adopt.graph.tensors import Array, runner

Floats = npt.NDArray[np.float32]
_SMALLEST_SCORE = 1e-30


@dataclass(eq=False)
class Reference:
    """The original graph.

    Attributes:
        proto: As it was exported.
        image: Its input.
        scores: Its output.
        head: What was found in the rewritten graph.
        rewritten: That graph, for its names.
        input: How images are prepared.
    """

    proto: ModelProto
    image: ImageInput
    scores: ScoresOutput
    head: Head
    rewritten: Rewritten
    input: InputSpec
    _tensors: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self._tensors = {"logits": self.scores.logits, "scores": self.scores.scores}
        if self.head.embedding != LOGITS:
            self._tensors["embedding"] = self.rewritten.original(self.head.embedding)
        if self.head.features is not None:
            self._tensors["features"] = self.rewritten.original(self.head.features.tensor)
        self._names = [*dict.fromkeys(self._tensors.values())]
        self._run = runner(self.proto, self._names)

    def answers(self, tensor: Floats) -> dict[CheckedOutput, Floats]:
        """Returns what the original gives for one image.

        Args:
            tensor: (3, height, width) float32, as the robot prepares it.

        Returns:
            `logits` (K,), `scores` (K,) as they are in the original, `embedding` (D,), and `activation` (rows, columns)
            if any.
        """
        mean, std = (np.reshape(values, (3, 1, 1)) for values in (self.input.mean, self.input.std))
        pixels = np.asarray(tensor * std + mean, np.float32)[np.newaxis]
        given = self.image.of(pixels, self.input.mean, self.input.std)
        given = np.repeat(given, self.image.batch or 1, axis=0)
        values = dict(zip(self._names, self._run({self.image.name: given}), strict=True))
        found = {what: values[name][0].astype(np.float32) for what, name in self._tensors.items()}
        logits = self._logits(found["logits"].ravel())
        answers: dict[CheckedOutput, Floats] = {
            "logits": logits,
            "scores": self._scores(found["scores"].ravel()),
            "embedding": self._embedding(found, logits),
        }
        return answers | ({"activation": self._map(found["features"], logits)} if "features" in found else {})

    def _logits(self, values: Floats) -> Floats:
        if self.scores.form == "two classes":
            return np.array([0, values[0]], np.float32)
        if self.scores.form == "one score":
            share = np.clip(values[0], LEAST_DOUBT, 1 - LEAST_DOUBT)
            return np.array([0, np.log(share / (1 - share))], np.float32)
        return np.log(np.maximum(values, np.float32(_SMALLEST_SCORE))) if self.scores.form == "logarithm" else values

    def _scores(self, values: Floats) -> Floats:
        """Returns the scores that the original states; of one that gives logits these."""
        if self.scores.behind == "LogSoftmax":
            return np.exp(values)
        if self.scores.classes != self.scores.outputs and self.states_scores:
            return np.array([1 - values[0], values[0]], np.float32)
        return values

    def _embedding(self, found: Mapping[str, Array], logits: Floats) -> Floats:
        if "embedding" not in found:
            return logits
        values = found["embedding"]
        if sum(extent > 1 for extent in values.shape) > 1:
            return np.asarray(values.mean(axis=(1, 2)), np.float32)
        return values.ravel()

    def _map(self, features: Array, logits: Floats) -> Floats:
        assert self.head.features is not None
        weights = self.head.features.weights[logits.argmax()]
        axis = 2 if self.head.features.channels_last else 0
        return np.asarray(np.tensordot(features, weights, (axis, 0)), np.float32)

    @property
    def states_scores(self) -> bool:
        """Whether it gives scores, not logits, as its output."""
        return bool(self.scores.behind) or self.scores.form in ("logarithm", "one score")

    @property
    def task(self) -> Task:
        """What its answers mean."""
        return self.scores.task
