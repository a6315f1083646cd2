"""A prediction drawn on its image: where the network looked, and what it saw there."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from cnn_perception.image.messages import RgbImage
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import InputSpec
from cnn_perception.pipeline.preprocess import input_region
from cnn_perception.tasks.prediction import Prediction
from cnn_perception.tasks.registry import task_of
from cnn_perception.tasks.rules import AnswerRow

_Pixels = npt.NDArray[np.uint8]
_Rgb = tuple[int, int, int]

DEFAULT_ALPHA = 0.55
"""Opacity of the colour at the strongest place."""

_UNSEEN_LIGHT = 0.6
"""What is left of the light where the model sees nothing, such as the edges that a centre crop loses."""
_SMALLEST_LABELLED = 48
"""Pixels of the shorter side below which no text would be readable."""

_PANEL: _Rgb = (15, 20, 30)
_PANEL_OPACITY = 0.72
_WHITE: _Rgb = (255, 255, 255)
_ACCENT: _Rgb = (255, 193, 7)
_QUIET: _Rgb = (178, 187, 200)
_TRACK: _Rgb = (62, 70, 84)
_RIGHT: _Rgb = (34, 180, 90)
_WRONG: _Rgb = (225, 60, 60)


def draw_overlay(
    image: RgbImage,
    prediction: Prediction,
    spec: InputSpec,
    *,
    alpha: float = DEFAULT_ALPHA,
    top_k: int = 3,
    truth: str | None = None,
    is_right: bool | None = None,
) -> RgbImage:
    """Draws the activation map and the answer on the image: the best classes, all classes seen, or the numbers.

    The map is stretched over the part of the image that the model's input covers; what lies outside is dimmed. Only
    its positive part is drawn, relative to its largest value in this frame: colours compare places, not frames.

    Args:
        image: (H, W, 3) uint8; not changed.
        prediction: What was recognised in it.
        spec: The model's preprocessing.
        alpha: Opacity of the colour at the strongest place, in [0, 1].
        top_k: How many classes the label bar lists; a small image has room for fewer.
        truth: What is known, as a text; drawn with a frame.
        is_right: Whether the answer is that: the frame is green or red; None for numbers, where it is grey.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = image.shape[:2]
    drawn = image.copy() if prediction.activation is None else _heated(image, prediction.activation, spec, alpha)
    if min(height, width) >= _SMALLEST_LABELLED:
        text_px = int(np.clip(min(height, 0.75 * width) / 24, 11, 44))
        _draw_bar(drawn, task_of(prediction.task).rows(prediction, top_k), text_px)
        if truth is not None:
            _draw_truth(drawn, truth, {True: _RIGHT, False: _WRONG, None: _TRACK}[is_right], text_px)
    return RgbImage(drawn)


