"""What is odd about the pictures of a recording, counted by kind."""

from __future__ import annotations

from cnn_perception.image.messages import ImageOddity, Seen
from cnn_perception.stream.few_bits import FewBits

_FRAMES_OF_FEW_BITS = 3


class OddPictures:
    """Counts them; for one thread."""

    def __init__(self) -> None:
        self._few_bits = FewBits(_FRAMES_OF_FEW_BITS)
        self._found: dict[str, tuple[int, ImageOddity]] = {}

    def add(self, seen: Seen) -> None:
        """Takes what the next picture showed beside its pixels; of each kind of oddity the latest is kept."""
        for oddity in (*seen.oddities, *self._few_bits.observe(seen)):
            count, _ = self._found.get(oddity.kind, (0, oddity))
            self._found[oddity.kind] = (count + 1, oddity)

    def warnings(self, of_what: str = "frames") -> tuple[str, ...]:
        """Returns a line for each kind.

        Args:
            of_what: What the pictures are, in the plural.
        """
        return tuple(f"{count} {of_what}: {oddity.kind}: {oddity.text}" for count, oddity in self._found.values())
