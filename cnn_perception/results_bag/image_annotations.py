"""An answer as foxglove_msgs/ImageAnnotations: what Foxglove draws on the image itself, in pixels of the image.

Foxglove counts pixels from the upper left corner of the first one, `geometry` from its centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnn_perception.bag.message_types import (
    ANNOTATIONS_TYPE,
    CIRCLE_TYPE,
    COLOR_TYPE,
    LINE_LOOP,
    POINT_TYPE,
    POINTS_TYPE,
    TEXT_TYPE,
)
from cnn_perception.bag.messages import Messages

Rgb = tuple[float, float, float]

RIGHT: Rgb = (0.13, 0.71, 0.35)
WRONG: Rgb = (0.88, 0.24, 0.24)
UNJUDGED: Rgb = (0.65, 0.7, 0.76)
_PLACE: Rgb = (1.0, 0.76, 0.03)
_PANEL: Rgb = (0.06, 0.08, 0.12)
_PANEL_OPACITY = 0.72
_HALF_A_PIXEL = 0.5


@dataclass(frozen=True)
class Drawing:
    """What is drawn on an image.

    Attributes:
        height: Of the image, pixels.
        width: Likewise.
        lines: Texts, one below the other from the upper left corner.
        colour: Of the frame around the image.
        place: (u, v) of the place that shows the class, as `geometry` counts; None for none.
    """

    height: int
    width: int
    lines: Sequence[str]
    colour: Rgb
    place: tuple[float, float] | None


def to_annotations(messages: Messages, stamp_ns: int, drawing: Drawing) -> Any:  # noqa: ANN401 made at run time
    """Returns a drawing as a message.

    Args:
        messages: Makes it.
        stamp_ns: Stamp of the image's header, by which Foxglove finds the image.
        drawing: What is drawn.
    """
    pen = _Pen(messages, messages.time(stamp_ns), drawing)
    return messages.of(ANNOTATIONS_TYPE, circles=pen.circles(), points=[pen.frame()], texts=pen.texts())


class _Pen:
    """Draws one image's shapes."""

    def __init__(self, messages: Messages, time: Any, drawing: Drawing) -> None:  # noqa: ANN401
        self._messages = messages
        self._time = time
        self._drawing = drawing
        self._text_px = min(44.0, max(11.0, min(drawing.height, 0.75 * drawing.width) / 24))

    def circles(self) -> list[Any]:
        """Returns a circle around the place that shows the class, if there is one."""
        if self._drawing.place is None:
            return []
        u, v = self._drawing.place
        return [
            self._messages.of(
                CIRCLE_TYPE,
                timestamp=self._time,
                position=self._point(u + _HALF_A_PIXEL, v + _HALF_A_PIXEL),
                diameter=2 * self._text_px,
                thickness=self._text_px / 6,
                fill_color=self._colour(_PLACE, 0.0),
                outline_color=self._colour(_PLACE),
            )
        ]

    def frame(self) -> Any:  # noqa: ANN401
        """Returns a frame around the image that is not cut off by its edges."""
        thickness = self._text_px / 3
        right = self._drawing.width - thickness / 2
        bottom = self._drawing.height - thickness / 2
        corners = ((thickness / 2, thickness / 2), (right, thickness / 2), (right, bottom), (thickness / 2, bottom))
        return self._messages.of(
            POINTS_TYPE,
            timestamp=self._time,
            type=LINE_LOOP,
            points=[self._point(x, y) for x, y in corners],
            outline_color=self._colour(self._drawing.colour),
            outline_colors=[],
            fill_color=self._colour(self._drawing.colour, 0.0),
            thickness=thickness,
        )

    def texts(self) -> list[Any]:
        """Returns the lines of text."""
        return [self._text(row, line) for row, line in enumerate(self._drawing.lines)]

    def _text(self, row: int, line: str) -> Any:  # noqa: ANN401
        return self._messages.of(
            TEXT_TYPE,
            timestamp=self._time,
            position=self._point(self._text_px, (row + 1) * 1.5 * self._text_px + self._text_px),
            text=line,
            font_size=self._text_px,
            text_color=self._colour((1.0, 1.0, 1.0)),
            background_color=self._colour(_PANEL, _PANEL_OPACITY),
        )

    def _point(self, x: float, y: float) -> Any:  # noqa: ANN401
        return self._messages.of(POINT_TYPE, x=x, y=y)

    def _colour(self, rgb: Rgb, opacity: float = 1.0) -> Any:  # noqa: ANN401
        return self._messages.of(COLOR_TYPE, r=rgb[0], g=rgb[1], b=rgb[2], a=opacity)
