"""Augmentation: a labelled image seen from elsewhere, on uint8 RGB, before preprocessing.

All geometry is one affine map from the network's input to the photograph, sampled once, and all colour is one affine
map of RGB, so an image is resampled a single time however many switches are on. The result already has the size of
the network's input; `preprocess` then only normalises it.

What is drawn depends on (seed, epoch, image) alone: not on the number of workers, not on the order.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cnn_perception.image import RgbImage
from cnn_perception.preprocess import Region, input_region
from cnn_perception.spec import InputSpec
from training.config import TrainConfig

Affine = npt.NDArray[np.float64]

REC601 = (0.299, 0.587, 0.114)
"""Share of R, G and B in luma. Source: ITU-R BT.601."""


@dataclass(frozen=True)
class Augmentation:
    """Which changes are drawn, and how far they go.

    Attributes:
        switches: Names of `training.config.SWITCHES` that are on.
        input: The preprocessing whose geometry the changes start from.
        crop_area: `crop`: smallest share of the image's area that is kept, in (0, 1].
        color_strength: `color`: largest relative change of brightness, contrast and saturation, in [0, 1).
        rotation_deg: `rotate`: largest angle, degrees, either way.
        translate_px: `translate`: largest shift, pixels of the network's input, either way.
        scale_factor: `scale`: largest factor, log-uniform between its inverse and itself.
        shear_deg: `shear`: largest angle, degrees, either way.
        stretch_factor: `stretch`: largest change of the aspect ratio, log-uniform likewise.
    """

    switches: frozenset[str]
    input: InputSpec
    crop_area: float
    color_strength: float
    rotation_deg: float
    translate_px: float
    scale_factor: float
    shear_deg: float
    stretch_factor: float

    @classmethod
    def of(cls, config: TrainConfig) -> Augmentation | None:
        """Returns the augmentation of a run, None if it has none."""
        if not config.augment:
            return None
        shared = {f.name for f in dataclasses.fields(cls)} & {f.name for f in dataclasses.fields(config)} - {"input"}
        return cls(frozenset(config.augment), config.input, **{name: getattr(config, name) for name in shared})


def augment(image: RgbImage, settings: Augmentation, rng: np.random.Generator) -> RgbImage:
    """Draws one variant of an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        settings: What may change.
        rng: Where the draws come from; always the same number of them, so that one switch never moves another.

    Returns:
        (height, width, 3) uint8 RGB of the network's input size.
    """
    crop, classic, color = rng.random(4), rng.uniform(-1, 1, 6), rng.uniform(-1, 1, 3)
    mirrored = bool(rng.random() < 0.5) and "flip" in settings.switches
    region = crop_region(image.shape[0], image.shape[1], settings, crop)
    matrix = region_affine(region, settings.input) @ np.linalg.inv(classic_affine(settings, classic, mirrored))
    result = warp(image, matrix, settings.input)
    if "color" in settings.switches:
        luma = float(result.mean(axis=(0, 1)) @ REC601)
        result = np.asarray(cv2.transform(result, color_affine(luma, settings.color_strength * color)), np.uint8)
    return RgbImage(result)


def crop_region(height: int, width: int, settings: Augmentation, draw: npt.NDArray[np.float64]) -> Region:
    """Returns the part of the photograph that the input looks at.

    With `crop` on: a share of the area uniform in [crop_area, 1], of an aspect ratio within 3/4 to 4/3 of the
    input's, anywhere inside; else what evaluation sees.
    Source: Szegedy et al. 2015, Going deeper with convolutions, section 6.

    Args:
        height: Rows of the photograph.
        width: Its columns.
        settings: Crop area and geometry of the input.
        draw: (4,) uniform in [0, 1): area, aspect ratio, place across, place down.
    """
    seen = input_region(height, width, settings.input)
    if "crop" not in settings.switches:
        return seen
    area = height * width * (settings.crop_area + (1 - settings.crop_area) * draw[0])
    aspect = (seen.right - seen.left) / (seen.bottom - seen.top) * (4 / 3) ** (2 * draw[1] - 1)
    columns, rows = min(width, math.sqrt(area * aspect)), min(height, math.sqrt(area / aspect))
    left, top = draw[2] * (width - columns), draw[3] * (height - rows)
    return Region(left=left, top=top, right=left + columns, bottom=top + rows)


def region_affine(region: Region, spec: InputSpec) -> Affine:
    """Returns the (3, 3) map from a pixel (x, y, 1) of the input to one of the photograph."""
    per_column = (region.right - region.left) / spec.width
    per_row = (region.bottom - region.top) / spec.height
    # an index points to the centre of its pixel, half a pixel beyond the pixel's edge
    across, down = region.left + (per_column - 1) / 2, region.top + (per_row - 1) / 2
    return np.array([[per_column, 0, across], [0, per_row, down], [0, 0, 1]], np.float64)


def classic_affine(settings: Augmentation, draw: npt.NDArray[np.float64], mirrored: bool) -> Affine:
    """Returns the (3, 3) map by which the picture moves within the input, about its centre.

    A shape is mirrored, stretched and scaled, then sheared, then turned clockwise, then shifted.
    Source: Dieleman et al. 2015, Rotation-invariant convolutional neural networks for galaxy morphology
    prediction, section 6.3, with the shear and stretch of the same authors' plankton classifier.

    Args:
        settings: Which changes are on, and their extent.
        draw: (6,) uniform in [-1, 1): rotation, shift right, shift down, scale, shear, stretch.
        mirrored: Whether left and right are exchanged.
    """
    switches = ("rotate", "translate", "translate", "scale", "shear", "stretch")
    turn, right, down, scale, shear, stretch = draw * [name in settings.switches for name in switches]
    turn, shear = math.radians(turn * settings.rotation_deg), math.radians(shear * settings.shear_deg)
    size, aspect = settings.scale_factor**scale, settings.stretch_factor ** (stretch / 2)
    rotated = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    sheared = np.array([[1.0, math.tan(shear)], [0.0, 1.0]])
    sized = np.diag([(-1 if mirrored else 1) * size * aspect, size / aspect])
    centre = np.array([(settings.input.width - 1) / 2, (settings.input.height - 1) / 2])
    result = np.eye(3)
    result[:2, :2] = rotated @ sheared @ sized
    result[:2, 2] = centre - result[:2, :2] @ centre + settings.translate_px * np.array([right, down])
    return result


def warp(image: RgbImage, matrix: Affine, spec: InputSpec) -> npt.NDArray[np.uint8]:
    """Resamples a photograph on the pixels of the input.

    Args:
        image: (H, W, 3) uint8 RGB.
        matrix: (3, 3) map from a pixel (x, y, 1) of the input to one of the photograph.
        spec: Size of the input. A letterbox is padded with the mean colour, as `preprocess` does; otherwise the
            photograph is continued by its mirror image.

    Returns:
        (height, width, 3) uint8.
    """
    height, width = image.shape[:2]
    # Bilinear interpolation looks at 2x2 pixels only: where one step of the input skips more, average those first.
    skip_x, skip_y = np.maximum(1.0, np.hypot(matrix[:2, 0], matrix[:2, 1]))
    columns, rows = max(1, round(width / skip_x)), max(1, round(height / skip_y))
    source: npt.NDArray[np.uint8] = image
    if (rows, columns) != (height, width):
        source = np.asarray(cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
        shrink = Region(left=0, top=0, right=width, bottom=height)
        matrix = np.linalg.inv(region_affine(shrink, dataclasses.replace(spec, height=rows, width=columns))) @ matrix
    padded = spec.resize_mode == "letterbox"
    warped = cv2.warpAffine(
        source,
        matrix[:2],
        (spec.width, spec.height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT if padded else cv2.BORDER_REFLECT_101,
        borderValue=[round(255 * value) for value in spec.mean] if padded else [],
    )
    return np.asarray(warped, np.uint8)


def color_affine(luma: float, change: npt.NDArray[np.float64]) -> Affine:
    """Returns the (3, 4) map of RGB that changes saturation, then contrast, then brightness.

    Args:
        luma: Mean luma of the image, which contrast leaves alone, in [0, 255].
        change: (3,) relative changes of brightness, contrast and saturation; 0 changes nothing.
    """
    brightness, contrast, saturation = 1 + change
    grey = np.tile(REC601, (3, 1))
    linear = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * grey)
    shift = np.full((3, 1), brightness * (1 - contrast) * luma)
    return np.hstack([linear, shift])
