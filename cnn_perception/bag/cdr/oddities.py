"""What messages of one topic are not as the standard demands, although they could be read."""

from __future__ import annotations


class CdrOddities:
    """Counts them, while the topic is read."""

    def __init__(self) -> None:
        self._read = 0
        self._odd = 0
        self._kinds: set[str] = set()

    def add(self, found: frozenset[str]) -> None:
        """Counts a message that was read, with what `CdrReader.message` found odd about it."""
        self._read += 1
        self._odd += bool(found)
        self._kinds |= found

    def warning(self) -> str:
        """Returns what is odd on one line; empty if nothing is."""
        if not self._odd:
            return ""
        return (
            f"{self._odd} of {self._read} messages are not serialised as the standard demands "
            f"({', '.join(sorted(self._kinds))}); they were read as a subscriber with Fast DDS reads "
            "them, other programs may refuse them: mend what publishes them"
        )
