"""Writes scikit-learn's handwritten digits as a folder of labelled images: a data set that is there without a download.

    python -m demo.digits --output DIR

leaves DIR/0/0000.png, ..., DIR/9/1796.png: 1797 grey pictures of 8x8 pixels with values from 0 to 16 (UCI Optical
Recognition of Handwritten Digits), enlarged to 32x32. The names are their numbers in that collection.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

from cnn_perception.commands import exit_code
from cnn_perception.errors import DataError

SIDE = 32
"""Rows and columns of a picture, pixels."""
_BRIGHTEST = 16


def write_digits(output: Path, digits: Sequence[int] = range(10), each: int | None = None) -> int:
    """Writes the digits; what is there already and the same is left alone.

    Args:
        output: The folder to create.
        digits: Which ones.
        each: How many of each, the first ones of the collection; None writes all.

    Returns:
        How many pictures there are.

    Raises:
        DataError: If `output` cannot be written, or holds something else.
    """
    images, labels = load_digits(return_X_y=True)
    numbers = np.concatenate([np.flatnonzero(labels == digit)[:each] for digit in digits])
    paths = [output / str(labels[number]) / f"{number:04}.png" for number in numbers]
    if output.exists() and {path for path in output.rglob("*") if path.is_file()} != set(paths):
        raise DataError(f"{output}: holds something else; choose another --output or remove it")
    try:
        for path, number in zip(paths, numbers, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, images[number].reshape(8, 8))
    except OSError as error:
        raise DataError(f"{output}: cannot be written ({error.strerror}); choose another --output") from None
    return len(paths)


def _write(path: Path, values: npt.NDArray[np.float64]) -> None:
    """Writes values (8, 8) in [0, 16] as a grey PNG."""
    grey = np.round(values * (255 / _BRIGHTEST)).astype(np.uint8)
    large = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    path.write_bytes(cv2.imencode(".png", large)[1].tobytes())


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the digits as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo.digits", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder that gets a folder for each digit")
    parser.add_argument(
        "--digits", type=int, nargs="+", choices=range(10), default=list(range(10)), help="which ones (all)"
    )
    parser.add_argument("--each", type=int, help="how many of each, at least 1 (all)")
    options = parser.parse_args(argv)
    if options.each is not None and options.each < 1:
        parser.error("--each: at least 1")
    return exit_code(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    digits = sorted(set(options.digits))
    print(f"{write_digits(options.output, digits, options.each)} pictures of {len(digits)} digits in {options.output}")


if __name__ == "__main__":
    sys.exit(main())
