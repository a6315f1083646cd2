"""The model of a calibrated camera: the ray of each pixel of its images.

Pixels are counted as OpenCV and REP 104 count them: (u, v) is (column, row), the centre of the first pixel is (0, 0).
Directions are REP 103's of an optical frame: x to the right, y down, z forward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from cnn_perception.errors import ConfigError

Point = tuple[float, float]
"""(u, v), pixels of the camera's image; between the centres of pixels where it is no whole number."""
Numbers = npt.NDArray[np.float64]
Distortion = Literal["none", "polynomial", "equidistant"]

_POLYNOMIALS = ("plumb_bob", "rational_polynomial")
_EQUIDISTANT = ("equidistant", "fisheye")
_OTHER_PROJECTIONS = (
    "kannala",
    "kb4",
    "omni",
    "mei",
    "unified",
    "ucm",
    "spher",
    "stereographic",
    "orthographic",
    "equi",
    "fisheye",
    "theta",
    "cylind",
    "panoram",
    "ocam",
    "scaramuzza",
)
"""Parts of the names of models that are no pinhole even where D is zero."""
_ASPECTS = (0.25, 4.0)
"""Of the two focal lengths: pixels are nearly square; binning and squeezing halve or double one of them."""
_LARGEST_SKEW = 0.05
"""Of the focal length: the axes of a sensor's pixels are perpendicular within a fraction of a degree, this is three."""
_FOCAL_LENGTHS = (0.05, 200.0)
"""In widths and heights of the image: a fisheye of 220 degrees has 0.2, a telescope of 0.3 degrees 200."""
_BORDER = 0.05
"""Share of the width and height next to the borders in which no lens is centred: a matrix of images twice as large
puts the centre of its images there."""
_MIDDLE = (0.35, 0.65)
"""Shares of the width and height between which a lens is centred, at least in one of the two: a matrix of images half
as large, such as of binned ones, puts the centre of its images at 0.25 of both."""
_SWAPPED = 0.06
"""Of the width and height, from the middle: so near is the centre of a lens whose column and row are exchanged."""
_OFF_CENTRE = 0.06
"""Share of both sides, the same of each within `_ALIKE`, or"""
_OFF_CENTRE_OF_ONE = 0.12
"""of one side alone, by which a lens is seldom beside the middle. There the matrix of images has its centre that were
enlarged by an eighth, or lost a quarter of their height. So has a camera that was calibrated as it is cropped: its rays
are told."""
_ALIKE = 0.03
_COEFFICIENT_COUNTS = (0, 4, 5, 8, 12, 14)
"""How many a polynomial can have. Source: OpenCV, documentation of cv::projectPoints."""
_UNDISTORTED: tuple[Distortion, Numbers] = ("none", np.empty(0))
_ANGLES = np.linspace(0.0, math.pi, 2048)
"""To the optical axis, radians: dense enough that a straight line between two is off by less than 1e-6."""
_SAME_PIXELS = 0.5
"""Between K and P of one camera; less is no other matrix."""
_ITERATIONS = 30
_TOLERANCE = 1e-9
"""Of an undistorted position, in focal lengths: far below what a calibration is good for."""


class _Roi(Protocol):
    x_offset: int
    y_offset: int
    height: int
    width: int
    do_rectify: bool


class CameraInfoFields(Protocol):
    """The fields of a sensor_msgs/CameraInfo."""

    height: int
    width: int
    distortion_model: str
    d: Sequence[float]
    k: Sequence[float]
    r: Sequence[float]
    p: Sequence[float]
    binning_x: int
    binning_y: int
    roi: _Roi


