"""Frames with their answers drawn on them, as pictures and as a video file."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import DataError, FrameError
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.labelled_frames import LabelledFrame, LabelledFrames
from cnn_perception.evaluation.replay import WORKERS, in_order
from cnn_perception.image.messages import RgbImage, decode
from cnn_perception.label_text import shown, text_of
from cnn_perception.model.spec import ModelSpec
from cnn_perception.pipeline.overlay import draw_overlay

SMALLEST_WIDTH, LARGEST_WIDTH, LARGEST_HEIGHT = 480, 640, 2000
"""Small images are enlarged so that their labels can be read, large ones reduced: VP8 takes 20 ms at 640x480."""

_CODECS = (("VP80", ".webm"), ("MJPG", ".avi"))
"""The first that this OpenCV can write is taken; browsers play VP8, everything else plays Motion JPEG."""
_DEFAULT_RATE_HZ = 10.0
_SEGMENT = 30
"""Frames that one thread encodes; each segment begins with a key frame, to which a player can jump."""
_MOST_ENCODERS = 8
"""Each holds the pictures of a segment, 27 MB at 640x480."""
VIDEO_ENDINGS = tuple(ending for _, ending in _CODECS)


def resized_to_view(image: RgbImage) -> RgbImage:
    """Returns an image of a width that pictures and videos are made in, in its shape; narrower where it is high."""
    height, width = image.shape[:2]
    wanted = min(max(width, SMALLEST_WIDTH), LARGEST_WIDTH)
    scale = min(wanted / width, LARGEST_HEIGHT / height)
    if scale == 1:
        return image
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return RgbImage(np.asarray(cv2.resize(image, size, interpolation=method), np.uint8))


class VideoFile:
    """A video that appears under its name only when it is complete.

    One thread encodes with one core. Where OpenCV can write what was encoded before (from 4.9 on), segments are encoded
    side by side, into files of their own, and joined.

    Attributes:
        path: Where it will be; the ending is that of the codec.
    """

    def __init__(self, folder: Path, stem: str, frames_per_second: float, height: int, width: int) -> None:
        """Opens the file.

        Raises:
            DataError: If this OpenCV can write none of the codecs, or the folder is not writable.
        """
        # VP8 halves the colour resolution
        self._size = (max(2, width - width % 2), max(2, height - height % 2))
        self._rate_hz = frames_per_second
        self._frames = 0
        for self._codec, ending in _CODECS:
            self.path = folder / f"{stem}{ending}"
            self._partial = folder / f".{stem}.partial{ending}"
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
        path.unlink(missing_ok=True)  # FFmpeg would write through a link
        fourcc = cv2.VideoWriter.fourcc(*self._codec)
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, self._rate_hz, self._size, settings)
        return writer if writer.isOpened() else None

    def write(self, images: Iterable[RgbImage], workers: int = WORKERS) -> None:
        """Appends frames, (H, W, 3) uint8; those of another size are scaled.

        Args:
            images: The frames, in order.
            workers: How many segments are encoded at a time, at most.

        Raises:
            DataError: If the disk is full.
        """
        with _without_warnings():
            if self._joins:
                self._write_joined(images, min(workers, _MOST_ENCODERS))
                return
            for image in images:
                self._writer.write(self._fitted(image))
                self._frames += 1

    def _write_joined(self, images: Iterable[RgbImage], encoders: int) -> None:
        with contextlib.closing(in_order(self._encode, enumerate(_segments(images)), encoders, waiting=0)) as encoded:
            for path, count in encoded:
                self._join(path, count)

    def _fitted(self, image: RgbImage) -> cv2.typing.MatLike:
        frame = image if (image.shape[1], image.shape[0]) == self._size else cv2.resize(image, self._size)
        return cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)

    def _encode(self, segment: tuple[int, Sequence[RgbImage]]) -> tuple[Path, int]:
        """Writes a segment into a file of its own; returns it with the number of its frames."""
        number, images = segment
        path = self._partial.with_suffix(f".{number}.avi")
        writer = self._open(path)
        if writer is not None:
            for image in images:
                writer.write(self._fitted(image))
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

    def _require_frames(self, found: int, written: int) -> None:
        """Makes sure that a file has a packet for each frame: OpenCV tells no error of writing.

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
        self._writer.release()
        for left in self._partial.parent.glob(f"{self._partial.stem}.*.avi"):
            left.unlink()
        try:
            if kind is None:
                self._require_whole()
                self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)

    def _require_whole(self) -> None:
        """Makes sure that nothing of the finished file is missing.

        Raises:
            DataError: If there was no room for it.
        """
        with _silenced():
            found = sum(1 for _ in _packets(self._partial))
        self._require_frames(found, self._frames)
        try:
            with self._partial.open("ab") as file:  # the last packet counts where only its beginning is there, too
                size = file.tell()
                file.write(b"\0")
                file.flush()
                file.truncate(size)
        except OSError as error:
            raise DataError(f"{self.path}: its end could not be written ({error.strerror})") from None


