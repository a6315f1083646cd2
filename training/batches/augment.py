"""Augmentation: a labelled image seen from elsewhere, on uint8 RGB, before preprocessing.

All geometry is one affine map from the network's input to the photograph, sampled once, and all colour is one affine
map of RGB, so an image is resampled a single time however many switches are on. The result already has the size of
the network's input; `preprocess` then only normalises it. RandAugment and TrivialAugment (`policies`) are drawn after
the geometry and before the colour, as their published recipes do.

What is drawn depends on (seed, epoch, image) alone: not on the number of workers, not on the order.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cnn_perception.image.messages import RgbImage
from cnn_perception.model.spec import InputSpec, Task
from cnn_perception.pipeline.preprocess import Region, input_region
from training.batches import policies
from training.config import TrainConfig, expand_augment
from training.tasks import sides
from training.tasks.by_name import task_of

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
        randaugment_operations: `randaugment`: how many operations an image undergoes.
        randaugment_magnitude: `randaugment`: their strength, in [0, 30].
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
    randaugment_operations: int
    randaugment_magnitude: int

    @classmethod
    def of(cls, config: TrainConfig, task: Task, names: Sequence[str] = ()) -> Augmentation | None:
        """Returns the augmentation of a run, None if it has none.

        By default it is that of its task, but for the mirroring where left and right differ.

        Args:
            config: The settings of the run.
            task: What it learns.
            names: Of the classes or numbers.
        """
        chosen = config.augment
        if chosen is None:
            chosen = expand_augment([task_of(task).default_augment])
            if _sided(task, names):
                chosen = tuple(name for name in chosen if name != "flip")
        if not chosen:
            return None
        shared = {f.name for f in dataclasses.fields(cls)} & {f.name for f in dataclasses.fields(config)} - {"input"}
        return cls(frozenset(chosen), config.input, **{name: getattr(config, name) for name in shared})

    def at(self, spec: InputSpec) -> Augmentation:
        """Returns the same changes for a network of another preprocessing, shifted by the same share of its input.

        Where both have one aspect ratio and one way to resize, both see the same part of the photograph.
        """
        if spec == self.input:
            return self
        shift_px = self.translate_px * spec.width / self.input.width
        return dataclasses.replace(self, input=spec, translate_px=shift_px)

    def zoom(self) -> float:
        """Returns how many times smaller than the photograph the part may be that fills the input, >= 1, per side."""
        # A crop of the area takes its root of each side; where it is off, evaluation's crop is where zooming begins.
        zoom = 1 / math.sqrt(self.crop_area) if "crop" in self.switches else 1 / self.input.crop_fraction
        zoom *= self.scale_factor if "scale" in self.switches else 1.0
        return zoom * (math.sqrt(self.stretch_factor) if "stretch" in self.switches else 1.0)


def mirroring_note(config: TrainConfig, task: Task, names: Sequence[str]) -> str:
    """Returns what is to be said of mirroring, in one line; empty where left and right are the same.

    Args:
        config: The settings of the run.
        task: What it learns.
        names: Of the classes or numbers.
    """
    sided = _sided(task, names)
    if not sided:
        return ""
    shown = ", ".join(map(repr, sided[:3])) + ", ..." * (len(sided) > 3)
    usual = expand_augment([task_of(task).default_augment])
    if config.augment is None and "flip" in usual:
        return f"left and right differ ({shown}): images are not mirrored; --augment {','.join(usual)} would do so"
    if "flip" in (config.augment or ()):
        return f"warning: --augment flip mirrors images, but left and right differ ({shown}); leave flip out"
    return ""


def _sided(task: Task, names: Sequence[str]) -> tuple[str, ...]:
    return sides.sided(names, of_numbers=not task_of(task).has_probabilities)


def augment(image: RgbImage, settings: Augmentation, rng: np.random.Generator) -> RgbImage:
    """Draws one variant of an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        settings: What may change.
        rng: Where the draws come from; in one order, so that one switch never moves another.

    Returns:
        (height, width, 3) uint8 RGB of the network's input size.
    """
    crop = rng.random(4)
    classic = rng.uniform(-1, 1, 6)
    color = rng.uniform(-1, 1, 3)
    mirrored = bool(rng.random() < 0.5) and "flip" in settings.switches
    region = crop_region(image.shape[0], image.shape[1], settings, crop)
    matrix = region_affine(region, settings.input) @ np.linalg.inv(classic_affine(settings, classic, mirrored))
    result = warp(image, matrix, settings.input)
    if "randaugment" in settings.switches:
        operations = settings.randaugment_operations
        magnitude = settings.randaugment_magnitude
        result = policies.rand_augment(result, operations, magnitude, padding(settings.input), rng)
    if "trivialaugment" in settings.switches:
        result = policies.trivial_augment(result, padding(settings.input), rng)
    if "color" in settings.switches:
        luma = float(np.dot(cv2.mean(result)[:3], REC601))
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
    turn = math.radians(turn * settings.rotation_deg)
    shear = math.radians(shear * settings.shear_deg)
    size = settings.scale_factor**scale
    aspect = settings.stretch_factor ** (stretch / 2)
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
    source, matrix = _shrunk(*_needed(image, matrix, spec), spec)
    padded = spec.resize_mode == "letterbox"
    warped = cv2.warpAffine(
        source,
        matrix[:2],
        (spec.width, spec.height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT if padded else cv2.BORDER_REFLECT_101,
        borderValue=padding(spec) if padded else [],
    )
    return np.asarray(warped, np.uint8)


def _needed(image: npt.NDArray[np.uint8], matrix: Affine, spec: InputSpec) -> tuple[npt.NDArray[np.uint8], Affine]:
    """The part of the photograph that the input sees, and the map to its pixels."""
    corners = np.array([[-1, spec.width, -1, spec.width], [-1, -1, spec.height, spec.height], [1, 1, 1, 1]], np.float64)
    seen = (matrix @ corners)[:2]
    # The pixels that are averaged to one at the edge come too.
    spare = np.ceil(np.hypot(matrix[:2, 0], matrix[:2, 1])) + 1
    first, last = np.floor(seen.min(axis=1) - spare), np.ceil(seen.max(axis=1) + spare)
    size = np.array([image.shape[1], image.shape[0]])
    # What lies beyond an edge is mirrored, and may come from anywhere.
    inside = (first >= 0) & (last < size)
    left, top = np.where(inside, first, 0).astype(int)
    right, bottom = np.where(inside, last + 1, size).astype(int)
    shift = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], np.float64)
    return image[top:bottom, left:right], shift @ matrix


def _shrunk(image: npt.NDArray[np.uint8], matrix: Affine, spec: InputSpec) -> tuple[npt.NDArray[np.uint8], Affine]:
    """The photograph so smooth that bilinear interpolation, which looks at 2x2 pixels only, skips nothing of it.

    As many whole pixels as one step of the input spans are averaged. The Gaussian after it makes up what is missing to
    the variance of Pillow's antialiased bilinear filter, and so of `preprocess`: a triangle over a step s has s^2 / 6;
    the average of k pixels has (k^2 - 1) / 12, and bilinear interpolation of its results k^2 / 6.
    """
    height, width = image.shape[:2]
    step = np.maximum(1.0, np.hypot(matrix[:2, 0], matrix[:2, 1]))
    across, down = np.minimum(step, (width, height)).astype(int)
    if across > 1 or down > 1:
        # Only whole blocks: what is left at the far edge is less than one pixel of the result.
        rows, columns = height // down, width // across
        blocks = image[: rows * down, : columns * across]
        image = np.asarray(cv2.resize(blocks, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
        block = Region(left=0, top=0, right=columns * across, bottom=rows * down)
        matrix = np.linalg.inv(region_affine(block, dataclasses.replace(spec, height=rows, width=columns))) @ matrix
    pixels = np.array([across, down])
    variance = (step**2 - pixels**2) / 6 - (pixels**2 - 1) / 12
    sigma = np.sqrt(np.maximum(variance, 0.0)) / pixels
    if sigma.max() > 0.2:  # a thinner one leaves the pixels as they are
        # its argument 0 would mean a width of OpenCV's choice
        image = np.asarray(cv2.GaussianBlur(image, (3, 3), max(sigma[0], 0.1), sigmaY=max(sigma[1], 0.1)), np.uint8)
    return image, matrix


def padding(spec: InputSpec) -> tuple[int, ...]:
    """Returns the mean colour, R, G, B in [0, 255], that tells a network nothing."""
    return tuple(round(255 * value) for value in spec.mean)


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
