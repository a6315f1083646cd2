"""The image file as which a camera's picture is kept: the one it came as, or its pixels."""

from __future__ import annotations

from cnn_perception.image.compressed import EncodedFile
from cnn_perception.image.decoded import RgbImage
from cnn_perception.image.jpeg_encoding import encode_png
from cnn_perception.image.raw import AS_SENT, EncodedImage

_PNG = b"\x89PNG\r\n\x1a\n"
_KEPT_AS_THEY_CAME = {b"\xff\xd8\xff": ".jpg", _PNG: ".png"}
_TYPES_WITH_ALPHA = (b"\x04", b"\x06")
"""Colour types of PNG, the 26th byte; the others may have alpha in a chunk tRNS. Source: PNG specification, 11.2.1."""


def as_file(encoded: EncodedImage | EncodedFile, image: RgbImage) -> tuple[bytes, str]:
    """Returns the content of an image file, and its suffix.

    A JPEG or PNG is kept byte by byte, anything else as the pixels that were decoded, in a PNG: also a PNG of a camera
    that has alpha, which is dropped here and would be composited in the file.

    Args:
        encoded: The picture as it came.
        image: The same, decoded.

    Raises:
        FrameError: If no file holds a picture of its size.
    """
    # A compressed mosaic would look like a grey picture to whoever does not know its `format`.
    is_as_sent = isinstance(encoded, EncodedFile) and encoded.overrides == AS_SENT
    if isinstance(encoded, EncodedFile) and is_as_sent and not encoded.format.lstrip().startswith("bayer_"):
        content = bytes(encoded.data)
        for magic, suffix in _KEPT_AS_THEY_CAME.items():
            if content.startswith(magic) and (encoded.of_folder or not _has_alpha(content)):
                return content, suffix
    return encode_png(image), ".png"


def _has_alpha(content: bytes) -> bool:
    """Returns whether a PNG may have transparent pixels; False of other files."""
    return content.startswith(_PNG) and (content[25:26] in _TYPES_WITH_ALPHA or b"tRNS" in content)
