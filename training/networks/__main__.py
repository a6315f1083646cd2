"""Prints the program that the network of a checkpoint was made by, and runs nothing of it.

python -m training.networks RUN/best.pt > network.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from cnn_perception.commands import exit_code
from cnn_perception.errors import DataError
from training.checkpoint import load


def _print(path: Path) -> None:
    source = load(path).source
    if source is None:
        raise DataError(f"{path}: its network comes from a library of this package; there is no program in it")
    print(source["text"], end="")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m training.networks CHECKPOINT")
    sys.exit(exit_code(lambda: _print(Path(sys.argv[1])), "interrupted"))
