"""How images are prepared for a foreign graph: as the user says, or as the program that exported it always does."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping

from cnn_perception.errors import ConfigError, ModelError
from cnn_perception.model.spec import IMAGENET_MEAN, InputSpec
from training.adopt.foreign_file import ForeignModel
from training.adopt.graph.image_input import ImageInput
from training.adopt.graph.own_normalisation import OwnNormalisation
from training.config import normalisation
from training.config.normalisation import Colours, as_text
from training.config.preparation import Preparation

_UNCHANGED: tuple[Colours, Colours] = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_TORCHVISION_CROP = 0.875
_SCALES = (1.0, 1 / 255)
"""Deviations that only scale pixels, to 0 to 1 and to 0 to 255."""
_NARROW, _WIDE = 0.05, 512.0
"""Spans of the pixels that enter a layer, which no network has learned from: black and white are one, or further apart
than in 0 to 255."""
CAFFE_MEAN: Colours = (123.68 / 255, 116.779 / 255, 103.939 / 255)
"""Of ImageNet, red first, in [0, 1]. Source: keras/src/applications/imagenet_utils.py, mode `caffe`."""
_BLUE_FIRST = (IMAGENET_MEAN[::-1], CAFFE_MEAN[::-1])
_NEAR = 5e-3


def as_exported(given: Preparation, foreign: ForeignModel) -> tuple[Preparation, tuple[str, ...]]:
    """Returns what was said with what the exporting program always does, and what the file's owner should know of it.

    Raises:
        ConfigError: If the file says that it is no classifier.
    """
    if not _is_ultralytics(foreign.metadata):
        return given, _assumed(given)
    task = foreign.metadata.get("task", "classify")
    if task != "classify":
        raise ConfigError(f"{foreign.path}: says that its task is {task!r}, not 'classify'; name a classifier")
    # Source: ultralytics/data/augment.py, classify_transforms: shorter side, centre crop, pixels over 255
    usual = Preparation(_image_size(foreign.metadata), "crop", 1.0, "bilinear", *_UNCHANGED)
    said = {name: value for name, value in dataclasses.asdict(given).items() if value is not None}
    note = "prepared as ultralytics does, unless said otherwise: centre crop, bilinear, mean 0, std 1"
    return dataclasses.replace(usual, **said), (note,)


def _assumed(given: Preparation) -> tuple[str, ...]:
    if given.resize_mode is not None:
        return ()
    return ("nothing was said of how images are resized: taken as torchvision does; see --resize-mode",)


def input_of(given: Preparation, image: ImageInput, where: str) -> InputSpec:
    """Returns the preprocessing of a graph's input, of the size that the graph takes.

    Raises:
        ConfigError: If mean and standard deviation are not said, or cannot be.
    """
    mean, std = _colours(given, image, where)
    try:
        usual = InputSpec(image.height, image.width, "crop", _TORCHVISION_CROP, "bilinear", mean, std)
    except ModelError as error:
        raise ConfigError(f"{error}; give another") from None
    return dataclasses.replace(given, size=None).of(usual)


def doubts(size: InputSpec, image: ImageInput, own: OwnNormalisation) -> tuple[str, ...]:
    """Returns what speaks against a mean and a standard deviation that were said, a line each.

    Args:
        size: The preprocessing.
        image: The graph's input.
        own: What the graph itself does with pixels.
    """
    if image.takes_bytes:
        return ()
    told = []
    if any(math.dist(size.mean, known) < _NEAR for known in _BLUE_FIRST):
        told.append(
            f"--mean {as_text(size.mean)} looks like ImageNet's with blue first: --mean and --std are in the order "
            f"red, green, blue, whatever --channel-order says; if so give --mean {as_text(size.mean[::-1])}"
        )
    if own.steps and (doubt := _twice(size, image, own)):
        told.append(f"right behind its input the graph {', then '.join(own.steps)}: {doubt}")
    return tuple(told)


def _twice(size: InputSpec, image: ImageInput, own: OwnNormalisation) -> str:
    """Returns what is doubtful of normalising pixels before a graph that does so itself; empty if nothing is."""
    only_scales = size.mean == _UNCHANGED[0] and any(
        all(math.isclose(value, scale, rel_tol=1e-3) for value in size.std) for scale in _SCALES
    )
    if not only_scales:
        return (
            "it seems to normalise pixels itself, and --mean and --std do so before; if so give --mean 0 with --std 1 "
            "where it takes 0 to 1, or with --std 0.00392157 where it takes 0 to 255"
        )
    std = size.std[::-1] if image.order == "bgr" else size.std
    spans = [abs(scale) / deviation for scale, deviation in zip(own.scale, std, strict=False)]
    if max(spans) < _NARROW:
        return f"with --std {as_text(size.std)} black and white then differ by {max(spans):.2g}; see --std 0.00392157"
    if min(spans) > _WIDE:
        return f"with --std {as_text(size.std)} black and white then differ by {min(spans):.0f}; see --std 1"
    return ""


def _colours(given: Preparation, image: ImageInput, where: str) -> tuple[Colours, Colours]:
    if image.takes_bytes:
        if (given.mean or _UNCHANGED[0], given.std or _UNCHANGED[1]) != _UNCHANGED:
            raise ConfigError(f"{where}: takes pixels as bytes and normalises them itself; leave --mean and --std out")
        return _UNCHANGED
    if given.mean is None or given.std is None:
        raise ConfigError(
            f"{where}: does not say how pixels are normalised; give --mean and --std, of pixels from 0 to 1: 0 and "
            "1 where it takes these as they are, 0 and 0.00392157 (1/255) where it takes 0 to 255, as many do"
        )
    normalisation.check(given.mean, given.std)
    return given.mean, given.std


def _is_ultralytics(metadata: Mapping[str, str]) -> bool:
    return (
        "ultralytics" in f"{metadata.get('author', '')} {metadata.get('description', '')}".lower()
        and "names" in metadata
    )


def _image_size(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    """Returns the rows and columns that ultralytics notes under `imgsz`; None where it does not."""
    try:
        size = json.loads(metadata.get("imgsz", ""))
    except ValueError:
        return None
    if isinstance(size, list) and len(size) == 2 and all(isinstance(pixels, int) and pixels > 0 for pixels in size):
        return size[0], size[1]
    return None
