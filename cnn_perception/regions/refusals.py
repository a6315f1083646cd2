"""Why boxes are not answered: how many there are of each reason, and what was said of one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from cnn_perception.errors import FrameError


@dataclass
class Refusals:
    """Refused boxes; for one thread at a time.

    Attributes:
        counts: How many there are, by reason.
        examples: What was said of the latest of each reason.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, refusal: FrameError) -> None:
        """Counts a box."""
        self.counts[refusal.reason] += 1
        self.examples[refusal.reason] = str(refusal)

    @property
    def total(self) -> int:
        """How many boxes there are."""
        return self.counts.total()

    def copy(self) -> Refusals:
        """Returns what there is now, which does not change any more."""
        return self._of(self.counts)

    def since(self, before: Refusals) -> Refusals:
        """Returns those that were added since a copy was made."""
        return self._of(self.counts - before.counts)

    def without(self, reasons: Collection[str]) -> Refusals:
        """Returns those of other reasons."""
        return self._of({reason: count for reason, count in self.counts.items() if reason not in reasons})

    def in_words(self) -> str:
        """Returns the reasons, and the example of the most frequent one: `(box_outside, box_turned): a box ...`."""
        if not self.counts:
            return ""
        reason, _ = self.counts.most_common(1)[0]
        return f"({', '.join(sorted(self.counts))}): {self.examples[reason]}"

    def _of(self, counts: Mapping[str, int]) -> Refusals:
        return Refusals(Counter(counts), {reason: self.examples[reason] for reason in counts})