@dataclass(frozen=True, eq=False)
class CameraModel:
    """The intrinsic calibration of a camera, by which each pixel of its images has a ray.

    Attributes:
        camera: Its name in errors.
        size: (width, height) of the images, in pixels of the sensor: the region of interest before binning.
        corner: (x, y) of the region's first pixel on the sensor.
        binning: Pixels of the sensor that make one of the image, (x, y).
        focal: Focal lengths (x, y), pixels of the sensor.
        centre: Principal point (u, v) on the sensor.
        skew: What a row down, in focal lengths, moves a point to the right: K[0, 1], pixels of the sensor.
        distortion: `none` is a pinhole; `polynomial` is OpenCV's plumb bob and rational models; `equidistant` its
            fisheye.
        coefficients: Of the distortion.
        rotation: (3, 3), from the camera to the frame its directions are given in: the identity but for stereo pairs,
            whose optical frames are the rectified ones.
    """

    camera: str
    size: tuple[int, int]
    corner: tuple[int, int]
    binning: tuple[int, int]
    focal: Point
    centre: Point
    skew: float
    distortion: Distortion
    coefficients: Numbers
    rotation: Numbers

    @classmethod
    def from_message(cls, info: CameraInfoFields, camera: str, rectified: bool = False) -> CameraModel:
        """Returns the model that a camera_info describes, as REP 104 and the message's own comments define it.

        Args:
            info: The message.
            camera: Its name in errors, such as its topic.
            rectified: Whether the images are rectified ones, such as `image_rect`: without distortion, and P for K.

        Raises:
            ConfigError: If no direction can be told from it: uncalibrated, or of a kind that is not known.
        """
        name, values = ("P", info.p) if rectified else ("K", info.k)
        matrix = np.array(values, np.float64).reshape(3, -1)
        focal = float(matrix[0, 0]), float(matrix[1, 1])
        if _is_unset(matrix):
            raise ConfigError(f"{camera} is uncalibrated ({name} is zero): run camera_calibration")
        _check_matrix(matrix, f"{camera}: {name}")
        _check_proportions(matrix, info.width, info.height, f"{camera}: {name}")
        roi = info.roi
        size, corner = _region(info, camera)
        if rectified and roi.do_rectify:
            raise ConfigError(
                f"{camera}: which region of interest a rectified image shows is not told; use the raw one"
            )
        distortion, coefficients = _UNDISTORTED if rectified else _distortion(info, camera)
        return cls(
            camera=camera,
            size=size,
            corner=corner,
            binning=(max(info.binning_x, 1), max(info.binning_y, 1)),
            focal=focal,
            centre=(float(matrix[0, 2]), float(matrix[1, 2])),
            skew=float(matrix[0, 1]),
            distortion=distortion,
            coefficients=coefficients,
            rotation=np.eye(3) if rectified else _rotation(info, camera),
        )

    def check_size(self, height: int, width: int) -> None:
        """Makes sure that the images are the ones that were calibrated.

        Raises:
            ConfigError: If they have another size, as after a resize that did not scale the camera_info.
        """
        for pixels, sensor, binning in zip((width, height), self.size, self.binning, strict=True):
            if abs(pixels * binning - sensor) >= binning:  # a rest that fills no bin is dropped, or filled up
                expected = f"{self.size[0] // self.binning[0]}x{self.size[1] // self.binning[1]}"
                raise ConfigError(
                    f"{self.camera} is for images of {expected}, these have {width}x{height}: publish it for this size"
                )

    def ray(self, u: float, v: float) -> Numbers | None:
        """Returns the direction of a pixel's ray.

        Args:
            u: Column in the camera's image; between pixels where it is no whole number.
            v: Row.

        Returns:
            (3,) float64 of length 1 in the optical frame; None where the distortion model has none,
            far outside of what it was calibrated for.
        """
        # The centre of a bin of two pixels lies between them.
        pixel = (np.array((u, v)) + 0.5) * self.binning - 0.5 + self.corner
        with np.errstate(all="ignore"):  # far outside, and of absurd calibrations, numbers overflow: no direction
            right, down = pixel - self.centre
            down /= self.focal[1]
            direction = self._direction(np.array(((right - self.skew * down) / self.focal[0], down)))
            length = math.inf if direction is None else float(np.linalg.norm(direction))
        if direction is None or not math.isfinite(length):
            return None
        turned: Numbers = self.rotation @ (direction / length)
        return turned

    def _direction(self, distorted: Numbers) -> Numbers | None:
        if self.distortion == "equidistant":
            return _from_equidistant(distorted, self.coefficients)
        if self.distortion == "polynomial":
            return _from_polynomial(distorted, self.coefficients)
        return np.append(distorted, 1.0)


