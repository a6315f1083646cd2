"""Frames that a model was unsure of, and a recorder that is told of them one by one. No torch."""

from __future__ import annotations

import csv
import io
import itertools
import time

import numpy as np
from PIL import Image
from tiny_model import tiny_spec

from cnn_perception.background.recorder import Recorder
from cnn_perception.background.selection import Origin, RecorderSettings
from cnn_perception.image.messages import EncodedFile, EncodedImage, decode
from cnn_perception.tasks.prediction import Prediction

TIMEOUT_S = 60.0
SHA256 = "0123456789abcdef" * 4
SPEC = tiny_spec(("ants", "bees", "wasps"))
UNSURE = (0.5, 0.375, 0.125)
SURE = (0.75, 0.125, 0.125)


def settings(folder, **changes):
    wanted = {"format": "folder", "margin": 0.25, "unknown": True, "max_mb": 10.0, "max_rate_hz": 1e6}
    return RecorderSettings(folder=folder, **wanted | changes)


def prediction(scores=UNSURE, *, names=("ants", "bees", "wasps"), **fields):
    values = np.array(scores, np.float32)
    return Prediction(names, values, int(values.argmax()), None, np.zeros(3, np.float32), **fields)


def picture(seed=0, height=24, width=32):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def raw(pixels):
    height, width, _ = pixels.shape
    return EncodedImage(pixels.tobytes(), "rgb8", height, width, 3 * width, is_bigendian=False)


def table(folder, name=SHA256[:12]):
    """The rows of the table of a model's frames."""
    with (folder / name / "frames.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def size(folder):
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def packed(pixels, kind="JPEG", text="rgb8; jpeg compressed bgr8"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return EncodedFile(buffer.getvalue(), text)


class Recording:
    """A recorder, what it said, and frames for it; every frame has a camera of its own unless one is named."""

    def __init__(self, where, spec=SPEC, **changes):
        self.said, self.failures = [], []
        self.recorder = Recorder(settings(where, **changes), spec, SHA256, self.said.append, self.failures.append)
        self._numbers = itertools.count()

    def offer(self, encoded, found=None, *, camera=None, stamp_ns=5_000_000_007, frame_id="optical"):
        """Offers a frame and waits until it is dealt with."""
        camera = f"c{next(self._numbers)}" if camera is None else camera
        origin = Origin(camera, f"/{camera}/image_raw", stamp_ns, frame_id)
        before = self._dealt_with()
        taken = self.recorder.offer(encoded, decode(encoded), found or prediction(), origin)
        deadline = time.monotonic() + TIMEOUT_S
        while taken and self._dealt_with() == before:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return taken

    def _dealt_with(self):
        report = self.recorder.report()
        return report.recorded + report.lost["paused"] + report.lost["size"]

    def close(self):
        assert self.recorder.close(TIMEOUT_S)
        assert self.failures == []
        return self.recorder.report()
