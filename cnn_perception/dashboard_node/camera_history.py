"""What one camera's frames were answered in the last minutes, and the pictures worth a look."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

UNSURE_KEPT = 24
"""Pictures of unsure frames that are kept, the latest."""
_UNSURE_GAP_S = 1.0
"""Neighbouring frames show the same: of unsure ones one a second is kept."""
_MOST_ANSWERS = 20_000
"""Are kept at most, whatever the rate: some megabytes."""
_MOST_VALUES = 200_000
"""Of all of them: tens of megabytes."""
_MOST_UNSURE_BYTES = 2**26
"""Of the pictures of unsure frames."""
_SAME_STAMP_S = 5.0
"""Answers of one stamp that come so near each other leave open which of them a picture belongs to. It comes soon after
its answer, or not at all; where a recording begins anew, a stamp comes again after the length of all of it."""
NO_STAMP = "the images have no time stamp, so no answer is known to be of this picture"
SHARED_STAMP = "several answers have the time stamp of this picture, so none is known to be its own"
"""Why a picture is shown without an answer."""


@dataclass(frozen=True)
class Answer:
    """One answered frame.

    Attributes:
        number: Counts the answers of this camera, from 1.
        time_s: When it came, on the clock of the history.
        stamp_ns: Of the image.
        age_ms: How old the image was when the answer came here; None where its stamp is not set.
        values: Class and score, best first; or name and value of each number.
        is_unsure: Whether the model was unsure of it.
    """

    number: int
    time_s: float
    stamp_ns: int
    age_ms: float | None
    values: tuple[tuple[str, float], ...]
    is_unsure: bool


@dataclass(frozen=True, eq=False)
class Picture:
    """A drawn frame.

    Attributes:
        number: Counts the pictures of this camera that were shown, from 1.
        answer: To the same frame, which its stamp tells; None where it does not.
        doubt: Why there is no answer; empty where there is one.
        content: An image file.
        media_type: Of it, such as image/jpeg.
    """

    number: int
    answer: Answer | None
    doubt: str
    content: bytes
    media_type: str


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A drawn frame as it comes, such as one that has overtaken its answer, or whose answer was lost."""

    stamp_ns: int
    content: bytes
    media_type: str


