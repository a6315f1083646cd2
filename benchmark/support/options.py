"""The command-line options that the benchmarks share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

OUTPUT = Path("runs/benchmark")
CPU = "CPUExecutionProvider"

_OPTIONS: dict[str, dict[str, Any]] = {
    "backbone": {"help": "torchvision name (default: %(default)s)"},
    "rounds": {"type": int, "help": "pairs of measurements (default: %(default)s)"},
    "seconds": {"type": float, "help": "length of each measurement (default: %(default)s)"},
    "threads": {"type": int, "help": "intra-op, of both; 0: one a core (default: %(default)s)"},
    "provider": {"help": "of both (default: %(default)s)"},
    "output": {"type": Path, "help": "folder (default: %(default)s)"},
}


def option_parser(module: str, description: str, **defaults: object) -> argparse.ArgumentParser:
    """Returns the parser of a benchmark with some of the shared options.

    Args:
        module: Name of the benchmark's module, without the package; empty for the package itself.
        description: Docstring of the benchmark, whose first line is shown.
        defaults: The shared options that the benchmark has, with their defaults.

    Raises:
        KeyError: If a shared option has no such name.
    """
    program = f"python -m benchmark.{module}" if module else "python -m benchmark"
    parser = argparse.ArgumentParser(prog=program, description=description.splitlines()[0])
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", default=default, **_OPTIONS[name])
    return parser


def at_least_one(text: str) -> int:
    """Returns an option's value, an integer from 1 on.

    Raises:
        argparse.ArgumentTypeError: If it is less.
    """
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value
