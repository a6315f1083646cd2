"""RGB image -> input tensor: the only definition, used by the node, the evaluator and the training scripts.

The resize is Pillow's antialiased filter applied straight to the region that is kept (`resample`), within one grey
level of torchvision's Resize + CenterCrop. OpenCV's INTER_LINEAR has no antialiasing and is off by up to 93 levels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NewType

import numpy as np
import numpy.typing as npt

from cnn_perception.image.messages import RgbImage
from cnn_perception.model.spec import InputSpec
from cnn_perception.pipeline.resample import Side, resample

InputTensor = NewType("InputTensor", npt.NDArray[np.float32])
"""(3, height, width) float32, channels R, G, B, normalised by the spec's mean and std."""


@dataclass(frozen=True)
class Region:
    """A rectangle in pixels of the source image; edges may lie between pixels, or outside where a letterbox pads."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class _Placement:
    """Where the resized part of the source lands: `source` is scaled to (rows, columns) and put at (top, left)."""

    source: Region
    rows: int
    columns: int
    top: int
    left: int


def preprocess(image: RgbImage, spec: InputSpec, out: npt.NDArray[np.float32] | None = None) -> InputTensor:
    """Resizes, crops or pads, and normalises one image as the model's spec says.

    Args:
        image: (H, W, 3) uint8, any size from 1x1.
        spec: The model's preprocessing.
        out: (3, height, width) float32, C-contiguous, to be written to, such as a slot of a batch; None makes one.

    Returns:
        `out`: (3, height, width) float32.
    """
    height, width = image.shape[:2]
    place = _place(height, width, spec)
    source = place.source
    parts: Iterable[npt.NDArray[np.uint8 | np.float32]]
    if source == Region(0, 0, width, height) and (place.rows, place.columns) == (height, width):
        parts = [image.transpose(2, 0, 1)]
    else:
        down = Side((source.top, source.bottom), place.rows, height)
        across = Side((source.left, source.right), place.columns, width)
        parts = resample(image, down, across, spec.interpolation)
    if out is None:
        out = np.empty((3, spec.height, spec.width), np.float32)
    columns = slice(place.left, place.left + place.columns)
    if (place.rows, place.columns) != (spec.height, spec.width):
        out[:] = 0.0  # the normalised mean colour: padding that tells the network nothing
    # (pixel / 255 - mean) / std, as one multiplication and one subtraction
    scales = [np.float32(1.0 / (255.0 * std)) for std in spec.std]
    shifts = [np.float32(mean / std) for mean, std in zip(spec.mean, spec.std, strict=True)]
    row = place.top
    for planes in parts:
        rows = slice(row, row + planes.shape[1])
        for channel, plane in enumerate(planes):
            part = out[channel, rows, columns]
            np.multiply(plane, scales[channel], out=part)
            part -= shifts[channel]
        row = rows.stop
    return InputTensor(out)


def input_region(height: int, width: int, spec: InputSpec) -> Region:
    """Returns the part of a (height, width) source image that the model's whole input covers.

    With it a position in the input, or a cell of the activation map, is found again in the camera's image.
    """
    place = _place(height, width, spec)
    per_row = (place.source.bottom - place.source.top) / place.rows
    per_column = (place.source.right - place.source.left) / place.columns
    top = place.source.top - place.top * per_row
    left = place.source.left - place.left * per_column
    return Region(left=left, top=top, right=left + spec.width * per_column, bottom=top + spec.height * per_row)


def _place(height: int, width: int, spec: InputSpec) -> _Placement:
    if spec.resize_mode == "squash":
        return _Placement(Region(0.0, 0.0, width, height), spec.height, spec.width, 0, 0)
    if spec.resize_mode == "letterbox":
        scale = min(spec.height / height, spec.width / width)
        rows = min(spec.height, max(1, round(height * scale)))
        columns = min(spec.width, max(1, round(width * scale)))
        top = (spec.height - rows) // 2
        left = (spec.width - columns) // 2
        return _Placement(Region(0.0, 0.0, width, height), rows, columns, top, left)
    # Source of the rounding: torchvision.transforms.functional, resize (the longer side is truncated) and center_crop.
    cover_rows = round(spec.height / spec.crop_fraction)
    cover_columns = round(spec.width / spec.crop_fraction)
    if cover_rows * width >= cover_columns * height:
        rows = cover_rows
        columns = int(cover_rows * width / height)
    else:
        rows = int(cover_columns * height / width)
        columns = cover_columns
    top = round((rows - spec.height) / 2.0)
    left = round((columns - spec.width) / 2.0)
    source = Region(
        left=left * width / columns,
        top=top * height / rows,
        right=(left + spec.width) * width / columns,
        bottom=(top + spec.height) * height / rows,
    )
    return _Placement(source, spec.height, spec.width, 0, 0)
