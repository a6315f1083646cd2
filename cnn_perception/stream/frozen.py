"""Whether a camera's pictures stand still, bit by bit: a driver that goes on to publish its last one with new stamps.

The noise of a sensor changes every picture, also of a scene in which nothing moves, so two that are alike in thousands
of bytes are one. What may be alike all the same: pictures of one colour, of darkness or a covered lens, of which
nothing is said here; a simulated scene, a picture that is published again and again on purpose, and video whose encoder
leaves out what hardly changes. So it is counted and told, and no cause for alarm. What changes between the places that
are looked at is not seen, so it is said of these.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from cnn_perception.image.messages import ImageOddity, RgbImage

AFTER_S = 2.0
"""Pictures that stand still for so long, by their stamps,"""
LEAST_PICTURES = 5
"""and so many of them, are told."""
LONGEST_GAP_S = 10.0
"""Between the stamps of two pictures; beyond it nobody knows what was shown meanwhile."""
_PLACES = 257
"""So many places of a picture are looked at. A prime, so that they hardly ever lie in the same columns of the rows,"""
_PIXELS = 21
"""each of so many pixels: 16 kB, in 0.02 ms."""


@dataclass(frozen=True)
class PictureSample:
    """What a picture is known again by.

    Attributes:
        stamp_ns: Its stamp, nanoseconds.
        checksum: CRC-32 of its size and of some of its pixels, all over it.
        is_flat: Whether all of these have the same colour.
    """

    stamp_ns: int
    checksum: int
    is_flat: bool

    @classmethod
    def of(cls, image: RgbImage, stamp_ns: int) -> PictureSample:
        """Looks at some pixels of an image, or at all of a small one."""
        pixels = image.reshape(-1, 3)
        each = len(pixels) // _PLACES
        if each > _PIXELS:
            pixels = pixels[: _PLACES * each].reshape(_PLACES, each, 3)[:, :_PIXELS].reshape(-1, 3)
        content = pixels.tobytes()
        is_flat = content == content[:3] * len(pixels)
        return cls(stamp_ns, zlib.crc32(content, zlib.crc32(repr(image.shape).encode())), is_flat)


class FrozenPicture:
    """Watches whether the pictures of one camera stand still; for one thread."""

    def __init__(self) -> None:
        self._since: PictureSample | None = None
        self._last: PictureSample | None = None
        self._pictures = 0

    def observe(self, sample: PictureSample) -> tuple[ImageOddity, ...]:
        """Returns that the pictures up to this one have stood still for long; nothing where they have not.

        A picture with the stamp of the one before it is the same one, sent twice, and passed over.
        """
        last, self._last = self._last, sample
        gap_s = 0.0 if last is None else (sample.stamp_ns - last.stamp_ns) / 1e9
        if self._since is None or sample.checksum != self._since.checksum or not 0 <= gap_s <= LONGEST_GAP_S:
            self._since = sample
            self._pictures = 1
            return ()
        if gap_s == 0:
            return ()
        self._pictures += 1
        still_s = (sample.stamp_ns - self._since.stamp_ns) / 1e9
        if still_s < AFTER_S or self._pictures < LEAST_PICTURES or sample.is_flat:
            return ()
        text = (
            f"the picture has not changed for {still_s:.1f} s in one bit of what is looked at of it, {self._pictures} "
            "pictures with stamps of their own: the driver may be frozen; restart it, unless the scene is simulated or "
            "one picture is published on purpose"
        )
        return (ImageOddity("picture_frozen", text, harmless=True),)
