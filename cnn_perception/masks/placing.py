"""A mask as the network sees its image: cut, resized and padded as the model's preprocessing does with the picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cnn_perception.masks.class_table import VOID
from cnn_perception.model.spec import InputSpec
from cnn_perception.pipeline.label_map import LabelMap
from cnn_perception.pipeline.preprocess import input_region


def placed(labels: LabelMap, spec: InputSpec, rows: int = 0, columns: int = 0) -> LabelMap:
    """Returns what lies at the places of a grid that divides the model's input evenly.

    Args:
        labels: (H, W) of an image.
        spec: The model's preprocessing.
        rows: Of the grid; 0 for those of the input.
        columns: Likewise.

    Returns:
        (rows, columns) int32: of each cell the label of the pixel that its centre falls into, `VOID` in a letterbox's
        padding. A mask has no values between those of its pixels, so none are made.
    """
    height, width = labels.shape
    region = input_region(height, width, spec)
    down = _pixels(region.top, region.bottom, rows or spec.height)
    across = _pixels(region.left, region.right, columns or spec.width)
    inside = np.ix_((down >= 0) & (down < height), (across >= 0) & (across < width))
    found: LabelMap = labels[np.ix_(down.clip(0, height - 1), across.clip(0, width - 1))]
    is_padding = np.ones(found.shape, bool)
    is_padding[inside] = False
    found[is_padding] = VOID
    return found


def _pixels(first: float, last: float, steps: int) -> npt.NDArray[np.intp]:
    """Returns into which pixels the centres of the steps from a place to another fall."""
    places = first + (np.arange(steps) + 0.5) * ((last - first) / steps)
    pixels: npt.NDArray[np.intp] = np.floor(places).astype(np.intp)
    return pixels
