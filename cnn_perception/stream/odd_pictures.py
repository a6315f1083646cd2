"""What is odd about the pictures of a recording, counted by kind."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from cnn_perception.image.messages import ImageOddity, Seen
from cnn_perception.stream.few_bits import FewBits
from cnn_perception.stream.frozen import FrozenPicture, PictureSample

_FRAMES_OF_FEW_BITS = 3


@dataclass
class _Camera:
    """What is watched of one camera's pictures over time."""

    few_bits: FewBits = field(default_factory=lambda: FewBits(_FRAMES_OF_FEW_BITS))
    frozen: FrozenPicture = field(default_factory=FrozenPicture)


class OddPictures:
    """Counts them; for one thread."""

    def __init__(self) -> None:
        self._cameras: defaultdict[object, _Camera] = defaultdict(_Camera)
        self._found: dict[str, tuple[int, ImageOddity]] = {}

    def add(self, seen: Seen, sample: PictureSample | None = None, camera: object = "") -> list[ImageOddity]:
        """Takes what the next picture showed; of each kind of oddity the latest is kept.

        Args:
            seen: What was met beside its pixels.
            sample: Of these; None for a file, which has no time.
            camera: Whose it is, where there are several.

        Returns:
            What is odd about it of a kind that no picture before it was.
        """
        news = []
        watched = self._cameras[camera]
        frozen = () if sample is None else watched.frozen.observe(sample)
        for oddity in (*seen.oddities, *watched.few_bits.observe(seen), *frozen):
            count, _ = self._found.get(oddity.kind, (0, oddity))
            self._found[oddity.kind] = (count + 1, oddity)
            if not count:
                news.append(oddity)
        return news

    def warnings(self, of_what: str = "frames") -> tuple[str, ...]:
        """Returns a line for each kind.

        Args:
            of_what: What the pictures are, in the plural.
        """
        return tuple(f"{count} {of_what}: {oddity.kind}: {oddity.text}" for count, oddity in self._found.values())
