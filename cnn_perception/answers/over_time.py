"""Answers as a robot lives with them: the latest one holds until the next arrives, right or wrong."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cnn_perception.answers.answer import Answer, Reading
from cnn_perception.answers.matching import AskedFrame
from cnn_perception.label_text import Truth, text_of


@dataclass(frozen=True)
class InTime:
    """How good the latest answer was, over all labelled time.

    Attributes:
        labelled_s: Seconds in which something is known.
        silent_s: Seconds of these before the first answer; they count as wrong.
        accuracy: Share of the labelled time in which the latest answer was right, in [0, 1]; None for numbers, and
            where nothing is known.
        errors: Mean absolute error over the labelled time with an answer, of each number; empty for classes.
    """

    labelled_s: float
    silent_s: float
    accuracy: float | None
    errors: tuple[float, ...] = ()


@dataclass(frozen=True)
class Percentiles:
    """Of durations, milliseconds; all 0 where there are none.

    Attributes:
        count: How many there are.
    """

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True)
class ChangeDelays:
    """How long after a change of what is known the answer followed.

    Attributes:
        changes: How often it changed between two frames.
        missed: How often the answer did not follow before the next change.
        delay_ms: Of the others.
    """

    changes: int
    missed: int
    delay_ms: Percentiles


def percentiles(durations_s: Sequence[float]) -> Percentiles:
    """Returns the percentiles of durations in seconds."""
    if not durations_s:
        return Percentiles(0, 0.0, 0.0, 0.0)
    p50, p95, p99 = np.percentile(np.array(durations_s) * 1e3, (50, 95, 99)).tolist()
    return Percentiles(len(durations_s), p50, p95, p99)


def in_time(frames: Sequence[AskedFrame], answers: Sequence[Answer], reading: Reading) -> InTime:
    """Returns how good the latest answer was at each moment.

    Args:
        frames: In order of time; what is known of one holds until the next.
        answers: In the order in which they came.
        reading: How they are read.
    """
    pieces = [piece for piece in _pieces(frames, answers) if piece[1] is not None]
    labelled_s = sum(seconds for seconds, _, _ in pieces)
    heard = [(seconds, truth, answer) for seconds, truth, answer in pieces if answer is not None]
    silent_s = labelled_s - sum(seconds for seconds, _, _ in heard)
    if not reading.has_classes:
        return InTime(labelled_s, max(silent_s, 0.0), None, _mean_errors(heard, reading))
    right_s = sum(seconds for seconds, truth, answer in heard if truth is not None and reading.is_right(answer, truth))
    return InTime(labelled_s, max(silent_s, 0.0), right_s / labelled_s if labelled_s else None)


def _mean_errors(heard: Sequence[tuple[float, Truth | None, Answer]], reading: Reading) -> tuple[float, ...]:
    if not heard:
        return ()
    weights = np.array([seconds for seconds, _, _ in heard])
    known = np.array([truth for _, truth, _ in heard], np.float64)
    found = np.array([reading.values(answer) for _, _, answer in heard], np.float64)
    return tuple((np.abs(known - found) * weights[:, np.newaxis]).sum(axis=0) / weights.sum())


def _pieces(
    frames: Sequence[AskedFrame], answers: Sequence[Answer]
) -> Iterator[tuple[float, Truth | None, Answer | None]]:
    """Yields (seconds, what is known, the latest answer) of each stretch in which neither changes."""
    ordered = sorted(answers, key=lambda answer: answer.time_s)
    latest: Answer | None = None
    coming = 0
    for frame, end_s in zip(frames, _ends_s(frames), strict=True):
        begin_s = frame.time_s
        while coming < len(ordered) and ordered[coming].time_s < end_s:
            arrived_s = ordered[coming].time_s
            if arrived_s > begin_s:
                yield arrived_s - begin_s, frame.truth, latest
                begin_s = arrived_s
            latest = ordered[coming]
            coming += 1
        if end_s > begin_s:
            yield end_s - begin_s, frame.truth, latest


def _ends_s(frames: Sequence[AskedFrame]) -> list[float]:
    """Returns until when each frame is the latest; the last one for as long as most are."""
    if not frames:
        return []
    starts = [frame.time_s for frame in frames]
    steps = [after - before for before, after in itertools.pairwise(starts)]
    return [*starts[1:], starts[-1] + (statistics.median(steps) if steps else 0.0)]


def changes_per_minute(answers: Sequence[Answer], reading: Reading) -> float | None:
    """Returns how often the answer changed from one message to the next; None for numbers, and of fewer than two."""
    if not reading.has_classes or len(answers) < 2:
        return None
    texts = [reading.text(answer) for answer in answers]
    changes = sum(before != after for before, after in itertools.pairwise(texts))
    minutes = (answers[-1].time_s - answers[0].time_s) / 60
    return changes / minutes if minutes > 0 else None


def change_delays(frames: Sequence[AskedFrame], answers: Sequence[Answer], reading: Reading) -> ChangeDelays | None:
    """Returns how long the answer took to follow what is known; None for numbers, which change all the time.

    A change lies between two frames that follow each other and of which both are labelled.
    """
    if not reading.has_classes:
        return None
    ordered = sorted(answers, key=lambda answer: answer.time_s)
    changed = [after for before, after in itertools.pairwise(frames) if _differ(before.truth, after.truth)]
    ends_s = [frame.time_s for frame in changed[1:]] + _ends_s(frames)[-1:]
    delays = [_delay_s(frame, end_s, ordered, reading) for frame, end_s in zip(changed, ends_s, strict=False)]
    followed = [delay for delay in delays if delay is not None]
    return ChangeDelays(len(delays), len(delays) - len(followed), percentiles(followed))


def _differ(before: Truth | None, after: Truth | None) -> bool:
    return before is not None and after is not None and text_of(before) != text_of(after)


def _delay_s(frame: AskedFrame, end_s: float, ordered: Sequence[Answer], reading: Reading) -> float | None:
    assert frame.truth is not None  # only changes between labelled frames are looked at
    before = [answer for answer in ordered if answer.time_s <= frame.time_s]
    if before and reading.is_right(before[-1], frame.truth):
        return 0.0
    after = (answer for answer in ordered if frame.time_s < answer.time_s < end_s)
    return next((answer.time_s - frame.time_s for answer in after if reading.is_right(answer, frame.truth)), None)
