"""The score map at the image's own pixels: of each pixel the class that the classifier sees around it.

Source: J. Long, E. Shelhamer, T. Darrell, Fully Convolutional Networks for Semantic Segmentation, CVPR 2015: a
classifier run over the image, and its logits upsampled by bilinear interpolation.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cnn_perception.model.outputs import FloatArray
from cnn_perception.pipeline.score_map import Cells

LabelMap: TypeAlias = npt.NDArray[np.int32]
"""(H, W) int32, the index of a class for each pixel; -1 where there is none."""


def upsampled_labels(scores: FloatArray, cells: Cells, height: int, width: int) -> LabelMap:
    """Returns of each pixel the class with the largest interpolated logit.

    Between the centres of cells it is interpolated bilinearly; a pixel beyond the outermost centres, from where no
    whole window reaches, has the logits of the border's nearest place. The first of equal classes is taken.

    Args:
        scores: (K, rows, columns) float32, finite, such as `ScoreMap.logits`.
        cells: Where the cells lie in the image, such as `ScoreMap.cells`.
        height: Rows of the image.
        width: Columns of the image.

    Returns:
        (height, width) int32 indices of classes.
    """
    down = interpolation(np.arange(height), cells.offset[0], cells.stride[0], scores.shape[1])
    across = interpolation(np.arange(width), cells.offset[1], cells.stride[1], scores.shape[2])
    best = np.full((height, width), -np.inf, np.float32)
    labels = np.zeros((height, width), np.int32)
    for index in _possible(scores):
        values = down @ (scores[index] @ across.T)
        larger = values > best
        best[larger] = values[larger]
        labels[larger] = index
    return labels


def interpolation(places: npt.NDArray[Any], offset: float, stride: float, cells: int) -> FloatArray:
    """Returns by which weights of a line of cells the values at some places are made.

    Args:
        places: (P,) pixels, along one axis.
        offset: The pixel at the centre of the first cell.
        stride: Pixels between the centres of neighbouring cells.
        cells: How many cells there are.

    Returns:
        (P, cells) float32; a place beyond the outermost centres has the value of the nearest cell.
    """
    positions = np.clip((places - offset) / stride, 0.0, cells - 1)
    first = np.minimum(positions.astype(np.intp), max(cells - 2, 0))
    share = positions - first
    weights = np.zeros((len(places), cells), np.float32)
    lines = np.arange(len(places))
    weights[lines, first] = 1.0 - share
    weights[lines, np.minimum(first + 1, cells - 1)] += share
    return weights


def _possible(scores: FloatArray) -> list[int]:
    """Returns the classes that may be the largest anywhere.

    Among four cells no class can be whose largest value is below another's smallest; of 1000 classes few are left.
    """
    rows, columns = (np.minimum(np.arange(2)[:, None] + np.arange(max(n - 1, 1)), n - 1) for n in scores.shape[1:])
    corners = np.stack([scores[:, row][:, :, column] for row in rows for column in columns])
    largest, smallest = corners.max(0), corners.min(0)
    possible = (largest >= smallest.max(0)).any((1, 2))
    return [int(index) for index in np.flatnonzero(possible)]
