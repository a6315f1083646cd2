"""RandAugment and TrivialAugment: a few operations drawn from a fixed set, on uint8 RGB of the network's input size.

The operations and the tables of their strengths are torchvision's. Only the draws are made here: torchvision takes
them from torch's global random numbers, which know neither the image nor the epoch.
Source: Cubuk et al. 2020, RandAugment: Practical automated data augmentation with a reduced search space; Mueller and
Hutter 2021, TrivialAugment: Tuning-free yet state-of-the-art data augmentation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode  # type: ignore[import-untyped]
from torchvision.transforms.v2 import functional as operations

BINS = 31
"""Steps of a strength, the weakest counted as 0. Source: torchvision.transforms.v2.RandAugment."""

SIGNED = frozenset({
    "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color", "contrast", "sharpness",
})  # fmt: skip
"""Operations that go either way with equal chance."""

_ADJUSTED = {
    "brightness": operations.adjust_brightness,
    "color": operations.adjust_saturation,
    "contrast": operations.adjust_contrast,
    "sharpness": operations.adjust_sharpness,
}

Strengths = Mapping[str, tuple[float, float]]


def rand_augment_strengths(width: int, height: int) -> Strengths:
    """Returns the weakest and the strongest value of each operation of RandAugment.

    Source: torchvision.transforms.v2.RandAugment, whose largest shift is 150 of 331 pixels.
    """
    return {
        "identity": (0, 0),
        "shear_x": (0, 0.3),
        "shear_y": (0, 0.3),
        "translate_x": (0, 150 / 331 * width),
        "translate_y": (0, 150 / 331 * height),
        "rotate": (0, 30),
        "brightness": (0, 0.9),
        "color": (0, 0.9),
        "contrast": (0, 0.9),
        "sharpness": (0, 0.9),
        "posterize": (8, 4),
        "solarize": (255, 0),
        "autocontrast": (0, 0),
        "equalize": (0, 0),
    }


TRIVIAL_AUGMENT_STRENGTHS: Strengths = {
    "identity": (0, 0),
    "shear_x": (0, 0.99),
    "shear_y": (0, 0.99),
    "translate_x": (0, 32),
    "translate_y": (0, 32),
    "rotate": (0, 135),
    "brightness": (0, 0.99),
    "color": (0, 0.99),
    "contrast": (0, 0.99),
    "sharpness": (0, 0.99),
    "posterize": (8, 2),
    "solarize": (255, 0),
    "autocontrast": (0, 0),
    "equalize": (0, 0),
}
"""The wide set. Source: torchvision.transforms.v2.TrivialAugmentWide."""


def rand_augment(
    image: npt.NDArray[np.uint8], count: int, magnitude: int, fill: tuple[int, ...], rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Applies operations drawn with equal chance, all of one magnitude.

    Args:
        image: (H, W, 3) uint8 RGB.
        count: How many, N of the paper.
        magnitude: Their strength, M of the paper, in [0, 30].
        fill: R, G, B of what comes in from outside.
        rng: Where the draws come from.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    strengths = rand_augment_strengths(image.shape[1], image.shape[0])
    picture = Image.fromarray(image)
    for _ in range(count):
        name = list(strengths)[rng.integers(len(strengths))]
        picture = apply(picture, name, _value(name, strengths, magnitude, rng), fill)
    return np.asarray(picture)


def trivial_augment(
    image: npt.NDArray[np.uint8], fill: tuple[int, ...], rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Applies one operation of one strength, both drawn with equal chance; otherwise as `rand_augment`."""
    name = list(TRIVIAL_AUGMENT_STRENGTHS)[rng.integers(len(TRIVIAL_AUGMENT_STRENGTHS))]
    value = _value(name, TRIVIAL_AUGMENT_STRENGTHS, int(rng.integers(BINS)), rng)
    return np.asarray(apply(Image.fromarray(image), name, value, fill))


def strength(name: str, strengths: Strengths, magnitude: int) -> float:
    """Returns the value of an operation at a magnitude in [0, 30]."""
    weakest, strongest = strengths[name]
    return weakest + (strongest - weakest) * magnitude / (BINS - 1)


def _value(name: str, strengths: Strengths, magnitude: int, rng: np.random.Generator) -> float:
    value = strength(name, strengths, magnitude)
    return -value if name in SIGNED and rng.random() < 0.5 else value


def apply(image: Image.Image, name: str, value: float, fill: tuple[int, ...]) -> Image.Image:
    """Applies one operation.

    Args:
        image: RGB.
        name: One of those in `TRIVIAL_AUGMENT_STRENGTHS`.
        value: shear: its tangent; translate: pixels; rotate: degrees; brightness, color, contrast, sharpness: change
            relative to 1; posterize: bits kept; solarize: the level from which values are inverted.
        fill: R, G, B of what comes in from outside.
    """
    place = _place(name, value)
    if place is not None:
        result = operations.affine(image, **place, interpolation=InterpolationMode.BILINEAR, fill=list(fill))
    else:
        result = _recoloured(image, name, value)
    assert isinstance(result, Image.Image)  # as its argument
    return result


def _place(name: str, value: float) -> dict[str, Any] | None:
    """Returns the affine map of an operation that moves pixels; None for one that changes their colours."""
    degrees = math.degrees(math.atan(value))
    whole = int(value)
    still: dict[str, Any] = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    # The upper left corner of a sheared picture stays where it is. An affine map turns clockwise, the tables do not.
    moved: dict[str, dict[str, Any]] = {
        "shear_x": {"shear": [degrees, 0.0], "center": [0.0, 0.0]},
        "shear_y": {"shear": [0.0, degrees], "center": [0.0, 0.0]},
        "translate_x": {"translate": [whole, 0]},
        "translate_y": {"translate": [0, whole]},
        "rotate": {"angle": -value},
    }
    return {**still, **moved[name]} if name in moved else None


def _recoloured(image: Image.Image, name: str, value: float) -> Any:  # noqa: ANN401 - torchvision has no types
    """Returns the image after an operation that leaves every pixel where it is."""
    if name in _ADJUSTED:
        return _ADJUSTED[name](image, 1 + value)
    if name == "posterize":
        return operations.posterize(image, round(value))
    if name == "solarize":
        return operations.solarize(image, value)
    if name == "autocontrast":
        return operations.autocontrast(image)
    return operations.equalize(image) if name == "equalize" else image
