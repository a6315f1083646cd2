"""How far a map of what an answer rests on can be believed: removal, randomised weights, objects that are pointed at.

Sources: Petsiuk, Das and Saenko 2018, RISE (deletion and insertion); Adebayo et al. 2018, Sanity Checks for Saliency
Maps; Zhang et al. 2018, Top-down Neural Attention by Excitation Backprop (the pointing game).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cnn_perception.intervals import Estimate, wilson

Numbers = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

TOLERANCE_PX = 15
"""How far from the object the strongest place may be, in the pointing game. Source: Zhang et al. 2018."""
_SSIM_SIDE = 64
_SSIM_SIGMA = 1.5


def enlarged(cells: Numbers, height: int, width: int) -> Numbers:
    """Returns a map (h, w) at the size of the image, as the overlay shows it: cubic."""
    return np.asarray(cv2.resize(cells.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC))


def removed(image: Tensor, ground: Tensor, strength: Numbers, steps: int) -> Tensor:
    """Returns an image whose pixels are replaced, the strongest first.

    Args:
        image: (C, H, W).
        ground: (C, H, W) what takes their place.
        strength: (H, W); of equally strong pixels the first goes first.
        steps: How many.

    Returns:
        (steps + 1, C, H, W): nothing replaced, one `steps`-th, ..., all.
    """
    order = np.argsort(-strength.ravel(), kind="stable")
    rank = np.empty(order.size, np.int64)
    rank[order] = np.arange(order.size)
    limits = np.linspace(0, order.size, steps + 1).round().astype(np.int64)
    gone = torch.from_numpy(rank[None] < limits[:, None]).to(image.device)
    return torch.where(gone.reshape(-1, 1, *strength.shape), ground, image)


def area(curve: Numbers) -> float:
    """Returns the area below a curve (steps + 1,) over the share of pixels from 0 to 1, by trapezoids."""
    return float((curve[:-1] + curve[1:]).mean() / 2)


def rank_correlation(one: Numbers, other: Numbers) -> float:
    """Returns Spearman's rank correlation of two maps of one shape; 0 where one of them is the same everywhere."""
    ranks = [_ranks(cells.ravel()) for cells in (one, other)]
    first, second = (rank - rank.mean() for rank in ranks)
    size = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / size if size > 0 else 0.0


def _ranks(values: Numbers) -> npt.NDArray[np.float64]:
    """Returns the rank of each value; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[places.ravel()], np.float64)


def similarity(one: Numbers, other: Numbers) -> float:
    """Returns the structural similarity (SSIM) of two maps as they are seen: below 0 cut off, the strongest place 1.

    Source: Wang, Bovik, Sheikh and Simoncelli 2004, Image Quality Assessment: From Error Visibility to Structural
        Similarity, with its constants; on maps enlarged to 64 x 64.
    """
    first, second = (_shown(cells) for cells in (one, other))
    mean_1, mean_2 = _smooth(first), _smooth(second)
    variance_1 = _smooth(first**2) - mean_1**2
    variance_2 = _smooth(second**2) - mean_2**2
    covariance = _smooth(first * second) - mean_1 * mean_2
    light, contrast = 0.01**2, 0.03**2
    above = (2 * mean_1 * mean_2 + light) * (2 * covariance + contrast)
    below = (mean_1**2 + mean_2**2 + light) * (variance_1 + variance_2 + contrast)
    return float((above / below).mean())


def _shown(cells: Numbers) -> npt.NDArray[np.float64]:
    clipped = np.maximum(cells, 0).astype(np.float32)
    peak = float(clipped.max())
    return np.asarray(
        enlarged(clipped / np.float32(peak if peak > 0 else 1), _SSIM_SIDE, _SSIM_SIDE).clip(0, 1), np.float64
    )


def _smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(cv2.GaussianBlur(values, (11, 11), _SSIM_SIGMA))


@torch.no_grad()
def shuffle(tensors: Sequence[Tensor], generator: torch.Generator) -> None:
    """Puts the values of each tensor in another order, in place: what was learned is gone, their spread stays."""
    for tensor in tensors:
        order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
        tensor.copy_(tensor.flatten()[order].reshape(tensor.shape))


def points_at(cells: Numbers, mask: Flags, tolerance_px: int = TOLERANCE_PX) -> bool:
    """Returns whether the strongest place of a map lies on an object, or within some pixels of it.

    Args:
        cells: (h, w) map that covers the image.
        mask: (H, W) where the object is.
        tolerance_px: See there.
    """
    height, width = mask.shape
    row, column = np.unravel_index(int(enlarged(cells, height, width).argmax()), mask.shape)
    rows, columns = np.nonzero(mask)
    return bool((((rows - row) ** 2 + (columns - column) ** 2) <= tolerance_px**2).any())


def pointing_game(maps: Sequence[Numbers], masks: Sequence[Flags]) -> Estimate | None:
    """Returns the share of maps that point at the object in their image, with its interval; None without masks."""
    if not maps:
        return None
    hits = sum(points_at(cells, mask) for cells, mask in zip(maps, masks, strict=True))
    return wilson(hits, len(maps))
