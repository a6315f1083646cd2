"""What a picture is like, as numbers in which look-alikes are near, and what a model says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnn_perception.errors import ConfigError
from cnn_perception.image.messages import RgbImage
from cnn_perception.label_text import NONE_OF_THESE, SEPARATOR
from cnn_perception.model.onnx_model import SessionOptions
from cnn_perception.model.spec import InputSpec, ModelSpec
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.pipeline.preprocess import preprocess
from cnn_perception.tasks.prediction import Prediction
from cnn_perception.tasks.registry import task_of
from training.baselines.features import colour_histogram
from training.baselines.hog import hog
from training.collect.sources.frame import Answer

Vector = npt.NDArray[np.float32]
"""(D,) of length 1: pictures that look alike are near each other, and no two are farther apart than 2."""
Features = Callable[[RgbImage], Vector]

_SIDE = 64
_CELL = 16
_COLOURS = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
_SMALL = InputSpec(_SIDE, _SIDE, "squash", 1.0, "bilinear", *_COLOURS)


@dataclass(frozen=True, eq=False)
class Description:
    """What is known of a picture once it was looked at.

    Attributes:
        look: Its edges and colours: what near duplicates in time are known by. A network that has learned its classes
            finds pictures of one class alike that a person would not.
        vector: What it is like, for the choice.
        answer: What a model says of it; None without one.
    """

    look: Vector
    vector: Vector
    answer: Answer | None


@dataclass(frozen=True)
class Models:
    """The model that guesses, and one that may disagree with it.

    Attributes:
        pipeline: Of the model.
        shadow: Of the other one; None for none.
    """

    pipeline: Pipeline
    shadow: Pipeline | None = None

    @property
    def spec(self) -> ModelSpec:
        """The model's own description."""
        return self.pipeline.spec

    def answer(self, prediction: Prediction, image: RgbImage) -> Answer:
        """Returns what the model says, and how much it is in doubt.

        An image that is `unknown` to it, or of which the other model says something else, is in doubt by 1; others by
        1 less the margin of `TaskRules.margin`. Numbers are in doubt by the largest difference between the models.

        Raises:
            FrameError: If the other model fails.
        """
        task = task_of(prediction.task)
        sha256 = self.pipeline.model.sha256
        if prediction.unknown and task.has_classes:
            return Answer(NONE_OF_THESE, 1.0, "unknown", sha256)
        text = task.text(prediction)
        guess = NONE_OF_THESE if text == SEPARATOR else text
        if self.shadow is not None:
            other = self.shadow.recognise(image)
            common = [name for name in self.spec.class_names if name in self.shadow.spec.class_names]
            if task.disagreements(prediction, other, common):
                return Answer(guess, 1.0, "disagreement", sha256)
            if differences := task.differences(prediction, other, common):
                return Answer(guess, max(differences.values()), "disagreement", sha256)
        doubt = 1.0 - task.margin(prediction) if task.has_classes else None
        return Answer(guess, doubt, "margin", sha256)


@dataclass(frozen=True)
class Describer:
    """Looks at pictures; may be used by several threads.

    Attributes:
        models: Say what they are; None says nothing.
        features: Say what they are like, in place of the model's embedding, or of edges and colours without one.
    """

    models: Models | None = None
    features: Features | None = None

    def __call__(self, image: RgbImage) -> Description:
        """Returns what is known of a picture.

        Raises:
            FrameError: If a model fails, or returned NaN.
        """
        look = edges_and_colours(image)
        if self.models is None:
            return Description(look, look if self.features is None else self.features(image), None)
        prediction = self.models.pipeline.recognise(image)
        vector = unit(prediction.embedding) if self.features is None else self.features(image)
        return Description(look, vector, self.models.answer(prediction, image))

    def vector(self, image: RgbImage) -> Vector:
        """Returns what a picture is like, and nothing else of it.

        Raises:
            FrameError: If the model fails, or returned NaN.
        """
        if self.features is not None:
            return self.features(image)
        if self.models is not None:
            return unit(self.models.pipeline.recognise(image).embedding)
        return edges_and_colours(image)


def load_models(model: Path, shadow: Path | None) -> Models:
    """Loads the models for the highest rate: on a CPU with one core for each of several frames.

    Raises:
        ModelError: If a file cannot be used.
        ConfigError: If the models answer different questions.
    """
    ours = _load(model)
    theirs = _load(shadow) if shadow is not None else None
    if theirs is not None:
        if theirs.spec.task != ours.spec.task:
            raise ConfigError(f"--shadow {shadow}: is a {theirs.spec.task} model, --model a {ours.spec.task} one")
        if not set(ours.spec.class_names) & set(theirs.spec.class_names):
            raise ConfigError(f"--shadow {shadow}: has no class in common with --model; give another")
    return Models(ours, theirs)


def _load(path: Path) -> Pipeline:
    pipeline = Pipeline.load(path)
    if pipeline.model.provider != "CPUExecutionProvider":
        return pipeline
    return Pipeline.load(path, SessionOptions(providers=("CPUExecutionProvider",), intra_op_threads=1))


def edges_and_colours(image: RgbImage) -> Vector:
    """Returns what a picture is like without any network: its edges (HOG) and its colours, of equal weight.

    Noise of 4 grey levels moves it by 0.1, 5 % of brightness by 0.12 (on frames of a drive), the next frame of a camera
    on a moving car by 0.17, another place on the same track by 0.5.
    """
    pixels = preprocess(image, _SMALL)[np.newaxis]
    return unit(np.concatenate([unit(hog(pixels, _CELL)[0]), colour_histogram(pixels)[0]]))


def unit(vector: npt.NDArray[np.float32]) -> Vector:
    """Returns (D,) numbers scaled to the length 1; zeros stay zeros."""
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)