def check_numbers(info: CameraInfoFields, camera: str) -> None:
    """Makes sure that a camera_info is one that a camera can have, whatever its distortion model; a K of zero is none.

    Raises:
        ConfigError: If its numbers cannot be.
    """
    for name, values in (("D", info.d), ("K", info.k), ("R", info.r), ("P", info.p)):
        if not np.isfinite(np.array(values, np.float64)).all():
            raise ConfigError(f"{camera}: {name} has NaN or Inf ({list(values)}): run camera_calibration")
    for name, values in (("K", info.k), ("P", info.p)):
        matrix = np.array(values, np.float64).reshape(3, -1)
        if _is_unset(matrix):
            continue
        _check_matrix(matrix, f"{camera}: {name}")
        if name == "K":  # the images that P is of may be larger or elsewhere than those that it is published with
            _check_proportions(matrix, info.width, info.height, f"{camera}: {name}")
    _rotation(info, camera)


def differs_once_rectified(info: CameraInfoFields) -> bool:
    """Returns whether a pixel has another ray in the rectified image than in the raw one, by one camera_info.

    It is False where the camera_info has no K, or neither distortion nor a P: then nothing is known of a difference.
    """
    camera, projection, rotation = (np.array(values, np.float64).reshape(3, -1) for values in (info.k, info.p, info.r))
    if not camera.any():
        return False
    if np.any(info.d) or info.distortion_model in _EQUIDISTANT:
        return True
    is_turned = bool(rotation.any()) and not np.allclose(rotation, np.eye(3), rtol=0.0, atol=1e-3)
    is_other = not np.allclose(camera, projection[:, :3], rtol=0.0, atol=_SAME_PIXELS)
    return bool(projection.any()) and (is_turned or is_other)


def doubt_of_size(info: CameraInfoFields, camera: str) -> str:
    """Says that a K that can be of these images looks like that of resized or cropped ones; empty where it does not.

    Args:
        info: The message, of raw images: a P may have its centre elsewhere.
        camera: Its name in the line.
    """
    centre = np.array((info.k[2], info.k[5]), np.float64)
    off = centre / (info.width, info.height) - 0.5
    is_resized = np.abs(off).min() > _OFF_CENTRE and abs(off[0] - off[1]) < _ALIKE
    if not is_resized and np.abs(off).max() <= _OFF_CENTRE_OF_ONE:
        return ""
    width, height = np.rint(2.0 * centre).astype(int)
    return (
        f"{camera}: K has its principal point at ({centre[0]:.6g}, {centre[1]:.6g}), the middle of images of about "
        f"{width}x{height}, but is said to be of {info.width}x{info.height}: if it is of others, rays are wrong; "
        "calibrate at this size, or have the driver scale K"
    )


def _is_unset(matrix: Numbers) -> bool:
    """Returns whether a matrix says that there is no calibration; some drivers leave a 1 in its last row."""
    return not matrix[:2].any()


def _check_matrix(matrix: Numbers, name: str) -> None:
    """Makes sure that it is one of a camera.

    Raises:
        ConfigError: If it is none.
    """
    if not _is_camera_matrix(matrix):
        raise ConfigError(f"{name} is no camera matrix ({matrix.ravel().tolist()}): run camera_calibration")


