"""An answer drawn on its image: the activation map as colours, and the answer as a label bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

DEFAULT_ALPHA = 0.55
"""Opacity of the colour at the strongest place."""

_OUTSIDE_BRIGHTNESS = 0.6
"""What is left of the brightness outside the model's input, such as the edges that a centre crop loses."""
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
    threshold: float = 0.0,
    truth: str | None = None,
    is_right: bool | None = None,
) -> RgbImage:
    """Draws the activation map and the answer on the image: the best classes, all classes seen, or the numbers.

    The map is stretched over the part of the image that the model's input covers; what lies outside is dimmed. Only
    its positive part is drawn, relative to its largest value in this frame: colours compare places, not frames. It is
    of the best class of this frame alone, which is named where the answer begins with another one, or with none.

    Args:
        image: (H, W, 3) uint8; not changed.
        prediction: What is answered, such as what was smoothed over the frames before, see `Prediction.held`.
        spec: The model's preprocessing.
        alpha: Opacity of the colour at the strongest place, in [0, 1].
        top_k: How many classes the label bar lists; a small image has room for fewer.
        threshold: Score in [0, 1] below which a class is listed, but is no answer.
        truth: What is known, as a text; drawn with a frame.
        is_right: Whether the answer is that: the frame is green or red; None for numbers, where it is grey.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = image.shape[:2]
    drawn: _Pixels = image.copy()
    if prediction.activation is not None:
        drawn = _with_activation(image, prediction.activation, spec, alpha)
    if min(height, width) >= _SMALLEST_LABELLED:
        text_px = int(np.clip(min(height, 0.75 * width) / 24, 11, 44))
        rows = task_of(prediction.task).rows(prediction, top_k, threshold)
        _draw_bar(drawn, rows, text_px)
        if truth is not None:
            _draw_truth(drawn, truth, {True: _RIGHT, False: _WRONG, None: _TRACK}[is_right], text_px)
        mapped = prediction.class_names[prediction.top]
        if prediction.activation is not None and rows[0].name != mapped:
            _draw_chip(drawn, f"map: {mapped}", _PANEL, text_px, line=int(truth is not None))
    return RgbImage(drawn)


def _with_activation(image: RgbImage, activation: FloatArray, spec: InputSpec, alpha: float) -> _Pixels:
    """Returns the image with the activation map blended into it, and dimmed where the model's input does not reach."""
    height, width = image.shape[:2]
    region = input_region(height, width, spec)
    left, top, right, bottom = (round(v) for v in (region.left, region.top, region.right, region.bottom))
    peak = float(activation.max())
    cells = np.maximum(activation, 0.0, dtype=np.float32) / np.float32(peak if peak > 0.0 else 1.0)
    smooth = _weights(len(cells), bottom - top) @ cells @ _weights(cells.shape[1], right - left).T
    rows = slice(max(top, 0), min(bottom, height))
    columns = slice(max(left, 0), min(right, width))
    strength = smooth[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    strength = strength.clip(0.0, 1.0)  # the cubic overshoots
    drawn = np.asarray(cv2.convertScaleAbs(image, alpha=_OUTSIDE_BRIGHTNESS), np.uint8)
    colours = cv2.applyColorMap((strength * 255.0).astype(np.uint8), _rgb_colour_map())
    weight = strength * np.float32(alpha)
    drawn[rows, columns] = cv2.blendLinear(image[rows, columns], colours, 1.0 - weight, weight)
    return drawn


@lru_cache(maxsize=16)
def _weights(cells: int, pixels: int) -> npt.NDArray[np.float32]:
    """Returns (pixels, cells): by which OpenCV's cubic makes pixels of cells; a product takes a tenth of its time."""
    each = cv2.resize(np.eye(cells, dtype=np.float32), (cells, max(pixels, 1)), interpolation=cv2.INTER_CUBIC)
    return np.asarray(each, np.float32)


@lru_cache(maxsize=1)
def _rgb_colour_map() -> _Pixels:
    """Turbo without its dark red end, (256, 1, 3): blue is weak, red is strong, and the strongest place is bright."""
    ramp = np.linspace(0, 228, 256).astype(np.uint8)[:, np.newaxis]
    return np.ascontiguousarray(cv2.applyColorMap(ramp, cv2.COLORMAP_TURBO)[:, :, ::-1])


@dataclass(frozen=True)
class _BarLayout:
    """Where the parts of the label bar are, in pixels of the bar.

    Attributes:
        width: Of the whole bar.
        height: Likewise.
        gap: Between its parts.
        row_height: Of one line of text.
        score_left: Where the bars of the scores begin.
        score_width: Of a bar for the score 1; 0 without scores.
        score_height: Of such a bar.
        names: The names, shortened to their place.
    """

    width: int
    height: int
    gap: int
    row_height: int
    score_left: int
    score_width: int
    score_height: int
    names: tuple[str, ...]

    def top(self, index: int) -> int:
        """Returns where a row begins."""
        return self.gap // 2 + index * self.row_height


def _draw_bar(drawn: _Pixels, rows: Sequence[AnswerRow], text_px: int) -> None:
    """Draws the answer as a panel in the lower left corner, in place."""
    height, width = drawn.shape[:2]
    shown = rows[: max(1, int(0.35 * height) // _row_height(text_px))]
    layout = _layout(shown, width, text_px)
    panel = _panel(layout.width, layout.height, layout.gap).copy()
    _draw_scores(panel, shown, layout)
    _write_rows(panel, shown, layout, _font(text_px))
    _paste(drawn, panel, layout.gap, height - layout.height - layout.gap)


def _row_height(text_px: int) -> int:
    return round(text_px * 1.5)


def _gap(text_px: int) -> int:
    return max(text_px // 2, 5)


def _layout(rows: Sequence[AnswerRow], image_width: int, text_px: int) -> _BarLayout:
    """Returns the layout of some rows in an image of that width."""
    font = _font(text_px)
    gap = _gap(text_px)
    has_scores = any(row.share is not None for row in rows)
    figures = ["100%" if row.share is not None else row.figure for row in rows]
    figure_width = round(max(font.getlength(figure) for figure in figures))
    score_width = min(round(text_px * 5.5), image_width // 4) if has_scores else 0
    name_limit = image_width - 6 * gap - figure_width - score_width
    names = tuple(_fit(row.name, font, name_limit) for row in rows)
    name_width = round(max(font.getlength(name) for name in names))
    gaps = 2 + bool(score_width) + bool(figure_width)
    return _BarLayout(
        width=name_width + score_width + figure_width + gaps * gap,
        height=_row_height(text_px) * len(rows) + gap,
        gap=gap,
        row_height=_row_height(text_px),
        score_left=name_width + 2 * gap,
        score_width=score_width,
        score_height=max(text_px // 3, 4),
        names=names,
    )


@lru_cache(maxsize=8)  # of an image of 3840x2160 pixels one has a megabyte
def _panel(width: int, height: int, diameter: int) -> Image.Image:
    return _rounded((width, height), diameter, (*_PANEL, round(255 * _PANEL_OPACITY)))


def _rounded(size: tuple[int, int], diameter: int, colour: tuple[int, int, int, int]) -> Image.Image:
    """Returns a rectangle of (width, height) pixels, RGBA: drawn twice as large, so that its corners are smooth."""
    width, height = size
    drawn = Image.new("RGBA", (2 * width, 2 * height), (*colour[:3], 0))
    ImageDraw.Draw(drawn).rounded_rectangle((0, 0, 2 * width - 1, 2 * height - 1), diameter, colour)
    return drawn.reduce(2)


def _draw_scores(panel: Image.Image, rows: Sequence[AnswerRow], layout: _BarLayout) -> None:
    """Draws the bars of the scores, in place."""
    for index, row in enumerate(rows):
        if row.share is None:
            continue
        place = (layout.score_left, layout.top(index) + (layout.row_height - layout.score_height) // 2)
        bars = [(layout.score_width, _TRACK)]
        filled = round(row.share * layout.score_width)
        if filled >= 1:
            bars.append((max(filled, layout.score_height), _ACCENT if row.is_answer else _QUIET))
        for width, colour in bars:
            panel.alpha_composite(_score_bar(width, layout.score_height, colour), place)


@lru_cache(maxsize=256)
def _score_bar(width: int, height: int, colour: _Rgb) -> Image.Image:
    return _rounded((width, height), height, (*colour, 255))


def _write_rows(panel: Image.Image, rows: Sequence[AnswerRow], layout: _BarLayout, font: _Font) -> None:
    """Writes the names and the figures of the rows, in place."""
    pen = ImageDraw.Draw(panel)
    for index, (name, row) in enumerate(zip(layout.names, rows, strict=True)):
        middle = layout.top(index) + layout.row_height // 2
        colour = (*(_WHITE if row.is_answer else _QUIET), 255)
        figure = row.figure if row.share is None else _percent(row.share)
        pen.text((layout.gap, middle), name, colour, font, anchor="lm")
        pen.text((layout.width - layout.gap, middle), figure, colour, font, anchor="rm")


def _percent(score: float) -> str:
    return f"{score:.0%}" if score >= 0.005 else "<1%"


def _draw_truth(drawn: _Pixels, truth: str, colour: _Rgb, text_px: int) -> None:
    """Frames the image and names the known class in the upper left corner, in place."""
    height, width = drawn.shape[:2]
    cv2.rectangle(drawn, (0, 0), (width - 1, height - 1), colour, max(2, text_px // 3))
    _draw_chip(drawn, f"truth: {truth}", colour, text_px, line=0)


def _draw_chip(drawn: _Pixels, text: str, colour: _Rgb, text_px: int, line: int) -> None:
    """Writes a text on a ground of a colour, in place; in the upper left corner, so many lines below its first one."""
    font = _font(text_px)
    gap = _gap(text_px)
    text = _fit(text, font, drawn.shape[1] - 4 * gap)
    chip = Image.new("RGBA", (round(font.getlength(text)) + 2 * gap, round(text_px * 1.6)), (*colour, 255))
    ImageDraw.Draw(chip).text((gap, chip.height // 2), text, (*_WHITE, 255), font, anchor="lm")
    _paste(drawn, chip, 0, line * chip.height)


def _paste(drawn: _Pixels, panel: Image.Image, left: int, top: int) -> None:
    """Blends an RGBA panel into the image; what hangs over the edge is cut off."""
    rows = slice(max(top, 0), top + panel.height)
    target = drawn[rows, left : left + panel.width]
    height, width = target.shape[:2]
    cut = panel.crop((0, rows.start - top, width, rows.start - top + height))
    ground = Image.fromarray(target)
    ground.paste(cut, mask=cut)
    target[:] = np.asarray(ground)


@lru_cache(maxsize=8)
def _font(size: int) -> _Font:
    return ImageFont.load_default(size)


def _fit(text: str, font: _Font, limit: int) -> str:
    """Shortens a text with an ellipsis until it fits into so many pixels."""
    if font.getlength(text) <= limit:
        return text
    while len(text) > 1 and font.getlength(text + "...") > limit:
        text = text[:-1]
    return text.rstrip() + "..."
