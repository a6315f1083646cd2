"""Reads a calibration in the INI format of Videre, as camera_calibration writes it to `ost.txt`.

A key has a line of its own, and its numbers are on the lines below it. Source: ROS 2, camera_calibration_parsers, which
takes a distortion of five numbers for a plumb bob and one of eight for a rational polynomial.
"""

from __future__ import annotations

from typing import Any

_MODELS = {5: "plumb_bob", 8: "rational_polynomial"}
"""By the number of coefficients."""
_KEYS = {
    "camera_matrix": "camera matrix",
    "distortion_coefficients": "distortion",
    "rectification_matrix": "rectification",
    "projection_matrix": "projection",
}
"""By the name that a YAML file has for it."""


def is_of_videre(suffix: str, text: str) -> bool:
    """Returns whether a file is of this format, by its name or by how it begins."""
    return suffix.lower() == ".ini" or next(iter(_lines(text)), "") == "[image]"


def read_videre(text: str) -> dict[str, Any]:
    """Returns what such a file says, as a YAML file of camera_calibration says it.

    Raises:
        ValueError: If something is missing, there are several cameras, or a distortion that is not known.
    """
    numbers: dict[str, list[float]] = {}
    key = ""
    for line in _lines(text):
        try:
            numbers[key] += [float(word) for word in line.split()]
        except (KeyError, ValueError):  # words, or numbers before the first key
            key = line
            if key in numbers:
                raise ValueError(f"{key!r} is there twice; write a file for each camera") from None
            numbers[key] = []
    if missing := [key for key in ("width", "height", *_KEYS.values()) if key not in numbers]:
        raise ValueError(f"an INI file without {', '.join(missing)}")
    count = len(numbers["distortion"])
    if count not in _MODELS:
        raise ValueError(f"distortion has {count} numbers in place of 5 or 8")
    (width,), (height,) = numbers["width"], numbers["height"]
    content: dict[str, Any] = {name: {"data": numbers[key]} for name, key in _KEYS.items()}
    return content | {"image_width": width, "image_height": height, "distortion_model": _MODELS[count]}


def _lines(text: str) -> list[str]:
    """Returns the lines that say something."""
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and line[0] not in "#;"]
