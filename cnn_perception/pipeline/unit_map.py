"""What a single unit of an inner layer makes of an image, and which layers of a model file have such units.

Any model file will do: a layer is a tensor between its image and its logits, channels x rows x columns, by its name.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnn_perception.errors import ConfigError, FrameError
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.model.outputs import FloatArray
from cnn_perception.pipeline.preprocess import InputTensor

_COPIES = {"Cast", "DequantizeLinear", "Identity", "QuantizeLinear"}
"""What they compute is the layer before, in another type."""
_MOST_NEAREST = 3


@dataclass(frozen=True)
class Layer:
    """A tensor of one image whose channels are units.

    Cell (r, c) stands for the pixels around ((r + 0.5) * height / rows, (c + 0.5) * width / columns) of the model's
    input, to within a cell: padding moves it by up to half of one, see `python -m training.inspect`.

    Attributes:
        name: Of the tensor in the model file.
        units: Its channels.
        rows: Cells of each from top to bottom.
        columns: Cells from left to right.
    """

    name: str
    units: int
    rows: int
    columns: int

    def __str__(self) -> str:
        return f"{self.name} ({self.units}x{self.rows}x{self.columns})"


@dataclass(frozen=True)
class Layers:
    """The layers of a model.

    Attributes:
        all: In the order of computation.
        ends: Of each grid of cells, rows and columns, the last one: where a stage ends.
    """

    all: Sequence[Layer]
    ends: Sequence[Layer]

    def find(self, name: str) -> Layer:
        """Returns the layer of a name; the last one of `ends` for an empty name.

        Raises:
            ConfigError: If the model has no such layer; the line names those to choose from.
        """
        if not self.ends:
            raise ConfigError("parameter unit_layer: the model has no layer with a grid of cells")
        if not name:
            return self.ends[-1]
        found = next((layer for layer in self.all if layer.name == name), None)
        if found is None:
            near = difflib.get_close_matches(name[:100], [layer.name for layer in self.all], _MOST_NEAREST)
            nearest = f" (nearest: {', '.join(near)})" if near else ""
            raise ConfigError(
                f"parameter unit_layer is {name[:100]!r}, which the model does not have{nearest}; choose '' or the end "
                f"of a stage: {self.text}"
            )
        return found

    @property
    def text(self) -> str:
        """The ends of the stages in one line."""
        return ", ".join(map(str, self.ends))


class UnitMaps:
    """Runs a model up to one of its layers, apart from its answers; nothing is loaded before it is asked for."""

    def __init__(self, model: OnnxModel) -> None:
        """Takes a loaded model."""
        self._model = model
        self._finding = threading.Lock()
        self._layers: Layers | None = None  # replaced as a whole, and read by other threads

    @property
    def known(self) -> Layers | None:
        """The layers, once somebody has asked for them."""
        return self._layers

    def layers(self) -> Layers:
        """Returns the layers; the first call loads the file once more.

        Raises:
            ModelError: See `OnnxModel.inner_shapes`.
        """
        with self._finding:
            if self._layers is None:
                self._layers = _layers(self._model)
            return self._layers

    def check(self, layer: str, unit: int) -> Layer:
        """Returns the layer of a unit; nothing is run.

        Args:
            layer: Its name; empty for the last one.
            unit: Counted from 0.

        Raises:
            ConfigError: If the model has no such layer, or the layer no such unit.
            ModelError: See `OnnxModel.inner_shapes`.
        """
        found = self.layers().find(layer)
        if not 0 <= unit < found.units:
            raise ConfigError(f"parameter unit is {unit}, but layer {found.name!r} has units 0 to {found.units - 1}")
        return found

    def run(self, image: InputTensor, layer: str, unit: int) -> FloatArray:
        """Returns what a unit makes of an image.

        Args:
            image: (3, height, width) float32, from `preprocess`.
            layer: As for `check`.
            unit: Likewise.

        Returns:
            (rows, columns) float32.

        Raises:
            ConfigError: As `check`.
            ModelError: As `check`.
            FrameError: If the model fails on this image, or answers with NaN or Inf.
        """
        found = self.check(layer, unit)
        values: FloatArray = self._model.inner(image[np.newaxis], found.name)[unit]
        if not np.isfinite(values).all():
            raise FrameError("not_finite", f"layer {found.name!r} has NaN or Inf for this image; it was dropped")
        return values


def _layers(model: OnnxModel) -> Layers:
    size = model.spec.input
    found = []
    ends: dict[tuple[int, int], Layer] = {}
    for tensor, shape in model.inner_shapes():
        if len(shape) != 4 or shape[0] != 1 or not _is_grid(shape[2:], (size.height, size.width)):
            continue
        layer = Layer(tensor.name, *shape[1:])
        found.append(layer)
        if tensor.operator not in _COPIES:
            ends[shape[2:]] = layer
    coarser = sorted(ends.values(), key=lambda layer: -layer.rows * layer.columns)
    return Layers(found, coarser)


def _is_grid(cells: tuple[int, ...], pixels: tuple[int, int]) -> bool:
    """Whether these are rows and columns: both shrink alike, and channels, where a network has them last, do not."""
    rows, columns = cells
    return rows * columns > 1 and 0.5 < (pixels[0] / rows) / (pixels[1] / columns) < 2
