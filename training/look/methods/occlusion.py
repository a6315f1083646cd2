"""What an answer loses when a part of the image is covered.

Source: Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks, section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_SHARE = 2 / 7
"""Side of the square in sides of the image: 64 of 224 pixels."""


@dataclass(frozen=True, eq=False)
class Occlusion:
    """What a square does to a number.

    Attributes:
        whole: The number of the whole image.
        places: (P, 2) int64, first row and column of each square.
        side: Of the square, pixels.
        drops: (P,) by how much the number is smaller with the square there.
        heat: (H, W) of each pixel the mean drop of the squares that cover it.
    """

    whole: float
    places: Tensor
    side: int
    drops: Tensor
    heat: Tensor

    @property
    def strongest(self) -> int:
        """The place that costs most; of equal ones the first."""
        return int(self.drops.argmax())


def usual_square(height: int, width: int) -> tuple[int, int]:
    """Returns side and step of the square for an image of that size: 64 and 32 pixels at 224."""
    side = max(round(min(height, width) * _SHARE), 1)
    return side, max(side // 2, 1)


@torch.inference_mode()
def occlude(
    number: Callable[[Tensor], Tensor],
    image: Tensor,
    side: int,
    step: int,
    *,
    batch: int = 16,
    fill: float = 0.0,
    advance: Callable[[int], object] = lambda places: None,
) -> Occlusion:
    """Slides a square over an image; every pixel is covered at least once.

    Args:
        number: Images (N, C, H, W) -> (N,).
        image: (C, H, W) as the network gets it.
        side: Of the square, pixels, at most the image's shorter side.
        step: Distance of its places; the last ones touch the border.
        batch: Images at a time, at most.
        fill: What covers; 0 is the mean colour where the image is normalised.
        advance: Told of how many places are done, as they are.
    """
    _, height, width = image.shape
    places = torch.tensor([(top, left) for top in _starts(height, side, step) for left in _starts(width, side, step)])
    whole = float(number(image[None]))
    numbers: list[Tensor] = []
    for first in range(0, len(places), batch):
        chunk = places[first : first + batch]
        covered = image.repeat(len(chunk), 1, 1, 1)
        for one, (top, left) in zip(covered, chunk.tolist(), strict=True):
            one[:, top : top + side, left : left + side] = fill
        numbers.append(number(covered).cpu())
        advance(len(chunk))
    drops = whole - torch.cat(numbers).float()
    return Occlusion(whole, places, side, drops, _heat(drops, places, side, height, width))


def place_count(height: int, width: int, side: int, step: int) -> int:
    """Returns how many places the square has."""
    return len(_starts(height, side, step)) * len(_starts(width, side, step))


def _starts(length: int, side: int, step: int) -> list[int]:
    last = length - side
    return sorted({*range(0, last + 1, step), last})


def _heat(drops: Tensor, places: Tensor, side: int, height: int, width: int) -> Tensor:
    sums = torch.zeros(height, width)
    counts = torch.zeros(height, width)
    for drop, (top, left) in zip(drops, places.tolist(), strict=True):
        sums[top : top + side, left : left + side] += drop
        counts[top : top + side, left : left + side] += 1
    return sums / counts
