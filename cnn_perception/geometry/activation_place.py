"""The place in the camera's image at which a class was recognised, from the activation map.

A cell is first found in the model's input, then in the camera's image. Pixels are counted as OpenCV and REP 104 count
them: (u, v) is (column, row), the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnn_perception.geometry.camera_model import Numbers, Point
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import ModelSpec
from cnn_perception.pipeline.preprocess import input_region


@dataclass(frozen=True)
class ActivationPlace:
    """The place in the camera's image at which a class was recognised.

    Attributes:
        peak: Where the activation is strongest.
        centroid: Centre of gravity of its positive part; between two places that both show the class.
    """

    peak: Point
    centroid: Point


def place_of(activation: FloatArray | None, spec: ModelSpec, height: int, width: int) -> ActivationPlace | None:
    """Returns the place in the camera's image at which the activation map shows the class.

    Args:
        activation: (rows, columns) float32 map of `Prediction.activation`.
        spec: The model's description.
        height: Of the camera's image, pixels.
        width: Of the camera's image, pixels.

    Returns:
        The place; None without a map, or where no activation in the image is positive. Cells whose centre lies in
        the padding of a letterbox do not count.
    """
    if activation is None or spec.activation is None:
        return None
    region = input_region(height, width, spec.input)
    grid = spec.activation
    # The centre of the input's first pixel is half a pixel from its edge, and so in the image.
    down = (grid.offset[0] + grid.stride[0] * np.arange(grid.rows) + 0.5) / spec.input.height
    across = (grid.offset[1] + grid.stride[1] * np.arange(grid.columns) + 0.5) / spec.input.width
    v = region.top + down * (region.bottom - region.top) - 0.5
    u = region.left + across * (region.right - region.left) - 0.5
    rows = np.flatnonzero((v >= -0.5) & (v <= height - 0.5))
    columns = np.flatnonzero((u >= -0.5) & (u <= width - 0.5))
    u = u[columns]
    v = v[rows]
    inside = activation[np.ix_(rows, columns)].astype(np.float64)
    strength = inside.clip(0.0)
    total = strength.sum()
    if not total > 0.0:
        return None
    row, column = (int(index) for index in np.unravel_index(inside.argmax(), inside.shape))
    return ActivationPlace(
        peak=(_refined(u, inside[row], column), _refined(v, inside[:, column], row)),
        centroid=(float(strength.sum(0) @ u / total), float(strength.sum(1) @ v / total)),
    )


def _refined(places: Numbers, values: Numbers, index: int) -> float:
    """Returns the vertex of the parabola through a largest value and its neighbours.

    Without it a controller would see the peak jump by a whole cell, a seventh of the image of a 7x7 map.
    """
    if not 0 < index < len(places) - 1:
        return float(places[index])
    before, here, after = values[index - 1 : index + 2]
    curvature = before - 2.0 * here + after
    shift = 0.5 * (before - after) / curvature if curvature < 0.0 else 0.0
    return float(places[index] + shift * (places[index + 1] - places[index]))
