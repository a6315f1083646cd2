"""Simulates the lens and the sensor of the demo's camera: from the light of a scene to the bytes of an image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cnn_perception.image.messages import RgbImage

"""(H, W, 3) RGB."""


@dataclass(frozen=True)
class Lens:
    """The optical properties of a camera, with the noise of its sensor; lengths are shares of the image's height.

    Attributes:
        gain: Exposure times white balance, per channel.
        gamma: Tone curve; above 1 darkens the middle.
        vignette: Loss of light in the corners, in [0, 1].
        defocus: Standard deviation of the blur.
        motion: Length of the motion blur.
        motion_deg: Its direction from the horizontal.
        shot: Standard deviation of the noise of a white pixel, in [0, 1]; it goes with the root of the light.
        read: Standard deviation of the noise of a black pixel, in [0, 1].
    """

    gain: tuple[float, float, float]
    gamma: float
    vignette: float
    defocus: float
    motion: float
    motion_deg: float
    shot: float
    read: float


def random_lens(rng: np.random.Generator) -> Lens:
    """Returns a lens as different from the next as cameras, drivers and hours are."""
    warm = rng.normal(0, 0.06)
    exposure = float(np.exp(rng.normal(0, 0.16)))
    return Lens(
        gain=(exposure * (1 + warm), exposure * (1 + rng.normal(0, 0.015)), exposure * (1 - warm)),
        gamma=float(np.exp(rng.normal(0, 0.14))),
        vignette=rng.uniform(0, 0.35),
        defocus=abs(rng.normal(0, 0.003)),
        motion=rng.uniform(0.004, 0.02) if rng.random() < 0.3 else 0.0,
        motion_deg=rng.uniform(0, 180),
        shot=rng.uniform(0.005, 0.04),
        read=rng.uniform(0.002, 0.02),
    )


def expose(image: NDArray[np.float32], lens: Lens, rng: np.random.Generator) -> RgbImage:
    """Returns the image that a lens and its sensor make of the light of a scene.

    Args:
        image: (H, W, 3) RGB light in [0, 1], brighter values saturate.
        lens: The lens.
        rng: Decides the noise.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    if lens.defocus * height > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), lens.defocus * height).astype(np.float32, copy=False)
    if lens.motion * height > 1:
        image = cv2.filter2D(image, -1, _streak(lens.motion * height, lens.motion_deg)).astype(np.float32, copy=False)
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    falloff = 1 - lens.vignette * ((x * x + y * y) / 2) ** 1.5
    light = np.clip(image * falloff[..., None] * np.array(lens.gain, np.float32), 0, 1) ** np.float32(lens.gamma)
    sigma = np.sqrt(lens.shot**2 * light + lens.read**2)
    light += sigma * rng.standard_normal(light.shape, dtype=np.float32)
    return RgbImage((np.clip(light, 0, 1) * 255 + 0.5).astype(np.uint8))


def _streak(length_px: float, direction_deg: float) -> NDArray[np.float32]:
    size = int(length_px) // 2 * 2 + 3
    kernel = np.zeros((size, size), np.float32)
    half = np.array([np.cos(np.radians(direction_deg)), np.sin(np.radians(direction_deg))]) * length_px / 2
    ends = np.rint((size // 2 + np.stack([-half, half])) * 16).astype(int)
    cv2.line(kernel, tuple(map(int, ends[0])), tuple(map(int, ends[1])), 1.0, 1, cv2.LINE_8, 4)
    streak: NDArray[np.float32] = kernel / kernel.sum()
    return streak
