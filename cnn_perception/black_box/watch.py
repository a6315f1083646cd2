"""What of a node's answers is a cause for its black box: many unknown ones, another model's dissent, drift."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cnn_perception.black_box.black_box import BlackBox
from cnn_perception.black_box.settings import DRIFT, SHADOW_DISPUTE, UNKNOWN_STREAK


class Watch:
    """Sees when something begins, once each time; what goes on is no further cause."""

    def __init__(self, box: BlackBox, unknown_streak: int) -> None:
        """Begins with nothing seen.

        Args:
            box: Is told of causes.
            unknown_streak: So many answers `unknown` of one camera in a row are one.
        """
        self._box = box
        self._longest = unknown_streak
        self._unknown: Counter[str] = Counter()  # for the thread that delivers, as the next
        self._disputes = 0
        self._drifting: set[str] = set()  # for the thread that diagnoses

    def answer(self, topic: str, is_unknown: bool) -> None:
        """Notes an answer to a frame of a camera's topic."""
        self._unknown[topic] = self._unknown[topic] + 1 if is_unknown else 0
        if self._unknown[topic] == self._longest:
            self._box.trigger(UNKNOWN_STREAK, f"{self._longest} answers in a row to {topic} are unknown")

    def disputes(self, count: int, latest: str) -> None:
        """Notes how often the shadow has answered otherwise so far, and the latest time in words; 0 for a new one."""
        if count > self._disputes:
            self._box.trigger(SHADOW_DISPUTE, latest)
        self._disputes = count

    def drift(self, topic: str, warnings: Sequence[str]) -> None:
        """Notes what is wrong with a camera's images and answers of late; nothing where there is no warning."""
        if warnings and topic not in self._drifting:
            self._box.trigger(DRIFT, f"{topic}: {'; '.join(warnings)}")
        if warnings:
            self._drifting.add(topic)
        else:
            self._drifting.discard(topic)
