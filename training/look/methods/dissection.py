"""How well single units match labelled concepts, as intersection over union.

Source: D. Bau, B. Zhou, A. Khosla, A. Oliva, A. Torralba, Network Dissection: Quantifying Interpretability of Deep
Visual Representations, CVPR 2017. A unit is on where its upsampled map is above a threshold, which it exceeds at 0.5 %
of all places of its own grid over all images.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ON_SHARE = 0.005
"""Share of a unit's cells, over all images, that are above its threshold."""
DETECTS = 0.04
"""IoU from which on Bau et al. call a unit a detector of a concept."""
_UNITS = 256
"""Units whose maps are upsampled at a time: 4 MB of a grid of 64 x 64."""


class Thresholds:
    """The threshold of every unit of a layer, as maps come; of each unit no more than its largest values are kept."""

    def __init__(self, cells: int) -> None:
        """Begins.

        Args:
            cells: How many cells of a unit's map there will be, over all images.
        """
        self._kept = math.floor(ON_SHARE * cells) + 1
        self._largest: Tensor | None = None

    def add(self, maps: Tensor) -> None:
        """Takes maps (N, C, h, w)."""
        values = maps.float().transpose(0, 1).flatten(1)
        if self._largest is not None:
            values = torch.cat([self._largest, values], 1)
        self._largest = values.topk(min(self._kept, values.shape[1]), dim=1, sorted=True).values

    def result(self) -> Tensor:
        """Returns (C,): the smallest thresholds above which there are no more cells than `ON_SHARE` of all."""
        assert self._largest is not None
        return self._largest[:, -1]


class Overlaps:
    """Counts over images where units of a layer are on and concepts are shown.

    Attributes:
        both: (C, K) places of the grid where the unit is on and the concept is shown.
        on: (C,) places where the unit is on.
        shown: (K,) places where the concept is shown.
        places: All that count.
    """

    def __init__(self, thresholds: Tensor, down: Tensor, across: Tensor, concepts: int) -> None:
        """Begins with no image.

        Args:
            thresholds: (C,) of the units.
            down: (rows, h) by which weights of a map's rows those of the grid are made.
            across: (columns, w) likewise.
            concepts: K.
        """
        self._thresholds = thresholds
        self._down = down
        self._across = across
        self.both = torch.zeros(len(thresholds), concepts, dtype=torch.float64, device=thresholds.device)
        self.on = torch.zeros(len(thresholds), dtype=torch.float64, device=thresholds.device)
        self.shown = torch.zeros(concepts, dtype=torch.float64, device=thresholds.device)
        self.places = 0

    def add(self, maps: Tensor, labels: Tensor, void: int) -> None:
        """Takes maps of images with what the images show.

        Args:
            maps: (N, C, h, w).
            labels: (N, rows, columns) int: which concept, negative for none.
            void: The label of places that do not count.
        """
        concepts = torch.arange(len(self.shown), device=labels.device)
        for image, shows in zip(maps.float(), labels.flatten(1), strict=True):
            counts = shows != void
            shown = (shows[counts, None] == concepts).float()
            self.shown += shown.sum(0)
            self.places += int(counts.sum())
            # Upsampling makes means: where no cell is above the threshold, no place is.
            somewhere = torch.nonzero(image.amax((1, 2)) > self._thresholds)[:, 0]
            for units in torch.split(somewhere, _UNITS):
                on = self._is_on(image[units], units)[:, counts].float()
                self.both[units] += on @ shown
                self.on[units] += on.sum(1)

    def _is_on(self, maps: Tensor, units: Tensor) -> Tensor:
        """Returns at which places of the grid units are on, (U, rows * columns)."""
        upsampled: Tensor = self._down @ maps @ self._across.T
        return upsampled.flatten(1) > self._thresholds[units, None]

    def iou(self) -> Tensor:
        """Returns (C, K) intersection over union, 0 where both are nowhere."""
        union = self.on[:, None] + self.shown - self.both
        return self.both / union.clamp(min=1)


def cap(share: float) -> float:
    """Returns the largest IoU with a concept of a size, of a unit that is on at `ON_SHARE` of all places.

    Args:
        share: Of all places that the concept covers, in [0, 1].
    """
    return min(ON_SHARE, share) / max(ON_SHARE, share)


def by_chance(share: float) -> float:
    """Returns the IoU to be expected of such a unit that is on regardless of the concept."""
    both = ON_SHARE * share
    return both / (ON_SHARE + share - both)
