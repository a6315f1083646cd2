"""A label map drawn on its image: a colour a class, always the same one, and a legend of those that are seen."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from cnn_perception.image.messages import RgbImage
from cnn_perception.pipeline.label_pixels import LabelPixels

_GOLDEN = 0.618034
"""Share of the circle of hues between two classes: however many there are, neighbours are far apart."""
_MOST_ROWS = 8
_SMALLEST_LABELLED = 48
"""Pixels of the shorter side below which no text would be readable."""
_PANEL = (15, 20, 30)
_WHITE = (255, 255, 255)


def palette(count: int) -> npt.NDArray[np.uint8]:
    """Returns the colours of the first classes, (count, 3) RGB; a class has the same one in every picture."""
    colours = [colorsys.hsv_to_rgb(index * _GOLDEN % 1.0, 0.9 - index % 3 * 0.2, 1.0) for index in range(count)]
    return np.array([[round(255 * share) for share in colour] for colour in colours], np.uint8).reshape(-1, 3)


def draw_labels(image: RgbImage, labels: LabelPixels, names: Sequence[str], alpha: float) -> RgbImage:
    """Draws a label map on its image; what has no class stays as it is.

    Args:
        image: (H, W, 3) uint8; not changed.
        labels: (H, W), from `label_pixels`.
        names: Of the classes, as the labels count them from 1 on.
        alpha: Opacity of the colours, in [0, 1].

    Returns:
        (H, W, 3) uint8, in the upper left corner the classes seen, the largest first.
    """
    colours = palette(len(names))
    painted = np.concatenate([np.zeros((1, 3), np.uint8), colours])[labels]
    mixed = cv2.addWeighted(image, 1.0 - alpha, painted, alpha, 0.0)
    drawn = np.where((labels > 0)[:, :, np.newaxis], mixed, image).astype(np.uint8)
    if min(image.shape[:2]) < _SMALLEST_LABELLED:
        return RgbImage(drawn)
    sizes = np.bincount(labels.ravel(), minlength=len(names) + 1)[1:]
    seen = [int(index) for index in np.argsort(-sizes, kind="stable")[:_MOST_ROWS] if sizes[index]]
    return _with_legend(drawn, [(names[index], colours[index]) for index in seen])


def _with_legend(drawn: npt.NDArray[np.uint8], rows: Sequence[tuple[str, npt.NDArray[np.uint8]]]) -> RgbImage:
    """Writes the names beside their colours; what hangs over the edge is cut off."""
    if not rows:
        return RgbImage(drawn)
    height, width = drawn.shape[:2]
    text_px = int(np.clip(min(height, 0.75 * width) / 24, 11, 44))
    row_px = round(1.5 * text_px)
    font = ImageFont.load_default(text_px)
    picture = Image.fromarray(drawn)
    pen = ImageDraw.Draw(picture)
    longest = max(font.getlength(name) for name, _ in rows)
    pen.rectangle((0, 0, 3 * text_px + round(longest), row_px * len(rows) + text_px // 2), fill=_PANEL)
    for index, (name, colour) in enumerate(rows):
        top = text_px // 2 + index * row_px
        red, green, blue = colour.tolist()
        pen.rectangle((text_px // 2, top, text_px // 2 + text_px, top + text_px), fill=(red, green, blue))
        pen.text((2 * text_px, top + text_px // 2), name, _WHITE, font, anchor="lm")
    return RgbImage(np.asarray(picture))
