"""Whether a camera's numbers of 16 bits are those of 10, 12 or 14 bits, which makes its pictures nearly black."""

from __future__ import annotations

from cnn_perception.image.messages import ImageOddity, Seen

_USUAL_BITS = (8, 10, 12, 14)


def bits_in_use(brightest: int) -> int | None:
    """Returns of how many bits, as cameras have them, the brightest number of 16 bits is; None of more than 14."""
    return next((bits for bits in _USUAL_BITS if brightest < 1 << bits), None)


class FewBits:
    """Watches the brightest numbers of one camera's frames; for one thread."""

    def __init__(self, least_frames: int) -> None:
        """Begins anew.

        Args:
            least_frames: So many frames are looked at before anything is said: a camera may begin in the dark.
        """
        self._least_frames = least_frames
        self._frames = 0
        self._brightest = 0

    def observe(self, seen: Seen) -> tuple[ImageOddity, ...]:
        """Returns that the frames up to this one use few of their bits; nothing where they do, or that is known.

        Nor where they are told to be distances: how many bits these have does not matter.
        """
        if seen.brightest is None or any(oddity.kind == "distances" for oddity in seen.oddities):
            return ()
        self._frames += 1
        self._brightest = max(self._brightest, seen.brightest)
        bits = bits_in_use(self._brightest)
        if bits is None or self._frames < self._least_frames:
            return ()
        text = (
            f"none of the numbers of 16 bits of {self._frames} frames is above {self._brightest}, so the pictures are "
            f"nearly black; if the camera has {bits} bits, say so by the parameter significant_bits (evaluate_bag: "
            "--significant-bits), and 16 if it is dark; if they are distances, which are no picture, subscribe to the "
            "colour image"
        )
        return (ImageOddity("few_bits", text),)
