"""A video file, frame after frame, and what is missing of it: OpenCV ends a damaged one as it ends a whole one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cnn_perception.errors import DataError
from cnn_perception.image.messages import RgbImage

Picture = npt.NDArray[Any]
"""As OpenCV reads it."""
HIGHEST_RATE_HZ = 1000.0
"""Some files of variable rate give the unit of their time stamps instead, such as 90000."""
_TRIES = 1000
"""Packets in a row that may give no frame before it is the end; there, each try takes some microseconds."""
_MOST_FRAMES = 2**31
"""More than any video has: a file without a length is said to have huge or negative numbers of frames."""
_ROUNDING = 2, 0.02
"""Frames, and share of them, by which a number that is calculated from length and rate may be wrong."""
_TAIL = 1.0, 0.02
"""Seconds, and share of the length, by which the sound may go on longer than the picture."""
_OF_MP4 = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
"""What an MP4 or QuickTime file begins with. Source: QuickTime File Format, "Atoms"."""


@dataclass(frozen=True)
class Lack:
    """What is missing of a video.

    Attributes:
        text: One line without the file's name.
        is_certain: Whether the file is damaged for certain: else it may have been trimmed, or its rate may vary.
    """

    text: str
    is_certain: bool


class VideoFile:
    """The frames of a video file, as often as they are wanted.

    Attributes:
        lack: What the first pass has found missing at its end; None if nothing.
    """

    def __init__(self, capture: cv2.VideoCapture, path: Path) -> None:
        """Takes over an opened video."""
        self._capture = capture
        self._path = path
        self._rate_hz = capture.get(cv2.CAP_PROP_FPS)
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        has_rate = 0.0 < self._rate_hz <= HIGHEST_RATE_HZ  # the number may be calculated with it
        self._promised = round(count) if has_rate and 0.0 < count < _MOST_FRAMES else 0
        self._is_begun = False
        self.lack: Lack | None = None

    def frames(self, on_skipped: Callable[[str], None]) -> Iterator[Picture]:
        """Yields every frame that can be decoded, from the first on, (H, W, 3) uint8 in OpenCV's order of colours.

        Args:
            on_skipped: Is told of frames before the next one that cannot be decoded.

        Raises:
            DataError: If it cannot be opened another time.
        """
        is_first = not self._is_begun
        # Streams without an index, as of MJPEG, have no way back to their beginning, or one that loses frames.
        if self._is_begun and not self._capture.open(str(self._path)):
            raise DataError(f"{self._path}: cannot be opened again for its next round; check whether it is still there")
        self._is_begun = True
        found = lost = failed = 0
        end_s = 0.0
        while failed < _TRIES:
            is_read, image = self._capture.read()
            if not is_read:  # a packet without a frame, or the end: only what follows tells them apart
                failed += 1
                continue
            if failed:
                on_skipped(f"{failed} frames after the first {found + lost}: they cannot be decoded")
            lost += failed
            failed = 0
            found += 1
            end_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
            yield image
        if is_first:
            self.lack = self._what_is_missing(found, lost, end_s)

    def _what_is_missing(self, found: int, lost: int, end_s: float) -> Lack | None:
        """Returns what is missing where the last of the found frames is shown at `end_s`.

        Two kinds of files count frames that no reader shows: an MP4 that was trimmed without being encoded anew, and an
        AVI in which empty frames stand for those that the camera dropped. Of other files the number is calculated from
        their length, which says nothing of the frames within it where the rate varies.
        """
        missing = self._promised - found
        if not lost and missing <= 0:
            return None
        if missing < lost:
            return Lack(f"{found} frames are read, {lost} cannot be decoded: it is damaged; copy it again", True)
        text = f"{found} frames are read of the {self._promised} that it promises: "
        if lost or self._ends_early(end_s):
            return Lack(f"{text}it is cut short or damaged; copy it again", True)
        if missing <= max(_ROUNDING[0], _ROUNDING[1] * self._promised):
            return None
        return Lack(f"{text}it is damaged, or was trimmed, or its rate varies; look where frames are missing", False)

    def _ends_early(self, end_s: float) -> bool:
        """Returns whether the file ends before the video does."""
        is_cut = _ends_within_a_part(self._path)
        if is_cut is not None:
            return is_cut
        length_s = self._promised / self._rate_hz
        is_timed = end_s > 0.0  # not every library behind OpenCV tells the time of a frame
        return is_timed and length_s - end_s - 1.0 / self._rate_hz > max(_TAIL[0], _TAIL[1] * length_s)


def to_rgb(image: Picture) -> RgbImage:
    """Returns a picture as OpenCV reads it, (H, W, 3) BGR, in the order of colours of all images here."""
    return RgbImage(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8))


def _ends_within_a_part(path: Path) -> bool | None:
    """Returns whether an MP4, QuickTime or AVI file is shorter than its parts say; None for other kinds.

    Source: QuickTime File Format, "Atoms": a size of 1 stands for one of 64 bits, 0 for the rest of the file. The
    Resource Interchange File Format of an AVI has sizes without the 8 bytes of their header.
    """
    bytes_there = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(12)
        is_avi = begin[:4] == b"RIFF" and begin[8:] == b"AVI "
        if not is_avi and begin[4:8] not in _OF_MP4:
            return None
        end = 0
        while end < bytes_there:
            file.seek(end)
            header = file.read(16).ljust(16, b"\0")
            if is_avi and header[:4] != b"RIFF":
                return False
            size = int.from_bytes(header[4:8], "little") + 8 if is_avi else int.from_bytes(header[:4], "big")
            if size == 1:
                size = int.from_bytes(header[8:], "big")
            if size < 8:
                return False
            end += size
    return end > bytes_there
