"""Mean and standard deviation of the colours, as the authors of weights publish them: checked before they are used."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from cnn_perception.errors import ConfigError

Colours = tuple[float, float, float]
"""One number each for red, green and blue, of pixels in [0, 1]."""

LEAST_STD = 1e-3
"""Below 1/255, with which some networks scale pixels back to 0 to 255."""


def colours(text: str) -> Colours:
    """Reads three numbers from the command line: `0.485,0.456,0.406`, or one for all three.

    Raises:
        ArgumentTypeError: If it is something else.
    """
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3:
        raise argparse.ArgumentTypeError(f"{text!r} is no colour; write red,green,blue such as 0.485,0.456,0.406")
    return numbers[0], numbers[1], numbers[2]


def as_text(numbers: Sequence[float]) -> str:
    """Returns numbers as `colours` reads them."""
    return ",".join(f"{number:.6g}" for number in numbers)


def check(mean: Colours, std: Colours) -> None:
    """Checks that a mean and a standard deviation are those of pixels in [0, 1].

    Raises:
        ConfigError: If not; of those for pixels in [0, 255] it says what to give instead.
    """
    for name, numbers in (("mean", mean), ("std", std)):
        if (
            not isinstance(numbers, tuple)
            or len(numbers) != 3
            or not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers)
        ):
            raise ConfigError(f"--{name}: {numbers!r} is not three finite numbers, of red, green and blue")
    of_bytes = max(mean) > 1 or max(std) > 1
    if of_bytes and max(*mean, *std) <= 255 and min(mean) >= 0 and min(std) > 0:
        # a deviation of 1 beside a mean of 104 leaves such pixels as they are; one of 0.229 is in the right scale
        divided = tuple(number / 255 for number in std) if min(std) >= 1 else std
        cure = f"--mean {as_text([n / 255 for n in mean] if max(mean) > 1 else mean)} --std {as_text(divided)}"
        raise ConfigError(
            f"--mean {as_text(mean)} --std {as_text(std)}: are of pixels from 0 to 255; give those from 0 to 1: {cure}"
        )
    if not all(0 <= number <= 1 for number in mean):
        raise ConfigError(f"--mean: {as_text(mean)} is out of range; pixels are in [0, 1], and so is their mean")
    if not all(LEAST_STD <= number <= 1 for number in std):
        raise ConfigError(f"--std: {as_text(std)} is out of range; it must be in [{LEAST_STD:g}, 1]")