def _is_camera_matrix(matrix: Numbers) -> bool:
    """Returns whether a (3, 3) or (3, 4) matrix projects as a pinhole does; drivers send memory that was never set."""
    focal = matrix[0, 0], matrix[1, 1]
    with np.errstate(all="ignore"):
        is_projection = matrix[1, 0] == 0.0 and np.allclose(matrix[2, :3], (0.0, 0.0, 1.0), rtol=0.0, atol=1e-6)
        has_square_pixels = min(focal) > 0.0 and _ASPECTS[0] <= focal[0] / focal[1] <= _ASPECTS[1]
        is_upright = abs(matrix[0, 1]) <= _LARGEST_SKEW * max(focal)
    return bool(np.isfinite(matrix).all() and is_projection and has_square_pixels and is_upright)


def _check_proportions(matrix: Numbers, width: int, height: int, name: str) -> None:
    """Makes sure that a camera matrix is one of images of this size.

    Raises:
        ConfigError: If the principal point or a focal length cannot be of such images.
    """
    centre = matrix[:2, 2]
    sides = np.array((width, height), np.float64)
    if not ((centre > _BORDER * sides) & (centre < (1.0 - _BORDER) * sides)).all():
        raise ConfigError(
            f"{name} has its principal point at ({centre[0]:.6g}, {centre[1]:.6g}), not in the midst of images of "
            f"{width}x{height}: it is of another size, or of no calibration; publish it for this size"
        )
    is_amid = (centre > _MIDDLE[0] * sides) & (centre < _MIDDLE[1] * sides)
    if not is_amid.all() and np.allclose(centre[::-1] / sides, 0.5, rtol=0.0, atol=_SWAPPED):
        raise ConfigError(
            f"{name} has its principal point at ({centre[0]:.6g}, {centre[1]:.6g}) in images of {width}x{height}: its "
            "column and row are exchanged, or width and height are; mend the driver"
        )
    for kind, is_off in (("smaller", centre < _MIDDLE[0] * sides), ("larger", centre > _MIDDLE[1] * sides)):
        if is_off.all():
            raise ConfigError(
                f"{name} has its principal point at ({centre[0]:.6g}, {centre[1]:.6g}) in images of {width}x{height}: "
                f"it is of {kind} ones, perhaps by binning; publish it for this size"
            )
    focal = np.diagonal(matrix)[:2]
    if not ((focal > _FOCAL_LENGTHS[0] * sides) & (focal < _FOCAL_LENGTHS[1] * sides)).all():
        raise ConfigError(
            f"{name} has focal lengths of {focal[0]:.6g} and {focal[1]:.6g} pixels, which no lens has in images of "
            f"{width}x{height}: run camera_calibration"
        )


