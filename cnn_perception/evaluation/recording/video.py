"""Frames with their answers drawn on them, as pictures and as a video."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import FrameError
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.labelled_frames import LabelledFrame, LabelledFrames
from cnn_perception.evaluation.recording import pyav_video
from cnn_perception.evaluation.recording.opencv_video import OpenCvVideo
from cnn_perception.evaluation.recording.pyav_video import PyAvVideo
from cnn_perception.evaluation.replay import WORKERS, in_order
from cnn_perception.image.messages import RgbImage, decode
from cnn_perception.label_text import shown, text_of
from cnn_perception.model.spec import ModelSpec
from cnn_perception.pipeline.overlay import draw_overlay

SMALLEST_WIDTH, LARGEST_WIDTH, LARGEST_HEIGHT = 480, 640, 2000
"""Small images are enlarged so that their labels can be read, large ones reduced: VP8 takes 3 to 30 ms at 640x480."""

_DEFAULT_RATE_HZ = 10.0


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
    way = PyAvVideo if pyav_video.is_installed() else OpenCvVideo
    with way(folder, "overlay", rate_hz, *first.shape[:2]) as video:
        video.write(itertools.chain([first], shown), workers)
    return video.path