class CameraHistory:
    """The answers and pictures of one camera; every method may be called from any thread.

    Many answers have no picture, for fewer frames are drawn than answered. A picture whose answer has not come is given
    to nobody, since it would be seen beside the answer to another frame. One whose stamp is not set (0 or less), or is
    that of several frames, is given without an answer.
    """

    def __init__(self, seconds: float) -> None:
        """Begins with nothing.

        Args:
            seconds: How long answers are kept.
        """
        self._seconds = seconds
        self._news = threading.Condition()  # guards all below, and tells of a new picture
        self._answers: deque[Answer] = deque()
        self._by_stamp: dict[int, Answer] = {}  # the latest of each stamp of these
        self._shared: set[int] = set()  # stamps of several frames, among these
        self._values = 0  # of all answers
        self._count = 0
        self._picture: Picture | None = None
        self._early: _Drawn | None = None
        self._unsure: deque[tuple[Answer, Picture]] = deque(maxlen=UNSURE_KEPT)
        self._last_unsure_s = -math.inf

    def answer(
        self,
        time_s: float,
        stamp_ns: int,
        age_ms: float | None,
        values: Sequence[tuple[str, float]],
        *,
        is_unsure: bool,
    ) -> None:
        """Takes the answer to a frame; the arguments are those of `Answer`."""
        with self._news:
            self._count += 1
            one = Answer(self._count, time_s, stamp_ns, age_ms, tuple(values), is_unsure)
            self._answers.append(one)
            self._note_stamp(one)
            self._values += len(one.values)
            while self._has_too_many() or self._answers[0].time_s < time_s - self._seconds:
                self._forget_oldest()
            while self._unsure and self._unsure[0][0].time_s < time_s - self._seconds:
                self._unsure.popleft()
            if self._early is not None and self._early.stamp_ns == stamp_ns:
                self._show(self._early)

    def picture(self, stamp_ns: int, content: bytes, media_type: str) -> None:
        """Takes the drawn frame of a stamp."""
        drawn = _Drawn(stamp_ns, content, media_type)
        with self._news:
            if stamp_ns in self._by_stamp or self._doubt(stamp_ns):
                self._show(drawn)
            else:
                self._early = drawn

    def _note_stamp(self, one: Answer) -> None:
        """Notes which answer is the latest of its stamp, and takes back what it makes doubtful of the one before."""
        before = self._by_stamp.get(one.stamp_ns)
        self._by_stamp[one.stamp_ns] = one
        if before is None:
            return
        if one.time_s - before.time_s >= _SAME_STAMP_S:
            self._shared.discard(one.stamp_ns)
            return
        self._shared.add(one.stamp_ns)
        kept = [pair for pair in self._unsure if pair[0] is not before]
        if len(kept) < len(self._unsure):
            self._unsure = deque(kept, UNSURE_KEPT)
        shown = self._picture
        if shown is not None and shown.answer is before:  # it may be of this frame, and have overtaken its answer
            self._show(_Drawn(one.stamp_ns, shown.content, shown.media_type))

    def _doubt(self, stamp_ns: int) -> str:
        """Returns why a stamp does not tell whose answer belongs to a picture; empty where it does."""
        if stamp_ns <= 0:
            return NO_STAMP
        return SHARED_STAMP if stamp_ns in self._shared else ""

    def _show(self, drawn: _Drawn) -> None:
        """Makes a picture the latest one, and keeps it where its frame is an unsure one."""
        self._early = None
        number = self._picture.number + 1 if self._picture else 1
        doubt = self._doubt(drawn.stamp_ns)
        one = None if doubt else self._by_stamp[drawn.stamp_ns]
        self._picture = Picture(number, one, doubt, drawn.content, drawn.media_type)
        if one is not None and one.is_unsure and one.time_s >= self._last_unsure_s + _UNSURE_GAP_S:
            self._last_unsure_s = one.time_s
            self._unsure.append((one, self._picture))
            while len(self._unsure) > 1 and self._unsure_bytes() > _MOST_UNSURE_BYTES:
                self._unsure.popleft()
        self._news.notify_all()

    def _forget_oldest(self) -> None:
        one = self._answers.popleft()
        self._values -= len(one.values)
        if self._by_stamp[one.stamp_ns] is one:
            del self._by_stamp[one.stamp_ns]
            self._shared.discard(one.stamp_ns)

    def _has_too_many(self) -> bool:
        is_beyond = len(self._answers) > _MOST_ANSWERS or self._values > _MOST_VALUES
        return is_beyond and len(self._answers) > 1

    def _unsure_bytes(self) -> int:
        return sum(len(picture.content) for _, picture in self._unsure)

    def answers_after(self, number: int, most: int) -> list[Answer]:
        """Returns the answers after one, the oldest first; of more than so many the latest."""
        with self._news:
            if not self._answers or self._answers[-1].number <= number:
                return []
            missing = min(self._answers[-1].number - number, most, len(self._answers))
            return [self._answers[index] for index in range(-missing, 0)]

    def picture_after(self, number: int, timeout_s: float) -> Picture | None:
        """Waits for a picture other than the one of a number; None if none comes in time."""
        with self._news:
            self._news.wait_for(lambda: self._picture is not None and self._picture.number != number, timeout_s)
            return self._picture if self._picture is not None and self._picture.number != number else None

    def unsure(self) -> list[Answer]:
        """Returns the unsure answers whose pictures are kept, the latest first."""
        with self._news:
            return [one for one, _ in reversed(self._unsure)]

    def unsure_picture(self, number: int) -> Picture | None:
        """Returns the picture of one of these answers, by the answer's number; None if it is gone."""
        with self._news:
            return next((picture for one, picture in self._unsure if one.number == number), None)
