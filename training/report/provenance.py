"""How to make a run again: its command, and the versions of what it was made with."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch
import torchvision  # type: ignore[import-untyped]

import cnn_perception
import training
from cnn_perception.commands import for_shell
from training.config import TrainConfig, make
from training.config.fields import PATHS, as_given

_ALWAYS = ("data", "output", "backbone", "weights", "mode", "epochs", "seed")
"""Settings that the command names even where they are the defaults."""


def command(config: TrainConfig) -> str:
    """Returns the command line of a new run with the same settings; its paths are seen from where the run was."""
    resolved_by = {"data": config.data or ("-",), "output": config.output, "mode": config.mode, "epochs": config.epochs}
    usual = make(**resolved_by, weights=config.weights) if config.mode != "scratch" else make(**resolved_by)
    words: list[str | Path] = ["python", "-m", "training.train"]
    for field in dataclasses.fields(TrainConfig):
        value = getattr(config, field.name)
        # a recipe's settings are written out: named too, it would win over those that are back at the usual value
        if field.name in _ALWAYS or (value != getattr(usual, field.name) and field.name not in ("resume", "recipe")):
            words += _option(field.name.replace("_", "-"), value)
    return for_shell(*words)


def _option(flag: str, value: Any) -> list[str | Path]:  # noqa: ANN401 - any setting
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if value is None:
        return []
    if flag in PATHS and not value:
        return []
    if flag in PATHS:
        return [f"--{flag}", *map(Path, value)]
    text = as_given(value)
    return [f"--{flag}={text}"] if text.startswith("-") else [f"--{flag}", text]


def versions() -> dict[str, str]:
    """Returns the versions of the software, and the commit of this package's source where it has one."""
    return {
        "cnn_perception": cnn_perception.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "platform": platform.platform(),
    }


def _commit() -> str:
    folder = Path(training.__file__).resolve().parent
    if not (folder.parent / ".git").exists():
        return ""
    words = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
