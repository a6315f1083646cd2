"""Reads a camera's calibration file, as `camera_calibration` writes it, into a sensor_msgs/CameraInfo."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from sensor_msgs.msg import CameraInfo

from cnn_perception.camera_node.videre_file import is_of_videre, read_videre
from cnn_perception.errors import ConfigError, one_line
from cnn_perception.files import expanded
from cnn_perception.geometry.camera_model import check_numbers
from cnn_perception.mistaken_files import what_instead

_MATRICES = {
    "k": ("camera_matrix", 9),
    "r": ("rectification_matrix", 9),
    "p": ("projection_matrix", 12),
    "d": ("distortion_coefficients", None),
}
"""Field of the message, its name in the file, and how many numbers it has."""
_MODEL_OF_OLD_FILES = "plumb_bob"
"""Those that name none. Source: ROS 2, camera_calibration_parsers, parse_yml.cpp."""
_LARGEST_BYTES = 2**20
"""Of a file; a calibration has a kilobyte."""


_OF_TAGS = (ValueError, TypeError, LookupError, AttributeError)
"""What PyYAML raises where a value is not of the type that its tag says, such as `!!bool x` or `!!timestamp x`."""


class _Loader(yaml.SafeLoader):
    """Refuses aliases, by which a few lines of YAML stand for gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Returns the next part of the document."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read; write the values")
        return super().compose_node(parent, index)


def read_calibration(url: str) -> CameraInfo:
    """Returns the calibration of a file.

    Args:
        url: Path, `file://` or `package://NAME/` URL of a YAML file, or an INI file of Videre; see `_path_of`.

    Returns:
        The message for images of the size that was calibrated, without a header.

    Raises:
        ConfigError: If it cannot be read, is no calibration, or is one that no camera has. One whose K is zero says
            that the camera is uncalibrated.
    """
    try:
        content = _content(_path_of(url))
    except (ConfigError, OSError, RecursionError, yaml.YAMLError, *_OF_TAGS) as error:
        raise ConfigError(f"camera_info_url {url}: cannot be read ({one_line(error, 160)})") from None
    try:
        model = content.get("distortion_model")
        info = CameraInfo(
            width=int(content["image_width"]),
            height=int(content["image_height"]),
            distortion_model=_MODEL_OF_OLD_FILES if model is None else str(model),
            **{field: _numbers(content[name]["data"], count) for field, (name, count) in _MATRICES.items()},
        )
        if min(info.width, info.height) <= 0:
            raise ValueError("of images without pixels")
    except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError, AssertionError) as error:
        what = f"{type(error).__name__}: {error}"[:120]
        raise ConfigError(f"camera_info_url {url}: is no calibration of camera_calibration ({what})") from None
    check_numbers(info, f"camera_info_url {url}")
    return info


def fitted(info: CameraInfo, url: str, width: int, height: int) -> CameraInfo:
    """Returns a calibration, scaled to the size of the images.

    Args:
        info: Of `read_calibration`.
        url: Where it is from, for the error.
        width: Of the images, pixels.
        height: Of the images, pixels.

    Raises:
        ConfigError: If it is of images of another shape.
    """
    if abs(width * info.height - height * info.width) > max(info.width, info.height):
        raise ConfigError(
            f"camera_info_url {url}: was made for {info.width}x{info.height} images, these are {width}x{height}; "
            "calibrate again"
        )
    return _scaled(copy.deepcopy(info), width / info.width, height / info.height)


def _content(path: Path) -> Any:  # noqa: ANN401 YAML
    """Returns what a calibration file says by the names that camera_calibration uses."""
    text = _text(path)
    if is_of_videre(path.suffix, text):
        return read_videre(text)
    if text.startswith("%YAML:") or "!!opencv-matrix" in text or "<opencv_storage>" in text:
        raise ConfigError(
            "a FileStorage of OpenCV; write the YAML of camera_calibration, which has image_width, image_height, "
            "distortion_model, and each matrix as rows, cols and data"
        )
    return yaml.load(text, _Loader)


def _path_of(url: str) -> Path:
    """Returns where a URL leads, read as camera_info_manager reads it, which takes `#`, `?` and `%` literally.

    `${ROS_HOME}` is that variable of the environment, or ~/.ros; `package://NAME/PATH` lies in the share folder of an
    installed package. Where there is no such file, %20 and its like are taken as a browser takes them. Source:
    camera_info_manager, documentation of CameraInfoManager.

    Raises:
        ConfigError: If it is of another kind, of no package that is installed, or in the home of nobody.
    """
    url = url.replace("${ROS_HOME}", os.environ.get("ROS_HOME") or "~/.ros")
    if "${" in url:
        raise ConfigError("of its variables only ${ROS_HOME} is known; write the path")
    scheme, _, rest = url.partition(":")
    if scheme.lower() == "package":
        package, _, rest = rest.removeprefix("//").partition("/")
        folder = _share_folder(package)
        return _first_there(folder / text.lstrip("/") for text in (rest, unquote(rest)))
    if scheme.lower() == "file":
        rest = rest.removeprefix("//")
        return _first_there(expanded(text) for text in (rest, unquote(rest)))
    if "://" in url:
        raise ConfigError(f"{scheme}:// is not known; give a path, a file:// or a package:// URL")
    return expanded(url)


def _first_there(paths: Iterable[Path]) -> Path:
    """Returns the first path that leads to something; the last one where none does."""
    path = Path()
    for path in paths:
        if os.path.exists(path):  # noqa: PTH110 Path.exists raises where no file can have such a name
            break
    return path


def _share_folder(package: str) -> Path:
    try:
        return Path(get_package_share_directory(package))
    except (PackageNotFoundError, ValueError):
        raise ConfigError(f"package {package!r} is not installed here; source the workspace that has it") from None


def _text(path: Path) -> str:
    if path.exists() and not path.is_file():  # reading a pipe or a device might never end
        raise ConfigError("is no regular file")
    with path.open("rb") as file:
        content = file.read(_LARGEST_BYTES + 1)
    if len(content) > _LARGEST_BYTES:
        raise ConfigError(f"has more than {_LARGEST_BYTES} bytes")
    if what := what_instead(content, "calibration"):
        raise ConfigError(what)
    return content.decode("utf-8-sig")  # Notepad begins files with a mark of their encoding


def _numbers(values: Any, count: int | None) -> list[float]:  # noqa: ANN401 YAML
    numbers = [float(value) for value in values]
    if count is not None and len(numbers) != count:
        raise ValueError(f"{len(numbers)} numbers in place of {count}")
    return numbers


def _scaled(info: CameraInfo, horizontal: float, vertical: float) -> CameraInfo:
    """Returns the message as for resized images: the centre of the first pixel is (0, 0), its corner -0.5."""
    for matrix, columns in ((info.k, 3), (info.p, 4)):
        for row, factor in enumerate((horizontal, vertical)):
            for column in range(columns):
                matrix[row * columns + column] *= factor
            matrix[row * columns + 2] += (factor - 1) / 2
    info.width = round(info.width * horizontal)
    info.height = round(info.height * vertical)
    return info
