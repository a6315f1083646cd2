"""What every way of writing a video has in common."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import cv2

from cnn_perception.errors import DataError
from cnn_perception.evaluation.replay import WORKERS
from cnn_perception.image.messages import RgbImage

WEBM, AVI = VIDEO_ENDINGS = (".webm", ".avi")
_SEGMENT = 30
"""Frames that one thread encodes; each segment begins with a key frame, to which a player can jump."""
MOST_ENCODERS = 8
"""Segments that are encoded at a time, at most; each holds its pictures, 27 MB at 640x480."""


class VideoFile(abc.ABC):
    """A video that appears under its name only when it is complete.

    Attributes:
        path: Where it will be; the ending is that of the codec.
    """

    def __init__(self, folder: Path, stem: str, ending: str, height: int, width: int) -> None:
        self.path = folder / f"{stem}{ending}"
        self._partial = folder / f".{stem}.partial{ending}"
        self._partial.unlink(missing_ok=True)  # FFmpeg would write through a link
        # VP8 halves the colour resolution
        self._size = (max(2, width - width % 2), max(2, height - height % 2))
        self._frames = 0

    @abc.abstractmethod
    def write(self, images: Iterable[RgbImage], workers: int = WORKERS) -> None:
        """Appends frames, (H, W, 3) uint8; those of another size are scaled.

        Args:
            images: The frames, in order.
            workers: How many segments are encoded at a time, at most.

        Raises:
            DataError: If the disk is full.
        """

    @abc.abstractmethod
    def _close(self) -> None:
        """Writes the end of the file, and removes what is left beside it.

        Raises:
            DataError: If there was no room for it.
        """

    @abc.abstractmethod
    def _packets(self) -> int:
        """Returns how many packets the finished file has, one a frame."""

    def _require_frames(self, found: int, written: int) -> None:
        """Makes sure that a file has a packet for each frame.

        Raises:
            DataError: If it has not.
        """
        if found != written:
            raise DataError(f"{self.path}: {found} of {written} frames could be written; is the disk full?")

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._close()
            if kind is None:
                self._require_whole()
                self._partial.replace(self.path)
        except DataError:
            if kind is None:  # what ended the writing says more
                raise
        finally:
            self._partial.unlink(missing_ok=True)

    def _require_whole(self) -> None:
        """Makes sure that nothing of the finished file is missing.

        Raises:
            DataError: If there was no room for it.
        """
        self._require_frames(self._packets(), self._frames)
        try:
            with self._partial.open("ab") as file:  # the last packet counts where only its beginning is there, too
                size = file.tell()
                file.write(b"\0")
                file.flush()
                file.truncate(size)
        except OSError as error:
            raise DataError(f"{self.path}: its end could not be written ({error.strerror})") from None


def fitted(image: RgbImage, size: tuple[int, int]) -> cv2.typing.MatLike:
    """Returns an image of a width and a height."""
    return image if (image.shape[1], image.shape[0]) == size else cv2.resize(image, size)


def segments(images: Iterable[RgbImage]) -> Iterator[Sequence[RgbImage]]:
    """Yields the frames of each segment."""
    remaining = iter(images)
    while segment := tuple(itertools.islice(remaining, _SEGMENT)):
        yield segment
