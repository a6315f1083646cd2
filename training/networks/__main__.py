"""Prints the program that the network of a checkpoint was made by, and runs nothing of it.

python -m training.networks RUN/best.pt > network.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cnn_perception.commands import Done, exit_code, program
from cnn_perception.errors import DataError
from cnn_perception.files import given_path
from training.checkpoint import load


@program("training.networks")
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.networks",
        description="Prints the program that the network of a checkpoint was made by, and runs nothing of it.",
    )
    parser.add_argument(
        "checkpoint", type=given_path, help="best.pt or last.pt of a run with --backbone FILE.py:FUNCTION"
    )
    given = parser.parse_args(argv)
    return exit_code(lambda: _print(given.checkpoint), "interrupted")


def _print(path: Path) -> Done:
    source = load(path).source
    if source is None:
        raise DataError(f"{path}: its network comes from a library of this package; there is no program in it")
    print(source["text"], end="")
    return Done(result=source)


if __name__ == "__main__":
    sys.exit(main())
