"""Videos written by OpenCV: VP8, or Motion JPEG where it lacks libvpx."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2

from cnn_perception.errors import DataError
from cnn_perception.evaluation.recording.video_file import AVI, MOST_ENCODERS, WEBM, VideoFile, fitted, segments
from cnn_perception.evaluation.replay import WORKERS, in_order
from cnn_perception.image.messages import RgbImage

_CODECS = (("VP80", WEBM), ("MJPG", AVI))
"""The first that this OpenCV can write is taken; browsers play VP8, everything else plays Motion JPEG."""


class OpenCvVideo(VideoFile):
    """A video of what this OpenCV can write.

    One thread encodes with one core. Where OpenCV can write what was encoded before (from 4.9 on), segments are encoded
    side by side, into files of their own, and joined.
    """

    def __init__(self, folder: Path, stem: str, frames_per_second: float, height: int, width: int) -> None:
        """Opens the file.

        Raises:
            DataError: If this OpenCV can write none of the codecs, or the folder is not writable.
        """
        self._rate_hz = frames_per_second
        for self._codec, ending in _CODECS:
            super().__init__(folder, stem, ending, height, width)
            with _silenced():
                alone = self._open(self._partial)
                if alone is None:  # what cannot be encoded could be joined all the same
                    continue
                joining = self._open_joining()
            self._joins = joining is not None
            self._writer = joining or alone
            return
        self._partial.unlink(missing_ok=True)
        raise DataError(f"{folder}: OpenCV can write no video here; use --no-video, or pip's opencv-python-headless")

    def _open_joining(self) -> cv2.VideoWriter | None:
        """Returns a writer of what was encoded before; None if this OpenCV has none."""
        as_encoded = getattr(cv2, "VIDEOWRITER_PROP_RAW_VIDEO", None)
        return None if as_encoded is None else self._open(self._partial, [as_encoded, 1])

    def _open(self, path: Path, settings: Sequence[int] = ()) -> cv2.VideoWriter | None:
        """Returns a writer; None if this OpenCV has none of the codec, or the folder is not writable."""
        path.unlink(missing_ok=True)
        fourcc = cv2.VideoWriter.fourcc(*self._codec)
        writer = cv2.VideoWriter(str(path.absolute()), cv2.CAP_FFMPEG, fourcc, self._rate_hz, self._size, settings)
        return writer if writer.isOpened() else None

    def write(self, images: Iterable[RgbImage], workers: int = WORKERS) -> None:
        """Appends frames; see `VideoFile`."""
        with _without_warnings():
            if self._joins:
                self._write_joined(images, min(workers, MOST_ENCODERS))
                return
            for image in images:
                self._writer.write(self._bgr(image))
                self._frames += 1

    def _write_joined(self, images: Iterable[RgbImage], encoders: int) -> None:
        with contextlib.closing(in_order(self._encode, enumerate(segments(images)), encoders, waiting=0)) as encoded:
            for path, count in encoded:
                self._join(path, count)

    def _bgr(self, image: RgbImage) -> cv2.typing.MatLike:
        return cv2.cvtColor(fitted(image, self._size), cv2.COLOR_RGB2BGR)

    def _encode(self, segment: tuple[int, Sequence[RgbImage]]) -> tuple[Path, int]:
        """Writes a segment into a file of its own; returns it with the number of its frames."""
        number, images = segment
        path = self._partial.with_suffix(f".{number}{AVI}")
        writer = self._open(path)
        if writer is not None:
            for image in images:
                writer.write(self._bgr(image))
            writer.release()
        return path, len(images)

    def _join(self, path: Path, count: int) -> None:
        """Appends a segment's packets, one a frame, and removes it."""
        before = self._frames
        for packet, is_key in _packets(path):
            self._writer.set(cv2.VIDEOWRITER_PROP_KEY_FLAG, is_key)
            self._writer.set(cv2.VIDEOWRITER_PROP_PTS, self._frames)
            self._writer.write(packet)
            self._frames += 1
        path.unlink(missing_ok=True)
        self._require_frames(self._frames - before, count)

    def _close(self) -> None:
        """Ends the file; OpenCV tells no error of writing."""
        self._writer.release()
        for left in self._partial.parent.glob(f"{self._partial.stem}.*{AVI}"):
            left.unlink()

    def _packets(self) -> int:
        with _silenced():
            return sum(1 for _ in _packets(self._partial))


def _packets(path: Path) -> Iterator[tuple[cv2.typing.MatLike, float]]:
    """Yields each packet of a file as it was encoded, and 1 where it is a key frame; none of what is no video."""
    reader = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])  # -1: without decoding
    while True:
        is_read, packet = reader.read()
        if not is_read:
            break
        yield packet, reader.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME)
    reader.release()


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Sends the C library's standard error nowhere: FFmpeg calls VP8 in WebM, which it writes well, unsupported."""
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keeps OpenCV from a line for each frame that a full disk does not take; older ones cannot be told so."""
    log = getattr(getattr(cv2, "utils", None), "logging", None)
    if log is None:
        yield
        return
    level = log.setLogLevel(log.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        log.setLogLevel(level)
