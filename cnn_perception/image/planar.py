"""Converts YUV images whose planes lie one after the other to RGB.

A sensor_msgs/Image has one `step` for all planes, and drivers mean two things by it: the bytes from one row of the
luma plane to the next, or those of a row of all planes together (1.5 x width for 4:2:0). Which one is meant follows
from the buffer's length, and only from it: a buffer with more bytes than the planes need may have them between the
planes or after them, which nothing tells, so it is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cnn_perception.errors import FrameError

_Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PlanarLayout:
    """How the planes of an encoding lie, and how they become RGB.

    Attributes:
        half_rows: Rows of the luma plane's step in the buffer for two rows of the image.
        to_rgb: Converts (rows, step) bytes of an image of some width to (H, W, 3) uint8 RGB.
        divisible: The sides (height, width) must be multiples of it.
        step_divisible: The step must be a multiple of it: chroma planes have a row of half a step.
    """

    half_rows: int
    to_rgb: Callable[[_Bytes, int], _Bytes]
    divisible: tuple[int, int]
    step_divisible: int = 1

    def lines(self, data: memoryview, height: int, width: int, step: int) -> _Bytes:
        """Returns the buffer as rows of the luma plane's step.

        Args:
            data: The planes.
            height: Rows of the image.
            width: Its columns.
            step: What the message says.

        Raises:
            FrameError: `step` (less than a row), `truncated`, `padding` (more bytes than the planes need).
        """
        rows = height * self.half_rows // 2
        found = data.nbytes
        shared, rest = divmod(step * 2, self.half_rows)
        steps = [step] if rest or shared < width else [step, shared]
        if step < width:
            raise FrameError("step", f"the step is {step}, a row of luma has {width} bytes; mend the driver")
        if found < rows * min(steps):
            raise FrameError(
                "truncated", f"the image has {found} bytes; its planes need {rows * min(steps)}; mend the driver"
            )
        fitting = [one for one in steps if rows * one == found and one % self.step_divisible == 0]
        if not fitting:
            raise FrameError(
                "padding",
                f"the image has {found} bytes; its planes of step {step} need {rows * step}, and nothing tells where "
                "the others lie; publish the planes without padding, or rgb8",
            )
        return np.frombuffer(data, np.uint8).reshape(rows, fitting[0])


def _from_nv12(lines: _Bytes, width: int) -> _Bytes:
    return np.asarray(cv2.cvtColor(lines[:, :width], cv2.COLOR_YUV2RGB_NV12), np.uint8)


def _from_nv21(lines: _Bytes, width: int) -> _Bytes:
    return np.asarray(cv2.cvtColor(lines[:, :width], cv2.COLOR_YUV2RGB_NV21), np.uint8)


def _from_nv24(lines: _Bytes, width: int) -> _Bytes:
    # OpenCV has no NV24. Every pixel doubled to the pair U Y V Y of a UYVY image has the same colour in both halves.
    height = lines.shape[0] // 3
    step = lines.shape[1]
    uyvy = np.empty((height, width, 4), np.uint8)
    uyvy[..., 0::2] = lines[height:].reshape(height, 2 * step)[:, : 2 * width].reshape(height, width, 2)
    uyvy[..., 1::2] = lines[:height, :width, np.newaxis]
    doubled = cv2.cvtColor(uyvy.reshape(height, 2 * width, 2), cv2.COLOR_YUV2RGB_UYVY)
    return np.ascontiguousarray(doubled[:, ::2], np.uint8)


def _from_i420(lines: _Bytes, width: int) -> _Bytes:
    return _from_three_planes(lines, width, cv2.COLOR_YUV2RGB_I420)


def _from_yv12(lines: _Bytes, width: int) -> _Bytes:
    return _from_three_planes(lines, width, cv2.COLOR_YUV2RGB_YV12)


def _from_three_planes(lines: _Bytes, width: int, cv_code: int) -> _Bytes:
    rows, step = lines.shape
    if step > width:
        height = rows * 2 // 3
        chroma = lines[height:].reshape(height, step // 2)[:, : width // 2]
        lines = np.concatenate([lines[:height, :width], chroma.reshape(height // 2, width)])
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(lines), cv_code), np.uint8)


def _from_i422(lines: _Bytes, width: int) -> _Bytes:
    height = lines.shape[0] // 2
    chroma = lines[height:].reshape(2, height, lines.shape[1] // 2)[..., : width // 2]
    uyvy = np.empty((height, width, 2), np.uint8)
    uyvy[..., 1] = lines[:height, :width]
    uyvy[:, 0::2, 0] = chroma[0]
    uyvy[:, 1::2, 0] = chroma[1]
    return np.asarray(cv2.cvtColor(uyvy, cv2.COLOR_YUV2RGB_UYVY), np.uint8)


_NV12 = PlanarLayout(3, _from_nv12, (2, 2))
_NV21 = PlanarLayout(3, _from_nv21, (2, 2))
_I420 = PlanarLayout(3, _from_i420, (2, 2), step_divisible=2)
_YV12 = PlanarLayout(3, _from_yv12, (2, 2), step_divisible=2)

PLANAR_LAYOUTS = {
    "nv12": _NV12,
    "nv21": _NV21,
    "nv24": PlanarLayout(6, _from_nv24, (1, 1)),
    # Not in image_encodings.hpp: the names that drivers take from FourCC, FFmpeg and libcamera.
    "NV12": _NV12,
    "NV21": _NV21,
    "i420": _I420,
    "I420": _I420,
    "iyuv": _I420,
    "yuv420": _I420,
    "YUV420": _I420,
    "yuv420p": _I420,
    "yv12": _YV12,
    "YV12": _YV12,
    "yvu420": _YV12,
    "YVU420": _YV12,
    "yuv422p": PlanarLayout(4, _from_i422, (1, 2), step_divisible=2),
}
