"""Whether the frames of a file come as often as they should: what takes too long to be read is shown slowly."""

from __future__ import annotations

_LATE = 0.85
"""Share of the frames that are due; a few are late on any machine that does something else, too."""
_FEWEST_FRAMES = 5
"""So many are due at least before it is judged: of fewer, one that falls out of the time counts too much."""


class Pace:
    """Counts frames against the time in which they were due; for one thread."""

    def __init__(self, rate_hz: float) -> None:
        """Begins.

        Args:
            rate_hz: Frames that are due a second.
        """
        self._rate_hz = rate_hz
        self._elapsed_s = 0.0
        self._found = self._before = 0
        self._text = ""

    def observe(self, elapsed_s: float, published: int) -> str:
        """Returns what is said of the last frames where they came too seldom; else ''.

        Args:
            elapsed_s: Since it was asked last, seconds of the clock by which frames are due; that may stand still.
            published: Frames until now. Before the first one none is due.
        """
        if not self._before or elapsed_s < 0.0:
            self._elapsed_s, self._found, self._text = 0.0, 0, ""
        else:
            self._elapsed_s += elapsed_s
            self._found += published - self._before
        self._before = published
        due = self._elapsed_s * self._rate_hz
        if due < _FEWEST_FRAMES:
            return self._text
        is_late = self._found < _LATE * due - 1.0
        # The first words stay while it lasts, so that the log need not say them again with other numbers.
        self._text = (self._text or self._said(self._found / self._elapsed_s)) if is_late else ""
        self._elapsed_s, self._found = 0.0, 0
        return self._text

    def _said(self, found_hz: float) -> str:
        return (
            f"publishes {found_hz:.3g} frames a second in place of {self._rate_hz:.3g}: each takes too long to be read "
            "and sent, so what moves is slower than it was; set preload, a smaller width and height, or rate_hz"
        )
