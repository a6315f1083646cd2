"""What the user asked for: the data, the time, the limit, and which networks. Needs no torch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from cnn_perception.errors import ConfigError
from training.config import preparation, sources_of
from training.config.command_line import GROUPS

OF_DATA = (*(name for name in GROUPS["data"] if name not in ("folds", "fold")), "seed")
"""Settings that decide what is learned and what is held out, as training.train has them."""
OF_INPUT = ("input_size", *preparation.NAMES, "augment")
"""Settings that all networks share where the user gives them."""
OF_COMPUTING = ("batch_size", "workers", "device")
MOST_FOLDS = 20
DOWNLOAD = "imagenet"
"""The word among the weights that allows a download, as it does for training.train."""
LONGEST_MINUTES = 60 * 24 * 100

Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class Asked:
    """What the command line says.

    Attributes:
        given: Settings of training.train, those alone that the user gave; `data` among them.
        output: Folder of all that is written.
        minutes: How long it may take, each time it is started.
        max_latency_ms: Longest time of one image that is accepted; None for any.
        backbones: Networks to try, by name; empty for those at hand.
        weights: `imagenet`, files, or NETWORK=FILE; empty for those at hand.
        precision: Of the model file, and of the files that are timed.
        folds: Parts of the training images that are held out in turn.
    """

    given: dict[str, Any]
    output: Path
    minutes: float
    max_latency_ms: float | None
    backbones: Sequence[str]
    weights: Sequence[str]
    precision: Precision
    folds: int

    def __post_init__(self) -> None:
        if not self.given.get("data"):
            raise ConfigError("--data is missing; name a folder of labelled images or a CSV file")
        if not 0 < self.minutes <= LONGEST_MINUTES:  # NaN is not
            raise ConfigError(f"--minutes {self.minutes:g}: give more than 0, at most {LONGEST_MINUTES}")
        limit = self.max_latency_ms
        if limit is not None and not (limit > 0 and math.isfinite(limit)):
            raise ConfigError(f"--max-latency-ms {limit:g}: give milliseconds above 0")
        if not 2 <= self.folds <= MOST_FOLDS:
            raise ConfigError(f"--folds {self.folds}: give 2 to {MOST_FOLDS}")
        if self.precision not in get_args(Precision):
            raise ConfigError(f"--precision {self.precision}: choose from {', '.join(get_args(Precision))}")
        for flag, words in (("backbones", self.backbones), ("weights", self.weights)):
            if repeated := {word for word in words if words.count(word) > 1}:
                raise ConfigError(f"--{flag}: {min(repeated)!r} is named twice; name each once")

    @property
    def seconds(self) -> float:
        """How long it may take."""
        return 60.0 * self.minutes

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks that the user names, among the backbones or with their weights."""
        with_file = (divided(word)[0] for word in self.weights)
        return (*self.backbones, *(name for name in with_file if name))

    def of_data(self) -> dict[str, Any]:
        """Returns the settings that say which images there are."""
        return {name: value for name, value in self.given.items() if name in OF_DATA or name == "data"}

    def identity(self) -> dict[str, Any]:
        """Returns what may not change when the same command goes on, as JSON: all but the time and the limit.

        Weights that are files count by their content, and so do networks of the user's own.
        """
        given = {name: value for name, value in self.given.items() if name not in OF_COMPUTING}
        given["data"] = [str(Path(path).absolute()) for path in sources_of(given)]
        named = {name: list(value) if isinstance(value, tuple) else value for name, value in sorted(given.items())}
        return {
            **named,
            "backbones": list(self.backbones),
            "programs": [_digest_of_file(name.rpartition(":")[0]) for name in self.networks],
            "weights": [[word, _digest(word)] for word in self.weights],
            "precision": self.precision,
            "folds": self.folds,
        }


def divided(word: str) -> tuple[str, str]:
    """Returns network and file of `NETWORK=FILE`; of a file alone an empty name."""
    if Path(word).exists():
        return "", word
    name, _, file = word.rpartition("=")
    return name, file


def _digest(word: str) -> str:
    return _digest_of_file(divided(word)[1])


def _digest_of_file(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""