def _packets(path: Path) -> Iterator[tuple[cv2.typing.MatLike, float]]:
    """Yields each packet of a file as it was encoded, and 1 where it is a key frame; none of what is no video."""
    reader = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])  # -1: without decoding
    while True:
        is_read, packet = reader.read()
        if not is_read:
            break
        yield packet, reader.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME)
    reader.release()


def _segments(images: Iterable[RgbImage]) -> Iterator[Sequence[RgbImage]]:
    """Yields the frames of each segment."""
    remaining = iter(images)
    while segment := tuple(itertools.islice(remaining, _SEGMENT)):
        yield segment


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


def draw_record(image: RgbImage, record: FrameRecord, spec: ModelSpec, top_k: int, threshold: float) -> RgbImage:
    """Returns a frame's image with its answer and what is known of it drawn on it, of the size of a video.

    Args:
        image: (H, W, 3) uint8.
        record: Of the frame.
        spec: Of the model.
        top_k: Classes that are listed at most.
        threshold: Score in [0, 1] below which a class is listed, but is no answer.
    """
    view = resized_to_view(image)
    if record.prediction is None:
        return view
    truth = None if record.truth is None else shown(text_of(record.truth))
    return draw_overlay(
        view,
        record.prediction,
        spec.input,
        top_k=top_k,
        threshold=threshold,
        truth=truth,
        is_right=record.is_right,
    )


def write_video(
    frames: LabelledFrames,
    records: Sequence[FrameRecord],
    spec: ModelSpec,
    top_k: int,
    folder: Path,
    workers: int = WORKERS,
    threshold: float = 0.0,
) -> Path | None:
    """Draws every recognised frame into a video at the recording's frame rate.

    Returns:
        The file; None if there was no frame to show.

    Raises:
        DataError: If no video can be written here.
    """
    stamps_s = np.array([record.time_s for record in records])
    steps_s = np.diff(stamps_s)
    steps_s = steps_s[steps_s > 0]
    rate_hz = float(np.clip(1.0 / np.median(steps_s), 1.0, 60.0)) if len(steps_s) else _DEFAULT_RATE_HZ

    def drawn(pair: tuple[LabelledFrame, FrameRecord]) -> RgbImage | None:
        frame, record = pair
        if record.prediction is None or isinstance(frame.content, FrameError):
            return None
        return draw_record(decode(frame.content), record, spec, top_k, threshold)

    images = in_order(drawn, zip(frames, records, strict=False), workers)
    bar = ProgressBar(images, total=len(records), desc="video", unit="frame")
    shown = (image for image in bar if image is not None)
    first = next(shown, None)
    if first is None:
        return None
    with VideoFile(folder, "overlay", rate_hz, *first.shape[:2]) as video:
        video.write(itertools.chain([first], shown), workers)
    return video.path
