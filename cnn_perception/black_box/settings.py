"""What a black box saves, when, and within which bounds."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from cnn_perception.errors import ConfigError

DRIFT, UNKNOWN_STREAK, SHADOW_DISPUTE, SERVICE, TOPIC = CAUSES = (
    "drift",
    "unknown_streak",
    "shadow_dispute",
    "service",
    "topic",
)
"""What can have the last seconds saved."""
_MOST_WINDOWS = 10
"""Causes that follow each other are one recording, of at most so many times `before_s` and `after_s`."""


@dataclass(frozen=True)
class BlackBoxSettings:
    """What a black box saves, when, and within which bounds.

    Attributes:
        folder: Where the bags go; what lies in it already counts for `max_mb`.
        before_s: So many seconds before a cause are saved,
        after_s: and so many after it.
        causes: Which of the `CAUSES` have them saved.
        unknown_streak: So many answers `unknown` of one camera in a row are a cause.
        max_mb: Largest size of the folder, megabytes of 10^6 bytes; nothing is ever deleted.
        memory_mb: How much memory the seconds before a cause may take; with what waits for a slow disk, twice that.

    Raises:
        ConfigError: If a value is out of range.
    """

    folder: Path
    before_s: float
    after_s: float
    causes: Collection[str]
    unknown_streak: int
    max_mb: float
    memory_mb: float

    def __post_init__(self) -> None:
        if not self.causes:
            raise ConfigError(f"the black box has no cause to save anything; choose of {', '.join(CAUSES)}")
        for cause in self.causes:
            if cause not in CAUSES:
                raise ConfigError(f"the black box knows no cause {cause!r}; choose of {', '.join(CAUSES)}")
        if self.unknown_streak < 1:
            raise ConfigError(f"the black box's streak is {self.unknown_streak}; choose 1 or more")
        for name in ("before_s", "after_s", "max_mb", "memory_mb"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"the black box's {name} is {value}; choose a number above 0")

    @property
    def longest_s(self) -> float:
        """How long one recording becomes at most, however many causes follow each other."""
        return _MOST_WINDOWS * (self.before_s + self.after_s)
