"""What a section of the page holds: pictures with captions, tables, and its figures as plain values."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from cnn_perception.errors import PerceptionError
from cnn_perception.image.messages import RgbImage
from cnn_perception.pages import data_url

_SMALL_PIXELS = 64 * 64
"""Up to this size a picture is shown as PNG: JPEG would blur the few pixels of a filter."""


class CannotLookError(PerceptionError):
    """A section cannot be made of this network or data; the text says why and what it needs. The others can."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of the page, which is also written as a file.

    Attributes:
        name: Stem of its file, unique within the section: letters, digits, `_` and `-`.
        pixels: (H, W, 3) uint8, or a plot as the bytes of a PNG file.
        caption: What is said below it.
    """

    name: str
    pixels: RgbImage | bytes
    caption: str = ""

    @property
    def is_small(self) -> bool:
        """Whether its pixels are to be seen as squares."""
        return not isinstance(self.pixels, bytes) and self.pixels.shape[0] * self.pixels.shape[1] <= _SMALL_PIXELS

    @property
    def url(self) -> str:
        """The picture as a data URL."""
        if isinstance(self.pixels, bytes):
            return data_url.of_png(self.pixels)
        return data_url.of_png(self.png()) if self.is_small else data_url.of_image(self.pixels)

    def png(self) -> bytes:
        """Returns the picture as the bytes of a PNG file."""
        if isinstance(self.pixels, bytes):
            return self.pixels
        file = io.BytesIO()
        Image.fromarray(self.pixels).save(file, "PNG")
        return file.getvalue()


@dataclass(frozen=True)
class Block:
    """A part of a section: pictures side by side, and a table below them.

    Attributes:
        title: Its headline; empty for none.
        note: What is to be seen, in a sentence or two; empty for none.
        pictures: In the order in which they are read.
        width: Pixels on the screen of each picture's column, at least; 0 gives each the whole width, as plots want.
        table: Its rows, all of one length, the first the headline; empty for none.
    """

    title: str = ""
    note: str = ""
    pictures: tuple[Picture, ...] = ()
    width: int = 160
    table: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        intro: What it shows, how it is computed and how to read it, in a few sentences, with the source of the method.
        blocks: What is shown.
        facts: Its figures, as look.json holds them: numbers, texts, lists and mappings of them.
    """

    intro: str
    blocks: tuple[Block, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
