"""From the bytes of a camera's message to a prediction: decode -> preprocess -> run -> postprocess.

The node, the evaluator and the tests all go through this class, so what is measured offline is what the robot does.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnn_perception.errors import FrameError
from cnn_perception.fastest.choice import Choice
from cnn_perception.fastest.trials import load_fastest
from cnn_perception.image.messages import Decoded, EncodedFile, EncodedImage, RgbImage, decode_frame
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.model.spec import ModelSpec
from cnn_perception.pipeline.postprocess import Postprocessor
from cnn_perception.pipeline.preprocess import InputTensor, preprocess
from cnn_perception.pipeline.unit_map import UnitMaps
from cnn_perception.tasks.prediction import Prediction


@dataclass(frozen=True)
class Timings:
    """How long each stage of one frame took, in milliseconds; inference is that of the batch the frame was in."""

    decode_ms: float
    preprocess_ms: float
    inference_ms: float
    postprocess_ms: float

    def by_stage(self) -> dict[str, float]:
        """Returns the milliseconds by the stage's name."""
        return {name.removesuffix("_ms"): value for name, value in dataclasses.asdict(self).items()}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A decoded and preprocessed frame: its image, the model's input, and how long that took in milliseconds."""

    decoded: Decoded
    tensor: InputTensor
    decode_ms: float
    preprocess_ms: float

    @property
    def image(self) -> RgbImage:
        """The picture."""
        return self.decoded.image


@dataclass(frozen=True, eq=False)
class Result:
    """A frame's image, what was recognised in it, and how long that took."""

    image: RgbImage
    prediction: Prediction
    timings: Timings


class Pipeline:
    """A loaded model and everything between a camera message's bytes and a prediction.

    Attributes:
        model: The model.
        fastest: Of which ways to run it this is the fastest; None where none was looked for.
    """

    def __init__(self, model: OnnxModel, fastest: Choice | None = None) -> None:
        self.model = model
        self.fastest = fastest
        self.units = UnitMaps(model)
        self._postprocess = Postprocessor(model.spec)

    @classmethod
    def load(
        cls,
        model: Path | str,
        options: SessionOptions | None = None,
        log: Callable[[str], None] = lambda _: None,
        found: Choice | None = None,
    ) -> Pipeline:
        """Returns the pipeline of a model file after loading, verifying and warming it up.

        Args:
            model: The file; where the providers are `fastest`, perhaps another one of the same network.
            options: How it is to be run.
            log: Is told what takes long, before it does.
            found: What another process has found to be the fastest, so that it is not looked for again; None for
                nothing.

        Raises:
            ModelError: If the file cannot be used.
            ConfigError: If a GPU is required and none runs it.
        """
        if options is not None and options.picks_fastest:
            return cls(*load_fastest(Path(model), options, log, found))
        return cls(OnnxModel(Path(model), options, log))

    @property
    def choice(self) -> str:
        """What the ways to run it took of which it is the fastest, in one line; empty where none was looked for."""
        return "" if self.fastest is None else self.fastest.text

    @property
    def spec(self) -> ModelSpec:
        """The model's own description."""
        return self.model.spec

    def run(self, frame: EncodedImage | EncodedFile, activation: bool = True) -> Result:
        """Returns what is recognised in one frame: `prepare`, then `infer`.

        Args:
            frame: A raw or compressed image, from `image.encoded_from_message`.
            activation: Whether the activation map is wanted.

        Raises:
            FrameError: If the image cannot be used, or the model returned NaN for it.
        """
        return self.infer(self.prepare(frame), activation)

    def recognise(self, image: RgbImage) -> Prediction:
        """Returns what is recognised in an image that is decoded already, without its activation map.

        Raises:
            FrameError: If the model fails, or returned NaN.
        """
        return self.infer(self.prepare_image(image), activation=False).prediction

    def prepare_image(self, image: RgbImage) -> Prepared:
        """Returns an image that is decoded already, such as a part of one, preprocessed."""
        started = time.perf_counter()
        tensor = preprocess(image, self.spec.input)
        return Prepared(Decoded(image), tensor, 0.0, (time.perf_counter() - started) * 1e3)

    def prepare(self, frame: EncodedImage | EncodedFile) -> Prepared:
        """Returns one frame decoded and preprocessed: the first half of `run`.

        Raises:
            FrameError: If the image cannot be used.
        """
        started = time.perf_counter()
        decoded = decode_frame(frame)
        between = time.perf_counter()
        tensor = preprocess(decoded.image, self.spec.input)
        finished = time.perf_counter()
        return Prepared(decoded, tensor, (between - started) * 1e3, (finished - between) * 1e3)

    def infer(self, prepared: Prepared, activation: bool = True) -> Result:
        """Returns what the model recognises in one prepared frame: the second half of `run`.

        Raises:
            FrameError: If the model fails, or returned NaN.
        """
        (result,) = self.infer_batch([prepared], activation)
        if isinstance(result, FrameError):
            raise result
        return result

    def infer_batch(self, prepared: Sequence[Prepared], activation: bool = True) -> list[Result | FrameError]:
        """Returns what the model recognises in several frames at once, in one run of it.

        Args:
            prepared: N frames of any cameras.
            activation: Whether the activation maps are wanted.

        Returns:
            N results in order; a `FrameError` in place of a frame for which the model returned NaN.

        Raises:
            FrameError: If the model fails on the batch.
        """
        started = time.perf_counter()
        tensors = [frame.tensor for frame in prepared]
        batch = tensors[0][np.newaxis] if len(tensors) == 1 else np.stack(tensors)
        outputs = self.model.run(batch, activation)
        inferred_ms = (time.perf_counter() - started) * 1e3
        results: list[Result | FrameError] = []
        for frame, output in zip(prepared, outputs, strict=True):
            started = time.perf_counter()
            try:
                prediction = self._postprocess(output)
            except FrameError as error:
                results.append(error)
                continue
            timings = Timings(
                decode_ms=frame.decode_ms,
                preprocess_ms=frame.preprocess_ms,
                inference_ms=inferred_ms,
                postprocess_ms=(time.perf_counter() - started) * 1e3,
            )
            results.append(Result(frame.image, prediction, timings))
        return results
