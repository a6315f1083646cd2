"""The layers of a stack that is written as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from training.graphs.axis import Axis
from training.graphs.layers import Layer, misfit
from training.graphs.receptive_field import Window
from training.networks import layer_text
from training.networks.layer_text import Shape, Step

_CELLWISE = frozenset(layer_text.KINDS) - {"gap", "gmp", "flatten", "fc"}
"""Layers behind which there are cells as before, or other ones where they slide a window."""


@dataclass(frozen=True)
class Sight:
    """What a cell sees along each axis, see `graphs.layers.Sight`."""

    stride: tuple[float, ...]
    receptive_field: tuple[int, ...]


def of_text(text: str, shape: Shape) -> list[Layer]:
    """Lists the layers of a text, each as it is written and a `flatten` before the first `fc`.

    Args:
        text: See `layer_text.GRAMMAR`.
        shape: Of the input, without the batch: channels and up to three axes of cells.

    Raises:
        ConfigError: As `layer_text.read`.
    """
    axes: tuple[Axis, ...] | None = (Axis(),) * (len(shape) - 1) or None
    found = []
    for step in layer_text.read(text, shape):
        read = _window(step)
        axes = _behind(axes, step, read)
        found.append(_layer(step, read, axes))
    return found


def _layer(step: Step, read: Window | None, axes: Sequence[Axis] | None) -> Layer:
    fits = read is None or step.kind == "convt"
    return Layer(
        name=step.name,
        kind=step.kind,
        input=step.taken,
        output=step.given,
        window=read,
        parameters=sum(parameter.numel() for parameter in step.module.parameters()),
        multiply_adds=_multiply_adds(step),
        geometry=_sight(axes),
        misfit="" if read is None or fits else misfit(read, step.taken[1:], step.given[1:]),
        groups=getattr(step.module, "groups", 1) if read is not None else 1,
    )


def _sight(axes: Sequence[Axis] | None) -> Sight | None:
    if axes is None:
        return None
    return Sight(tuple(axis.stride for axis in axes), tuple(axis.receptive_field for axis in axes))


def _window(step: Step) -> Window | None:
    """Returns how a layer slides; None if it does not."""
    module: Any = step.module
    if not hasattr(module, "kernel_size"):
        return None
    kernel = _each(module.kernel_size, step)
    padding = _each(module.padding, step)
    return Window(kernel, _each(module.stride, step), _each(getattr(module, "dilation", 1), step), padding, padding)


def _each(sizes: int | Sequence[int], step: Step) -> tuple[int, ...]:
    """Returns a number for each axis: torch keeps some as one for all."""
    return (sizes,) * (len(step.taken) - 1) if isinstance(sizes, int) else tuple(sizes)


def _behind(axes: tuple[Axis, ...] | None, step: Step, read: Window | None) -> tuple[Axis, ...] | None:
    """Returns what the cells behind a layer see; None where there are no cells, or each sees all."""
    if axes is None or step.kind not in _CELLWISE:
        return None
    if read is None:
        return axes
    move = Axis.spread if step.kind == "convt" else Axis.slid
    sizes = zip(axes, read.kernel, read.stride, read.dilation, read.before, strict=True)
    return tuple(move(*row) for row in sizes)


def _multiply_adds(step: Step) -> int:
    """Returns the products that are summed up, as `graphs.layers.Layer` counts them."""
    if not isinstance(step.module, nn.Linear) and step.kind not in ("conv", "convt"):
        return 0
    weight: Any = step.module.weight
    each: int = math.prod(weight.shape[1:])
    return each * math.prod(step.taken if step.kind == "convt" else step.given)
