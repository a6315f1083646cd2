"""The proof that an ONNX graph computes what torch computes: both answer the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from onnx import ModelProto
from torch import Tensor, nn

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import DataError, FrameError, ModelError
from cnn_perception.image.limits import read_picture
from cnn_perception.image.messages import RgbImage, decode_file_bytes
from cnn_perception.model.spec import ActivationMethod, InputSpec, ParitySource
from cnn_perception.pipeline.preprocess import preprocess
from training.checkpoint import Checkpoint
from training.graphs.activation_map import shown_logit
from training.networks.backbones import Split
from training.tasks.by_name import task_of

ACTIVATION_TOLERANCE = 1e-3
"""Largest difference of an activation, as a share of the map's largest magnitude."""
BATCH = 8
_NOISE_IMAGES = 16  # a noise image tests nothing that another does not

Batch = npt.NDArray[np.float32]
Image = Callable[[], Batch]
"""Makes the input of one image, (3, H, W): large sets need not fit into memory."""
ImagePart = Literal["training", "validation", "reference"]
"""What an image is used for, as errors name it."""


class ParityError(ModelError):
    """The ONNX graph does not compute what torch computed."""


def require_parity(proto: ModelProto, model: nn.Module, checkpoint: Checkpoint, count: int, tolerance: float) -> None:
    """Compares the logits of a float32 graph with those of torch, before a smaller one is made of it.

    Args:
        proto: The graph: `image` (N, 3, H, W) -> `logits` (N, K).
        model: The network in torch, in evaluation mode.
        checkpoint: Names the validation images and their preprocessing; where none is on this machine noise is taken.
        count: How many images are compared at most.
        tolerance: Largest absolute difference of a logit, or of a number in its standard deviations.

    Raises:
        ParityError: If a logit differs by more than the tolerance, or is no finite number.
        DataError: If a validation image cannot be read any more.
    """
    _, images = inputs(checkpoint, count)
    deviations = np.array([deviation for _, deviation in checkpoint.scaling] or 1.0, np.float32)
    for found, expected in _answers(runner(proto, ["logits"]), model, images):
        difference = float((np.abs(found - expected) / deviations).max())
        if not difference <= tolerance:  # catches NaN, too
            raise ParityError(
                f"a logit of the fp32 graph differs by {difference:.3g} from torch's (magnitudes up to "
                f"{np.abs(expected).max():.3g}), tolerance {tolerance:g}; nothing is written; report the backbone "
                f"{checkpoint.backbone}"
            )


def _answers(
    run: Callable[[Batch], list[Batch]], model: nn.Module, images: Sequence[Image]
) -> Iterator[tuple[Batch, Batch]]:
    """Yields the logits (N, K) of the graph and of torch, a batch of images at a time."""
    for start in ProgressBar(range(0, len(images), BATCH), desc="parity", unit="batch", leave=False):
        batch = np.stack([image() for image in images[start : start + BATCH]])
        with torch.no_grad():
            expected = model(torch.from_numpy(batch)).numpy()
        (found,) = run(batch)
        yield found, expected


def agreement(found: Batch, expected: Batch, is_near: npt.NDArray[np.bool_], checkpoint: Checkpoint) -> float:
    """Returns the share of images that two networks decide alike, see `LearningTask.agrees`.

    Args:
        found: (n, K) logits of the one.
        expected: (n, K) of the other.
        is_near: (n, K), whether they differ by no more than is tolerated.
        checkpoint: What was fitted.
    """
    fitted = checkpoint.calibration
    ours = found.astype(np.float64) / fitted.temperature
    theirs = expected.astype(np.float64) / fitted.temperature
    return float(task_of(checkpoint.task).agrees(ours, theirs, is_near, fitted.thresholds).mean())


def check_activation(proto: ModelProto, split: Split, method: ActivationMethod, checkpoint: Checkpoint) -> None:
    """Compares the activation maps of a few images with those of torch's own gradient of the whole head.

    Raises:
        ParityError: If they differ by more than `ACTIVATION_TOLERANCE`.
    """
    batch = np.stack([image() for image in inputs(checkpoint, 4)[1]])
    logits, found = runner(proto, ["logits", "activation"])(batch)
    cut = split.tokens or split
    with torch.no_grad():
        features = cut.body(torch.from_numpy(batch))
    features.requires_grad_(True)
    logits_of_torch: Tensor = cut.head(features.clone())[0]  # torchvision's heads work in place
    # of two equal classes, the one that the graph took
    top = shown_logit(torch.from_numpy(logits), checkpoint.task)[:, None]
    (gradient,) = torch.autograd.grad(logits_of_torch.gather(1, top).sum(), features)
    # A logit that is a mean over the cells has a gradient divided by their number; the exact map is not divided.
    scale = found[0].size if method == "cam" else 1
    if split.tokens is None:
        weighed = (gradient.mean((2, 3), keepdim=True) * features).sum(1)
    else:
        cells = slice(split.tokens.prefix, None)
        weighed = (gradient[:, cells].mean(1, keepdim=True) * features[:, cells]).sum(2).reshape(found.shape)
    expected = scale * weighed.detach().numpy()
    difference = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-20))
    if not difference <= ACTIVATION_TOLERANCE:
        raise ParityError(
            f"the activation map of the ONNX graph differs by {difference:.3g} of its size from torch's, tolerance "
            f"{ACTIVATION_TOLERANCE:g}; nothing is written; please report the backbone {checkpoint.backbone}"
        )


def runner(proto: ModelProto, outputs: list[str]) -> Callable[[Batch], list[Batch]]:
    """Returns what runs a graph on a batch, (N, 3, H, W) float32, and gives the outputs asked for."""
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda batch: session.run(outputs, {"image": batch})


def inputs(checkpoint: Checkpoint, count: int) -> tuple[ParitySource, list[Image]]:
    """Returns validation images from all over the set, at most `count`, or noise where none is on this machine."""
    size = checkpoint.input
    paths = [Path(path) for path in checkpoint.val_images if Path(path).is_file()]
    if paths:
        chosen = evenly(len(paths), count)
        return "validation", [partial(prepared_image, paths[index], size, "validation") for index in chosen]
    random = np.random.default_rng(0)
    shape = (3, size.height, size.width)
    return "noise", [lambda: random.standard_normal(shape, np.float32)] * min(count, _NOISE_IMAGES)


def evenly(length: int, count: int) -> list[int]:
    """Returns indices from all over a list: the first, the last and what lies evenly between, at most `count`.

    Args:
        length: Of the list, at least 1.
        count: At least 1.
    """
    return [int(index) for index in np.linspace(0, length - 1, min(count, length)).round()]


def prepared_image(path: Path, size: InputSpec, part: ImagePart) -> Batch:
    """Returns an image as the robot would prepare it: (3, H, W) float32.

    Raises:
        DataError: If it cannot be read any more.
    """
    return preprocess(decoded_image(path, part), size)


def decoded_image(path: Path, part: ImagePart) -> RgbImage:
    """Returns an image as the robot would decode it: (H, W, 3) uint8.

    Raises:
        DataError: If it cannot be read any more.
    """
    try:
        return decode_file_bytes(read_picture(path))
    except (OSError, FrameError) as error:
        raise DataError(f"{path}: this {part} image cannot be read any more ({error}); restore it") from None
