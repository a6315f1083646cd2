"""The options of `training.check` that look for wrong labels, or bring decisions about them back."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from cnn_perception.errors import ConfigError
from cnn_perception.files import given_path
from training import config
from training.config.fields import flag_of

Skipped = Literal["drop", "keep"]
"""What becomes of the images that a person left out on purpose."""
OF_HEAD = ("feature_layer", "grid")
OF_NETWORK = ("backbone", "weights", *OF_HEAD)
OF_COMPUTING = ("workers", "device")
_OWN = ("labels", "checkpoint", "model", "apply", "skipped", "output")


@dataclass(frozen=True)
class Asked:
    """What the command line says of labels.

    Attributes:
        given: Settings of training.train that the user gave.
        words: The command line.
        labels: Whether wrong labels are looked for.
        checkpoint: Of the network whose features are used; None without one.
        model: Likewise a model file.
        apply: The worklist to be brought back; None without one.
        skipped: What becomes of images that were left out there.
        output: The folder of the results, or the table of --apply; None writes nothing.

    Raises:
        ConfigError: If the options contradict each other.
    """

    given: dict[str, Any]
    words: Sequence[str]
    labels: bool = False
    checkpoint: Path | None = None
    model: Path | None = None
    apply: Path | None = None
    skipped: Skipped | None = None
    output: Path | None = None

    def __post_init__(self) -> None:
        if self.labels and self.apply is not None:
            raise ConfigError("--labels and --apply: look for errors first, then bring the decisions back")
        if self.apply is not None and self.output is None:
            raise ConfigError("--output is missing; name the new table, such as corrected.csv")
        if self.skipped is not None and self.apply is None:
            raise ConfigError("--skipped has no effect without --apply; give both or neither")
        if not self.labels:
            self._require_no_features()
        if self.labels or self.apply is not None:
            return
        if self.output is not None:
            raise ConfigError("--output has no effect without --labels or --apply; --csv lists what a check finds")

    def _require_no_features(self) -> None:
        named = [name for name in ("checkpoint", "model") if getattr(self, name) is not None]
        named += [flag_of(name) for name in (*OF_NETWORK, *OF_COMPUTING) if name in self.given]
        if named:
            raise ConfigError(f"--{named[0]} has no effect without --labels; give both or neither")

    @property
    def wanted(self) -> bool:
        """Whether anything of this is asked for."""
        return self.labels or self.apply is not None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options to the command line of `training.check`."""
    own = parser.add_argument_group("wrong labels")
    own.add_argument(
        "--labels", action="store_true", help="look for wrong labels, odd images, and what gives the classes away"
    )
    own.add_argument(
        "--output", type=given_path, help="folder for labels.html and suspects.csv, which training.label opens; or the "
        "table that --apply writes",
    )  # fmt: skip
    own.add_argument("--checkpoint", type=given_path, help="best.pt of a run, whose features are compared")
    own.add_argument("--model", type=given_path, help="model file, whose embeddings are compared")
    config.add_options(own, (*OF_NETWORK, *OF_COMPUTING))
    own.add_argument(
        "--apply", type=given_path, metavar="SUSPECTS", help="write a new table of --data with the labels that were "
        "decided in this worklist",
    )  # fmt: skip
    own.add_argument(
        "--skipped", choices=get_args(Skipped), help="what becomes of images that were skipped there [drop]"
    )


def taken(given: dict[str, Any], words: Sequence[str]) -> Asked:
    """Takes the options about labels out of what the user gave.

    Args:
        given: What the user gave; it loses those options.
        words: The command line.

    Raises:
        ConfigError: If they contradict each other.
    """
    own = {name: given.pop(name) for name in _OWN if name in given}
    asked = Asked(given=dict(given), words=tuple(words), **own)
    for name in (*OF_NETWORK, *OF_COMPUTING):
        given.pop(name, None)
    return asked
