"""A video file of drawn frames."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from cnn_perception.errors import DataError
from cnn_perception.image.messages import RgbImage

SMALLEST_WIDTH, LARGEST_WIDTH = 480, 640
"""Small images are enlarged so that their labels can be read, large ones reduced: VP8 takes 20 ms at 640x480."""

_CODECS = (("VP80", ".webm"), ("MJPG", ".avi"))
"""The first that this OpenCV can write is taken; browsers play VP8, everything else plays Motion JPEG."""
VIDEO_ENDINGS = tuple(ending for _, ending in _CODECS)


def resized_to_view(image: RgbImage) -> RgbImage:
    """Brings the width of an image into the range that pictures and videos are made in, keeping its shape."""
    height, width = image.shape[:2]
    wanted = min(max(width, SMALLEST_WIDTH), LARGEST_WIDTH)
    if wanted == width:
        return image
    size = (wanted, max(1, round(height * wanted / width)))
    method = cv2.INTER_AREA if wanted < width else cv2.INTER_CUBIC
    return RgbImage(np.asarray(cv2.resize(image, size, interpolation=method), np.uint8))


class VideoFile:
    """A video that appears under its name only when it is complete.

    Attributes:
        path: Where it will be; the ending is that of the codec.
    """

    def __init__(self, folder: Path, stem: str, frames_per_second: float, height: int, width: int) -> None:
        """Opens the file.

        Raises:
            DataError: If this OpenCV can write none of the codecs, or the folder is not writable.
        """
        self._size = (width - width % 2, height - height % 2)  # VP8 halves the colour resolution
        for codec, ending in _CODECS:
            self.path = folder / f"{stem}{ending}"
            self._partial = folder / f".{stem}.partial{ending}"
            fourcc = cv2.VideoWriter.fourcc(*codec)
            with _silenced():
                self._writer = cv2.VideoWriter(
                    str(self._partial), cv2.CAP_FFMPEG, fourcc, frames_per_second, self._size
                )
            if self._writer.isOpened():
                return
        self._partial.unlink(missing_ok=True)
        raise DataError(f"{folder}: OpenCV can write no video here; use --no-video, or pip's opencv-python-headless")

    def add(self, image: RgbImage) -> None:
        """Appends a frame, (H, W, 3) uint8; one of another size is scaled."""
        frame = image if (image.shape[1], image.shape[0]) == self._size else cv2.resize(image, self._size)
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.release()
        if kind is None:
            self._partial.replace(self.path)
        else:
            self._partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Sends the C library's standard error nowhere: FFmpeg calls VP8 in WebM, which it writes well, unsupported."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
