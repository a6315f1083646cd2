"""The classifier run over a whole image at once: its scores at every place, and where in the image that place is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnn_perception.errors import ConfigError, FrameError
from cnn_perception.image.messages import RgbImage
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import ScoreMapSpec
from cnn_perception.pipeline.preprocess import preprocess
from cnn_perception.tasks.registry import task_of

Pair = tuple[float, float]
"""(vertical, horizontal)."""
LARGEST_SIDE = 8192
"""Pixels that the network is run on: see `spec.InputSpec`."""
MOST_PIXELS = 2**22
"""Of them by default, twice those of a 1920x1080 image: a ResNet-18 takes some 100 to 200 bytes for each."""
MOST_NUMBERS = 2**26
"""Of a map, classes times cells: 256 MiB of logits, and as much of scores."""


@dataclass(frozen=True)
class Cells:
    """Where the cells of a score map lie in the camera's image; the centre of its first pixel is (0, 0).

    Cell (r, c) is the classifier's answer to the window of `window` pixels centred at `offset + stride * (r, c)`. The
    last row and column of windows may reach over the edge of the image by less than a stride.

    Attributes:
        stride: Pixels between neighbouring cells.
        window: Pixels of the window.
        offset: Pixel at the centre of cell (0, 0).
    """

    stride: Pair
    window: Pair
    offset: Pair

    def pixel(self, row: float, column: float) -> Pair:
        """Returns the pixel (v, u) at the centre of a cell."""
        return self.offset[0] + self.stride[0] * row, self.offset[1] + self.stride[1] * column

    def cell(self, v: float, u: float) -> Pair:
        """Returns the place (row, column) of a pixel; between the centres of cells where it is no whole number."""
        return (v - self.offset[0]) / self.stride[0], (u - self.offset[1]) / self.stride[1]

    def camera_matrix(
        self, matrix: Sequence[float], corner: tuple[int, int] = (0, 0), binning: tuple[int, int] = (1, 1)
    ) -> list[float]:
        """Turns the intrinsics of the camera into those of the map as an image of its own, whose pixels are cells.

        A camera_info with them, and with the distortion and rotation of the camera's own, belongs to the map as the
        camera's belongs to its image: any tool of ROS finds the ray of a cell with it.

        Args:
            matrix: K (9) or P (12) of the camera's camera_info, row by row, which are in pixels of the sensor.
            corner: (x, y) offset of its region of interest.
            binning: (x, y) pixels of the sensor that make one of the image; 0 means 1, as in the message.

        Returns:
            K or P in cells: (column, row, 1) is proportional to it times a point in front of the camera. Zeros stay
            zeros: the camera is uncalibrated.
        """
        if not any(matrix):
            return [0.0] * len(matrix)
        to_cells = np.eye(3)
        for axis, step in enumerate(binning):
            # The centre of a bin of two pixels lies between them.
            per_cell = max(step, 1) * self.stride[1 - axis]
            first = (self.offset[1 - axis] + 0.5) * max(step, 1) - 0.5 + corner[axis]
            to_cells[axis] = 0.0
            to_cells[axis, axis] = 1.0 / per_cell
            to_cells[axis, 2] = -first / per_cell
        turned: list[float] = (to_cells @ np.array(matrix, np.float64).reshape(3, -1)).ravel().tolist()
        return turned


@dataclass(frozen=True, eq=False)
class ScoreMap:
    """The classifier's answers all over an image.

    Attributes:
        class_names: The K classes of the model, or the names of its K numbers.
        logits: (K, rows, columns) float32; of a regression model the numbers in their units.
        scores: (K, rows, columns) float32 in [0, 1], as in `Prediction`; of a regression model its numbers.
        cells: Where the cells lie in the image.
    """

    class_names: tuple[str, ...]
    logits: FloatArray
    scores: FloatArray
    cells: Cells

    def of(self, name: str) -> FloatArray:
        """Returns the scores (rows, columns) of a class; of the one with the highest cell for an empty name.

        Raises:
            ConfigError: If the model has no such class.
        """
        if name and name not in self.class_names:
            raise ConfigError(
                f"score map: the model has no class {name!r}; choose one of {', '.join(self.class_names)}"
            )
        index = self.class_names.index(name) if name else int(self.scores.max((1, 2)).argmax())
        scores: FloatArray = self.scores[index]
        return scores


def dense_scores(model: OnnxModel, image: RgbImage, scale: float = 1.0, most_pixels: int = MOST_PIXELS) -> ScoreMap:
    """Runs the classifier at every place of an image.

    Args:
        model: A model with a score map.
        image: (H, W, 3) uint8. One that does not fill the model's input once it is scaled is enlarged until it does.
        scale: How much larger than its own pixels the network sees the image, above 0: things that are
            too small to fill a window are found at a larger scale.
        most_pixels: Of the scaled image.

    Raises:
        ModelError: If the model has no score map; see `OnnxModel.score_map`.
        ConfigError: If the scale is out of range.
        FrameError: If the scaled image has more than `LARGEST_SIDE` pixels a side or `most_pixels` in all, its map
            more than `MOST_NUMBERS`, which is known before anything is allocated; or if an answer is not finite.
    """
    place = model.score_map_place()
    height, width = image.shape[:2]
    rows, columns = _scaled((height, width), place.window, scale)
    _check_size((rows, columns), place, len(model.spec.class_names), most_pixels)
    whole = dataclasses.replace(model.spec.input, height=rows, width=columns, resize_mode="squash", crop_fraction=1.0)
    logits = model.score_map(preprocess(image, whole)[np.newaxis])
    if not np.isfinite(logits).all():
        raise FrameError("not_finite", "the score map has NaN or Inf for this image; it was dropped")
    scores = task_of(model.spec.task).read(logits, model.spec.temperature)
    cells = _in_camera(place, (height / rows, width / columns))
    return ScoreMap(model.spec.class_names, logits, scores, cells)


def _scaled(size: tuple[int, int], window: tuple[int, int], scale: float) -> tuple[int, int]:
    """Returns the pixels, (vertical, horizontal), that the network is run on."""
    if not (math.isfinite(scale) and scale > 0):
        raise ConfigError(f"score map: scale is {scale}; choose a number above 0, such as 1")
    least = max(needed / pixels for needed, pixels in zip(window, size, strict=True))
    rows, columns = (
        max(needed, round(pixels * max(scale, least))) for needed, pixels in zip(window, size, strict=True)
    )
    return rows, columns


def _check_size(size: tuple[int, int], place: ScoreMapSpec, class_count: int, most_pixels: int) -> None:
    """Refuses what would take too much memory."""
    rows, columns = size
    what = f"score map: {columns}x{rows} pixels"
    cells = [
        (pixels - window) // stride + 1 for pixels, window, stride in zip(size, place.window, place.stride, strict=True)
    ]
    if max(size) > LARGEST_SIDE:
        raise FrameError("too_large", f"{what} are more than {LARGEST_SIDE} a side; lower the scale")
    if rows * columns > most_pixels:
        raise FrameError(
            "too_large", f"{what} are more than {most_pixels} in all; lower the scale, or raise score_map_max_pixels"
        )
    if class_count * math.prod(cells) > MOST_NUMBERS:
        raise FrameError(
            "too_large", f"{what} make more than {MOST_NUMBERS} scores of {class_count} classes; lower the scale"
        )


def _in_camera(place: ScoreMapSpec, steps: Pair) -> Cells:
    """Returns the cells in pixels of the camera, of which each pixel that the network saw is `steps`."""
    down, across = steps
    return Cells(
        stride=(place.stride[0] * down, place.stride[1] * across),
        window=(place.window[0] * down, place.window[1] * across),
        # A pixel's centre is half a pixel from its edge, at either scale.
        offset=((place.offset[0] + 0.5) * down - 0.5, (place.offset[1] + 0.5) * across - 0.5),
    )
