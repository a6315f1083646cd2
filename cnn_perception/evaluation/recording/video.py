"""Frames with their answers drawn on them, as pictures and as a video file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
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
        for codec, ending in _CODECS:
            self.path = folder / f"{stem}{ending}"
            self._partial = folder / f".{stem}.partial{ending}"
            self._partial.unlink(missing_ok=True)  # FFmpeg would write through a link
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
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def draw_record(image: RgbImage, record: FrameRecord, spec: ModelSpec, top_k: int) -> RgbImage:
    """Returns a frame's image with its answer and what is known of it drawn on it, of the size of a video."""
    view = resized_to_view(image)
    if record.prediction is None:
        return view
    truth = None if record.truth is None else shown(text_of(record.truth))
    return draw_overlay(view, record.prediction, spec.input, top_k=top_k, truth=truth, is_right=record.is_right)


def write_video(
    frames: LabelledFrames,
    records: Sequence[FrameRecord],
    spec: ModelSpec,
    top_k: int,
    folder: Path,
    workers: int = WORKERS,
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
        return draw_record(decode(frame.content), record, spec, top_k)

    images = in_order(drawn, zip(frames, records, strict=False), workers)
    video: VideoFile | None = None
    with ExitStack() as stack:
        for image in ProgressBar(images, total=len(records), desc="video", unit="frame"):
            if image is None:
                continue
            if video is None:
                video = stack.enter_context(VideoFile(folder, "overlay", rate_hz, *image.shape[:2]))
            video.add(image)
    return None if video is None else video.path