def _region(info: CameraInfoFields, camera: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns (width, height) and first pixel of the part of the sensor that the images show, before binning.

    A width or height of 0 is all that there is behind the offset. Source: sensor_msgs, comments of CameraInfo.

    Raises:
        ConfigError: If it is not a part of the sensor.
    """
    roi = info.roi
    width, height = roi.width or info.width - roi.x_offset, roi.height or info.height - roi.y_offset
    x, y = roi.x_offset, roi.y_offset
    if min(x, y) < 0 or min(width, height) <= 0 or x + width > info.width or y + height > info.height:
        raise ConfigError(
            f"{camera}: its region of interest ({roi.width}x{roi.height} at {x},{y}) leaves the image of "
            f"{info.width}x{info.height}: width and height are of the full sensor, and so is the region, before binning"
        )
    return (width, height), (x, y)


def _distortion(info: CameraInfoFields, camera: str) -> tuple[Distortion, Numbers]:
    """Returns the distortion of a camera_info, and its coefficients."""
    coefficients = np.array(info.d, np.float64)
    name = info.distortion_model
    count = len(coefficients)
    if not np.isfinite(coefficients).all():
        raise ConfigError(f"{camera}: D has NaN or Inf ({coefficients.tolist()}): run camera_calibration")
    if name in _EQUIDISTANT:
        if count not in (0, 4) and (count < 4 or coefficients[4:].any()):
            raise ConfigError(f"{camera}: D has {count} numbers, {name} has 4: run camera_calibration")
        return "equidistant", coefficients[:4] if count else np.zeros(4)
    is_known = not name or name in _POLYNOMIALS
    is_pinhole = is_known or not any(part in name.lower() for part in _OTHER_PROJECTIONS)
    if is_pinhole and not coefficients.any():  # as drivers of rectified cameras name it: none, pinhole, Brown-Conrady
        return _UNDISTORTED
    if not is_known:
        raise ConfigError(f"{camera}: distortion_model {name[:40]!r} is not known; use the rectified image")
    if count not in _COEFFICIENT_COUNTS:  # as of drivers whose D has room for all models
        count = max((one for one in _COEFFICIENT_COUNTS if one < count and not coefficients[one:].any()), default=count)
        coefficients = coefficients[:count]
    if not name or count not in _COEFFICIENT_COUNTS:
        raise ConfigError(f"{camera}: D has {count} numbers for distortion_model {name!r}: correct either")
    return "polynomial", coefficients


def _rotation(info: CameraInfoFields, camera: str) -> Numbers:
    """Returns the rotation of a camera_info, (3, 3): the identity where it has none."""
    rotation = np.array(info.r, np.float64).reshape(3, 3)
    if not rotation.any():  # as drivers leave it that know of no stereo
        return np.eye(3)
    is_bounded = (np.abs(rotation) < 1.1).all()  # not so NaN
    if not (is_bounded and np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)):
        raise ConfigError(f"{camera}: R is no rotation ({rotation.ravel().tolist()}): run camera_calibration")
    return rotation


def _from_equidistant(distorted: Numbers, coefficients: Numbers) -> Numbers | None:
    """Returns the direction of a distorted position by inverting OpenCV's fisheye model.

    Also beyond 90 degrees, where cv2.fisheye.undistortPoints gives up.

    Source: OpenCV, documentation of the fisheye namespace: the distance from the centre, in focal lengths, is
    theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8) of the angle theta to the optical axis.
    """
    radius = float(np.hypot(*distorted))
    reached = _ANGLES * np.polynomial.polynomial.polyval(_ANGLES**2, np.append(1.0, coefficients))
    falling = np.flatnonzero(np.diff(reached) <= 0.0)
    count = falling[0] + 1 if len(falling) else len(reached)  # where the model turns back it describes no real camera
    if radius > reached[count - 1]:
        return None
    theta = float(np.interp(radius, reached[:count], _ANGLES[:count]))
    return np.append(distorted * (math.sin(theta) / radius if radius > 0.0 else 1.0), math.cos(theta))


def _from_polynomial(distorted: Numbers, coefficients: Numbers) -> Numbers | None:
    """Returns the direction of a distorted position by inverting OpenCV's pinhole model with Newton's method.

    cv2.undistortPoints stops after 5 steps by default, whether it has arrived or not, and its way to ask for more
    differs between OpenCV 4 and 5.
    """
    undistorted = distorted.copy()
    no_rotation = np.zeros(3)
    no_translation = np.zeros(3)
    intrinsics = np.eye(3)
    step = 1e-6
    for _ in range(_ITERATIONS):
        around = undistorted + step * np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
        points = np.column_stack([around, np.ones(3)])
        projected, _ = cv2.projectPoints(points, no_rotation, no_translation, intrinsics, coefficients)
        here, right, below = projected.reshape(3, 2)
        slope = np.column_stack([right - here, below - here]) / step
        # A lens does not turn pictures over: where its model does, the pixel lies outside of what it describes.
        if not (np.isfinite(slope).all() and np.linalg.det(slope) > 0.0 and np.trace(slope) > 0.0):
            return None
        change = np.linalg.solve(slope, distorted - here)
        undistorted = undistorted + change
        if np.abs(change).max() < _TOLERANCE:
            return np.append(undistorted, 1.0)
    return None
