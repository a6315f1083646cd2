"""What the cells of a feature map see of the input along one axis, through windows that shrink it or grow it.

Source: A. Araujo, W. Norris, J. Sim, Computing Receptive Fields of Convolutional Neural Networks, Distill 2019; behind
a transposed convolution neighbouring cells see differently much, which repeats itself after as many as its stride.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """The pixels that each cell depends on, padding included; the cells repeat themselves in periods.

    Attributes:
        first: The first pixel of cells 0, 1, ... of one period.
        last: Their last pixel; before the first one where a cell sees nothing.
        step: Pixels from one period to the next.
    """

    first: tuple[int, ...] = (0,)
    last: tuple[int, ...] = (0,)
    step: int = 1

    @property
    def stride(self) -> float:
        """Pixels from a cell to the next, a mean over the period."""
        return self.step / len(self.first)

    @property
    def receptive_field(self) -> int:
        """Pixels that a cell depends on, of the one that sees most."""
        return max(last - first + 1 for first, last in zip(self.first, self.last, strict=True))

    @property
    def centre(self) -> float:
        """Centre of what cell 0 sees."""
        return (self.first[0] + self.last[0]) / 2

    def slid(self, kernel: int, stride: int, dilation: int, before: int) -> Axis:
        """Returns the axis behind a convolution or pooling with `before` pixels of padding in front."""
        period = len(self.first) // math.gcd(len(self.first), stride)
        starts = [cell * stride - before for cell in range(period)]
        reach = (kernel - 1) * dilation
        return Axis(
            tuple(self._at(self.first, start) for start in starts),
            tuple(self._at(self.last, start + reach) for start in starts),
            self.step * stride * period // len(self.first),
        )

    def spread(self, kernel: int, stride: int, dilation: int, before: int) -> Axis:
        """Returns the axis behind a transposed convolution that leaves `before` cells in front out."""
        reach = (kernel - 1) * dilation
        cells = [cell + before for cell in range(len(self.first) * stride)]
        return Axis(
            tuple(self._at(self.first, -((reach - cell) // stride)) for cell in cells),  # rounded up
            tuple(self._at(self.last, cell // stride) for cell in cells),
            self.step,
        )

    def _at(self, pixels: tuple[int, ...], cell: int) -> int:
        periods, place = divmod(cell, len(pixels))
        return pixels[place] + periods * self.step


def joined(axes: Sequence[Axis]) -> Axis | None:
    """Returns what cells see that are computed from the same cell of several maps; None where these are out of step."""
    if len({axis.stride for axis in axes}) > 1:
        return None
    period = math.lcm(*(len(axis.first) for axis in axes))
    return Axis(
        tuple(min(axis._at(axis.first, cell) for axis in axes) for cell in range(period)),
        tuple(max(axis._at(axis.last, cell) for axis in axes) for cell in range(period)),
        axes[0].step * period // len(axes[0].first),
    )
