"""Pictures that excite a unit as much as they can, found by gradient ascent from noise.

Source: C. Olah, A. Mordvintsev, L. Schubert, Feature Visualization, Distill 2017, and the code of its authors, lucid
(github.com/tensorflow/lucid, `optvis/param/spatial.py`, `optvis/param/color.py`, `optvis/transform.py`), from which
the constants come where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

_START_SD = 0.01
_FOURIER_DIVISOR = 4.0
_COLOURS = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
"""Square root of the covariance of ImageNet's colours: rows red, green, blue; columns brightness and two others."""
_GREY = 0.5
_SHIFT_PX = 6.0
"""Two jitters of lucid's, by 8 and by 4 pixels, move the picture by so much at most to each side."""
_SCALES = (0.9, 1.1)
_DEGREES = 10.0
_RATE = 0.05


@dataclass(frozen=True)
class Ascent:
    """How a picture is found.

    Attributes:
        height: Rows of the picture.
        width: Columns.
        steps: Of Adam. Lucid takes 512; after 64, or 128 for a class, only the contrast still grows.
        decay: By what power of its frequency a wave is damped. Lucid has 1, whose pictures are paler and noisier.
        diversity: By how much the pictures are pushed apart; 0 leaves each alone.
    """

    height: int
    width: int
    steps: int = 64
    decay: float = 1.25
    diversity: float = 0.0


@dataclass(frozen=True)
class Normalisation:
    """What the network expects of colours: (value - mean) / std of red, green and blue in [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def ascend(
    network: nn.Module,
    units: Sequence[int],
    seeds: Sequence[Sequence[int]],
    colours: Normalisation,
    ascent: Ascent,
    device: torch.device,
    advance: Callable[[], object] = lambda: None,
) -> Tensor:
    """Finds a picture for each of some units, all at a time.

    Without diversity a picture depends on its unit and its seed alone, not on those beside it.

    Args:
        network: Normalised images (N, 3, H, W) -> map (N, C, h, w), or numbers (N, C); no parameter takes gradients.
        units: Of the C channels, one a picture.
        seeds: One a picture: what decides on its start and on how it is moved.
        colours: The normalisation.
        ascent: How.
        device: Where the network is.
        advance: Told of each step.

    Returns:
        (N, 3, H, W) float32 RGB in [0, 1], on the CPU.
    """
    draws = [np.random.default_rng(list(seed)) for seed in seeds]
    size = (ascent.height, ascent.width)
    spectra = torch.stack([_start(draw, *size) for draw in draws]).to(device).requires_grad_()
    damping = _damping(*size, ascent.decay).to(device)
    optimizer = torch.optim.Adam([spectra], lr=_RATE)
    rows = torch.arange(len(units), device=device)
    channels = torch.tensor(units, device=device)
    mean, std = (torch.tensor(values, device=device).reshape(3, 1, 1) for values in (colours.mean, colours.std))
    for _ in range(ascent.steps):
        moved = _moved(_rgb(spectra, damping, *size), torch.stack([_motion(draw, *size) for draw in draws]).to(device))
        maps = network(((moved - mean) / std).contiguous(memory_format=torch.channels_last))
        excitement = maps.flatten(2).mean(2) if maps.ndim == 4 else maps
        loss = -excitement[rows, channels].sum()
        if ascent.diversity:
            loss = loss + ascent.diversity * likeness(maps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        advance()
    with torch.no_grad():
        return _rgb(spectra, damping, *size).cpu()


def likeness(maps: Tensor) -> Tensor:
    """Returns how alike maps (N, C, h, w) are in style: cosines of their Gram matrices, as lucid sums them up.

    What channels are off does not count. The product of two Gram matrices F F' and G G' is the square of the norm of
    F' G, which is small where cells are few.

    Returns:
        The sum over all ordered pairs of different maps, divided by N.
    """
    cells = functional.relu(maps).flatten(2)
    products = torch.einsum("icn,jcm->ijnm", cells, cells).square().sum((2, 3))
    norms = products.diagonal().clamp(min=1e-10).sqrt()
    cosines = products / (norms[:, None] * norms[None])
    return (cosines.sum() - cosines.diagonal().sum()) / len(maps)


def _start(draw: np.random.Generator, height: int, width: int) -> Tensor:
    """Returns the waves of a faint noise, (3, height, width // 2 + 1, 2): real and imaginary parts."""
    return torch.from_numpy(draw.normal(0, _START_SD, (3, height, width // 2 + 1, 2)).astype(np.float32))


def _damping(height: int, width: int, decay: float) -> Tensor:
    rows = torch.fft.fftfreq(height)[:, None]
    columns = torch.fft.rfftfreq(width)[None]
    frequency = (rows.square() + columns.square()).sqrt()
    return torch.pow(frequency.clamp(min=1 / max(height, width)), -decay)


def _rgb(spectra: Tensor, damping: Tensor, height: int, width: int) -> Tensor:
    """Returns the pictures (N, 3, height, width) in (0, 1) of their waves."""
    waves = torch.view_as_complex(spectra) * damping
    values = torch.fft.irfft2(waves, s=(height, width), norm="ortho") / _FOURIER_DIVISOR
    mixing = (_COLOURS / _COLOURS.norm(dim=0).max()).to(values.device)
    return torch.einsum("rc,nchw->nrhw", mixing, values).sigmoid()


def _motion(draw: np.random.Generator, height: int, width: int) -> Tensor:
    """Draws a turn, a scale and a shift, as the (2, 3) matrix that `affine_grid` takes."""
    angle = np.radians(draw.uniform(-_DEGREES, _DEGREES))
    scale = draw.uniform(*_SCALES)
    down, right = draw.uniform(-_SHIFT_PX, _SHIFT_PX, 2) / (height / 2, width / 2)
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    ratio = height / width
    matrix = [[cosine, -sine * ratio, right], [sine / ratio, cosine, down]]
    return torch.tensor(matrix, dtype=torch.float32)


def _moved(pictures: Tensor, motions: Tensor) -> Tensor:
    """Returns pictures turned, scaled and shifted; what comes in from outside is grey."""
    grid = functional.affine_grid(motions, list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures - _GREY, grid, padding_mode="zeros", align_corners=False) + _GREY