def _heated(image: RgbImage, activation: FloatArray, spec: InputSpec, alpha: float) -> _Pixels:
    height, width = image.shape[:2]
    region = input_region(height, width, spec)
    left, top, right, bottom = (round(v) for v in (region.left, region.top, region.right, region.bottom))
    peak = float(activation.max())
    cells = np.maximum(activation, 0.0, dtype=np.float32) / np.float32(peak if peak > 0.0 else 1.0)
    smooth = cv2.resize(cells, (max(right - left, 1), max(bottom - top, 1)), interpolation=cv2.INTER_CUBIC)
    rows = slice(max(top, 0), min(bottom, height))
    columns = slice(max(left, 0), min(right, width))
    strength = smooth[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    strength = strength.clip(0.0, 1.0)  # the cubic overshoots
    drawn = np.asarray(cv2.convertScaleAbs(image, alpha=_UNSEEN_LIGHT), np.uint8)
    colours = cv2.applyColorMap((strength * 255.0).astype(np.uint8), _rgb_colour_map())
    weight = strength * np.float32(alpha)
    drawn[rows, columns] = cv2.blendLinear(image[rows, columns], colours, 1.0 - weight, weight)
    return drawn


@lru_cache(maxsize=1)
def _rgb_colour_map() -> _Pixels:
    """Turbo without its dark red end, (256, 1, 3): blue is weak, red is strong, and the strongest place is bright."""
    ramp = np.linspace(0, 228, 256).astype(np.uint8)[:, np.newaxis]
    return np.ascontiguousarray(cv2.applyColorMap(ramp, cv2.COLORMAP_TURBO)[:, :, ::-1])


def _draw_bar(drawn: _Pixels, rows: list[AnswerRow], text_px: int) -> None:
    """Draws the answer as a panel in the lower left corner, in place."""
    height, width = drawn.shape[:2]
    gap = max(text_px // 2, 5)
    line = round(text_px * 1.5)
    rows = rows[: max(1, int(0.35 * height) // line)]
    font = _font(text_px)
    figures = ["100%" if row.share is not None else row.figure for row in rows]
    figure_width = round(max(font.getlength(figure) for figure in figures))
    bar_width = min(round(text_px * 5.5), width // 4) if any(row.share is not None for row in rows) else 0
    room = width - 6 * gap - figure_width - bar_width
    names = [_fit(row.name, font, room) for row in rows]
    name_width = round(max(font.getlength(name) for name in names))
    gaps = 2 + bool(bar_width) + bool(figure_width)
    size = (name_width + bar_width + figure_width + gaps * gap, line * len(rows) + gap)
    bar_left = name_width + 2 * gap
    bar_height = max(text_px // 3, 4)

    shapes = Image.new("RGBA", (2 * size[0], 2 * size[1]), (*_PANEL, 0))  # twice the size: smooth corners
    pen = ImageDraw.Draw(shapes)
    pen.rounded_rectangle((0, 0, *shapes.size), gap, (*_PANEL, round(255 * _PANEL_OPACITY)))
    for index, row in enumerate(rows):
        if row.share is None:
            continue
        top = gap // 2 + index * line + (line - bar_height) // 2
        box = (2 * bar_left, 2 * top, 2 * (bar_left + bar_width) - 1, 2 * (top + bar_height) - 1)
        pen.rounded_rectangle(box, bar_height, (*_TRACK, 255))
        if row.share * bar_width >= 1.0:
            filled = (box[0], box[1], box[0] + max(round(2 * row.share * bar_width), 2 * bar_height) - 1, box[3])
            pen.rounded_rectangle(filled, bar_height, (*(_ACCENT if row.is_answer else _QUIET), 255))
    panel = shapes.reduce(2)
    pen = ImageDraw.Draw(panel)
    for index, (name, row) in enumerate(zip(names, rows, strict=True)):
        middle = gap // 2 + index * line + line // 2
        colour = (*(_WHITE if row.is_answer else _QUIET), 255)
        figure = row.figure if row.share is None else _percent(row.share)
        pen.text((gap, middle), name, colour, font, anchor="lm")
        pen.text((size[0] - gap, middle), figure, colour, font, anchor="rm")
    _paste(drawn, panel, gap, height - size[1] - gap)


def _percent(score: float) -> str:
    return f"{score:.0%}" if score >= 0.005 else "<1%"


def _draw_truth(drawn: _Pixels, truth: str, colour: _Rgb, text_px: int) -> None:
    """Frames the image and names the known class in the upper left corner, in place."""
    height, width = drawn.shape[:2]
    cv2.rectangle(drawn, (0, 0), (width - 1, height - 1), colour, max(2, text_px // 3))
    font = _font(text_px)
    gap = max(text_px // 2, 5)
    text = _fit(f"truth: {truth}", font, width - 4 * gap)
    chip = Image.new("RGBA", (round(font.getlength(text)) + 2 * gap, round(text_px * 1.6)), (*colour, 255))
    ImageDraw.Draw(chip).text((gap, chip.height // 2), text, (*_WHITE, 255), font, anchor="lm")
    _paste(drawn, chip, 0, 0)


def _paste(drawn: _Pixels, panel: Image.Image, left: int, top: int) -> None:
    """Blends an RGBA panel into the image; what hangs over the edge is cut off."""
    rows = slice(max(top, 0), top + panel.height)
    columns = slice(left, left + panel.width)
    target = drawn[rows, columns]
    source = np.asarray(panel)[rows.start - top :][: target.shape[0], : target.shape[1]].astype(np.uint16)
    opacity = source[:, :, 3:]
    target[:] = (source[:, :, :3] * opacity + target * (255 - opacity) + 127) // 255


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> str:
    """Shortens a text with an ellipsis until it fits into `room` pixels."""
    if font.getlength(text) <= room:
        return text
    while len(text) > 1 and font.getlength(text + "...") > room:
        text = text[:-1]
    return text.rstrip() + "..."
