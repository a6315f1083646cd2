"""What a frame's stamp is worth: how old the frame is, and what is odd about its stamp or the node's clock.

Nothing that a stamp can do stops a camera for good. After a fault, the next frames are judged by themselves within
`STEP_BACK_S`, whatever came before; after a stamp that is no time, within two seconds.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cnn_perception.errors import FrameError

StampPolicy = Literal["accept", "reject"]
"""Whether frames whose stamp is odd are answered and counted, or dropped."""
Oddity = Literal[
    "",
    "stamp_zero",
    "stamp_invalid",
    "stamp_clock",
    "stamp_future",
    "stamp_duplicate",
    "stamp_backwards",
    "clock_zero",
    "clock_back",
]
"""Stable key of what is odd, by which it is counted; empty if nothing is."""

_OF_NO_AGE = ("stamp_invalid", "stamp_clock")
"""What is odd about stamps from which no age follows, however near they are."""
FUTURE_S = 0.2
"""A stamp may be ahead of the node's clock by this: machines synchronised over a network differ by milliseconds, and
a simulation that publishes /clock at 10 Hz lets a node be late by 0.1 s."""
OTHER_CLOCK_S = 86_400.0
"""No camera is late or early by a day: its clock is another one, such as the seconds since it was switched on, or the
frame is of a recording that is played without its clock."""
_SECONDS_AHEAD = {"TAI": 37.0, "GPS time": 18.0}
"""By which other scales of time lead UTC, on which ROS 2's clock runs. Source: IERS Bulletin C, since 2017."""
_SCALE_TOLERANCE_S = 0.3
"""Within which a stamp is taken for one of such a scale: how late or early it is by UTC."""
CONSTANT_FRAMES = 5
"""So many frames in a row that are too old and all of the same age"""
CONSTANT_S = 0.5
"""within this are not late: a camera that lags is so by more each time, or less."""
_QUARTER_HOUR_S = 900.0
"""Local times differ from UTC and from each other by whole quarters of an hour (IANA time zone database),"""
_LEAST_QUARTERS = 2
"""and two that differ do so by half an hour at least."""
_QUARTER_TOLERANCE_S = 2.0
"""Within which an offset is one of whole quarters of an hour: a machine set by hand keeps time no better.

A recording that is played without its clock has an arbitrary age, of which 4 s in 900 s are taken for such an offset, a
chance of 0.44 %: so what is said names recordings, too.
"""
_SCALE_DELAY_S = 0.6
"""By which stamps may be later than a clock of another scale explains, and `_SCALE_TOLERANCE_S` earlier: its delay.

Of recordings played without their clock in their first minute, 1.8 s in 60 s are taken for such a clock, 3 %.
"""
_STEADY_SPREAD_S = 1.0
"""Between the ages of `CONSTANT_FRAMES` in a row that show the offset of a clock,"""
_STEADY_NS = 2 * 10**9
"""and have done so for this long: a queue behind a link that carries half of the frames grows by 0.5 s each second, and
is past 18 s or 37 s in 1.8 s."""
_SECOND_NS = 10**9
_COARSE_NS = 10**6
"""Nanoseconds of a second that are all below this are microseconds of one, or none at all: one stamp in a thousand has
such by chance,"""
_COARSE_FRAMES = 8
"""so many of which in a row are told,"""
_COARSE_RATE = 3
"""if there are so many of them in each second: a slower camera may be triggered by the second."""
_DISTRUST_NS = 2 * 10**9
"""For so long after a stamp that is none no other of the camera is believed: where 32 bits of all nanoseconds stand in
the field, they are those of a second for one second in 4.3, and as wrong. So long before that second they are two
seconds and more; fewer are those of a driver that has added to a right stamp, whose next one is right again."""
STEP_BACK_S = 1.0
"""A longer step back is no frame out of order, but time that starts afresh: a bag that loops, a restarted camera."""
_IF_RECORDED = "a recording is played with --clock and use_sim_time"


@dataclass(frozen=True)
class Verdict:
    """What was found of a frame that may be answered.

    Attributes:
        age_s: Seconds from the stamp to the node's clock, slightly negative where the camera's clock is ahead; None
            where nobody knows: a stamp of zero, of no time or in the future, a clock at zero.
        oddity: What is odd, see `Oddity`.
        text: The same in words, with what to do about it; empty if nothing is odd.
    """

    age_s: float | None
    oddity: Oddity
    text: str


class Stamps:
    """Judges the stamps of one camera, frame by frame; for one thread."""

    def __init__(self) -> None:
        self._latest_ns: int | None = None  # the largest stamp since time last started afresh
        self._clock_ns = 0
        self._old_ages_s: deque[float] = deque(maxlen=CONSTANT_FRAMES)  # of the frames that were too old, in a row
        self._offset = _SteadyOffset()
        self._units = _CoarseStamps()
        self._invalid = InvalidStamps()

    def check(self, stamp_ns: int, now_ns: int, *, policy: StampPolicy, max_age_s: float, nanosec: int = 0) -> Verdict:
        """Judges a frame when it is taken.

        Args:
            stamp_ns: The frame's stamp, nanoseconds; 0 and less mean that it was not set.
            now_ns: The node's clock, nanoseconds; 0 in simulated time before the first /clock.
            policy: What happens to an odd frame. A clock at zero is not the frame's fault: with `reject` such frames
                are dropped only if `max_age_s` asks for an age that nobody can know.
            max_age_s: Seconds from which on a frame is too old, whatever the policy; 0 switches that off.
            nanosec: The field of that name of the stamp, which may hold more than a second has.

        Returns:
            The verdict on a frame that may be answered.

        Raises:
            FrameError: If the frame must be dropped: `too_old`, or the oddity.
        """
        invalid = self._invalid.observe(nanosec, now_ns)
        oddity, text = self._judge(stamp_ns, now_ns, invalid)
        age_s = (now_ns - stamp_ns) / 1e9
        if too_old(stamp_ns, now_ns, max_age_s):
            self._old_ages_s.append(age_s)
            reason = text if oddity in _OF_NO_AGE else ""
            raise FrameError("too_old", _too_old_text(self._old_ages_s, max_age_s, reason))
        self._old_ages_s.clear()
        if policy == "reject" and oddity and (oddity != "clock_zero" or max_age_s > 0):
            raise FrameError(oddity, text)
        is_known = now_ns > 0 and _is_plausible(stamp_ns, now_ns) and oddity not in _OF_NO_AGE
        return Verdict(age_s if is_known else None, oddity, text)

    def _judge(self, stamp_ns: int, now_ns: int, invalid: str) -> tuple[Oddity, str]:
        """Compares a stamp with the clock and the stamps before it, and remembers it if it is a time."""
        if invalid and now_ns > 0:
            return "stamp_invalid", invalid
        stands = now_ns == self._clock_ns  # which only simulated time can from one frame to the next
        clock_step_s = (now_ns - self._clock_ns) / 1e9
        self._clock_ns = now_ns
        steady_offset = self._offset.observe(stamp_ns, now_ns)
        units = self._units.observe(stamp_ns)
        if now_ns <= 0:
            self._latest_ns = None
            return "clock_zero", "the node's clock is at zero: use_sim_time is set, but nobody publishes /clock"
        if clock_step_s < -STEP_BACK_S:
            self._latest_ns = None
        # A frame before any other takes no step; an implausible one is not remembered, for it would make those after
        # it look out of order.
        before_ns = self._latest_ns
        step_s = math.inf if before_ns is None else (stamp_ns - before_ns) / 1e9
        if _is_plausible(stamp_ns, now_ns) and (step_s > 0 or step_s < -STEP_BACK_S):
            self._latest_ns = stamp_ns

        if clock_step_s < -STEP_BACK_S:
            return "clock_back", f"the node's clock stepped back by {-clock_step_s:.3g} s: time starts afresh"
        if stamp_ns <= 0:
            return "stamp_zero", "the stamp is zero: the frame's age is unknown; the camera must set header.stamp"
        if other_clock := _other_clock(stamp_ns, now_ns) or steady_offset or units:
            return "stamp_clock", other_clock
        if not _is_plausible(stamp_ns, now_ns):
            ahead_s = (stamp_ns - now_ns) / 1e9
            apart = "in the future: synchronise the machines' clocks"
            if stands:
                apart = "in the future: /clock has stopped, or comes too seldom"
            return "stamp_future", f"the stamp is {ahead_s:.3g} s {apart}"
        if step_s < -STEP_BACK_S:
            return (
                "stamp_backwards",
                f"the stamp stepped back by {-step_s:.3g} s: time starts afresh, as in a looped bag",
            )
        if step_s < 0:
            return "stamp_backwards", f"the stamp is {-step_s:.3g} s before that of an earlier frame: out of order"
        if step_s == 0:
            return "stamp_duplicate", "the stamp is that of an earlier frame: sent twice, or by two publishers"
        return "", ""


class InvalidStamps:
    """Which stamps of one publisher are no time, or may be as wrong, see `_DISTRUST_NS`; for one thread."""

    def __init__(self) -> None:
        self._text = ""  # what was said of the latest stamp that is none
        self._since_ns = 0  # when it was taken

    def observe(self, nanosec: int, now_ns: int) -> str:
        """Returns what is said of a stamp that is no time; empty of one that may be a time.

        Args:
            nanosec: Its field of that name.
            now_ns: When it was taken, nanoseconds.
        """
        if has_too_many(nanosec):
            self._text = invalid_text(nanosec)
            self._since_ns = now_ns if nanosec >= 2 * _SECOND_NS else self._since_ns
        elif not 0 <= now_ns - self._since_ns <= _DISTRUST_NS:
            self._text = ""
        return self._text


def has_too_many(nanosec: int) -> bool:
    """Returns whether the field of nanoseconds of a stamp holds more than a second has, so that it is no time."""
    return nanosec >= _SECOND_NS


def invalid_text(nanosec: int) -> str:
    """Returns what is said of a stamp that is no time, and what to do."""
    return (
        f"nanosec of the stamp is {nanosec}, more than a second has, so it is no time: as of a driver that writes all "
        "nanoseconds since 1970 into it, or adds some to it and carries none over to sec; mend the driver"
    )


class _SteadyOffset:
    """Whether the stamps of one camera are off, frame after frame, by what two clocks differ by; for one thread."""

    def __init__(self) -> None:
        self._lag_s: float | None = None  # which the frames in a row have that began at
        self._since_ns = 0
        self._ages_s: deque[float] = deque(maxlen=CONSTANT_FRAMES)

    def observe(self, stamp_ns: int, now_ns: int) -> str:
        """Returns what is said of a frame whose stamp is off as those before it were, see `Stamps.check`; else ''."""
        age_s = (now_ns - stamp_ns) / 1e9
        lag_s = _lag_of_a_clock(age_s) if stamp_ns > 0 and now_ns > 0 else None
        if lag_s is None or lag_s != self._lag_s or now_ns < self._since_ns:
            self._lag_s = lag_s
            self._since_ns = now_ns
            self._ages_s.clear()
        self._ages_s.append(age_s)
        if lag_s is None or len(self._ages_s) < CONSTANT_FRAMES or now_ns - self._since_ns < _STEADY_NS:
            return ""
        return _steady_text(lag_s) if max(self._ages_s) - min(self._ages_s) <= _STEADY_SPREAD_S else ""


class _CoarseStamps:
    """Whether the stamps of one camera leave out parts of a second, frame after frame; for one thread."""

    def __init__(self) -> None:
        self._frames = 0  # in a row
        self._seconds = 0  # that these are of
        self._second = 0

    def observe(self, stamp_ns: int) -> str:
        """Returns what is said of a frame whose stamp does so, as those before it do; else ''."""
        second, rest_ns = divmod(stamp_ns, _SECOND_NS)
        if stamp_ns <= 0 or rest_ns >= _COARSE_NS:
            self._frames = self._seconds = 0
            return ""
        self._seconds += self._frames == 0 or second != self._second
        self._second = second
        self._frames += 1
        if self._frames < max(_COARSE_FRAMES, _COARSE_RATE * self._seconds) or self._seconds < 2:
            return ""
        what = "microseconds stand in the field of nanoseconds" if rest_ns else "they have whole seconds only"
        return (
            f"the stamps lie within a thousandth behind each second: {what}, so the frame's age is unknown; mend the "
            "camera's driver"
        )


def _lag_of_a_clock(age_s: float) -> float | None:
    """Returns by how many seconds another clock lags whose stamps are of this age; None if none is known to do so.

    It is negative where that clock is ahead. Stamps that lead by as much as TAI or GPS time are told from one frame,
    by `_other_clock`.
    """
    for lag_s in _SECONDS_AHEAD.values():
        if -_SCALE_TOLERANCE_S <= age_s - lag_s <= _SCALE_DELAY_S:
            return lag_s
    quarters = round(age_s / _QUARTER_HOUR_S)
    lag_s = quarters * _QUARTER_HOUR_S
    is_local = abs(quarters) >= _LEAST_QUARTERS and abs(age_s - lag_s) <= _QUARTER_TOLERANCE_S
    return lag_s if is_local else None


def _steady_text(lag_s: float) -> str:
    """Returns what another clock the stamps of frames in a row are of that lag by this much, and what to do."""
    for scale, lead_s in _SECONDS_AHEAD.items():
        if lag_s == lead_s:
            return (
                f"the stamps lag by {lag_s:g} s, as UTC lags behind {scale}: of another clock; have the camera's "
                f"driver and this machine use UTC, or mend the camera's delay; {_IF_RECORDED}"
            )
    side = "behind" if lag_s > 0 else "ahead"
    return (
        f"the stamps are {abs(lag_s) / 3600.0:g} h {side}: of another clock, such as local time taken for UTC; have "
        f"the camera's driver and this machine use UTC; {_IF_RECORDED}"
    )


def _is_plausible(stamp_ns: int, now_ns: int) -> bool:
    return stamp_ns > 0 and -OTHER_CLOCK_S <= (stamp_ns - now_ns) / 1e9 <= FUTURE_S


def _other_clock(stamp_ns: int, now_ns: int) -> str:
    """Returns what another clock a stamp is of, and what to do; empty if it may be of the node's."""
    ahead_s = (stamp_ns - now_ns) / 1e9
    for scale, lead_s in _SECONDS_AHEAD.items():
        if abs(ahead_s - lead_s) <= _SCALE_TOLERANCE_S:
            return (
                f"the stamp is {ahead_s:.1f} s ahead, as the clock of {scale} is: have the camera's driver stamp in UTC"
            )
    if ahead_s > OTHER_CLOCK_S:
        return f"the stamp is {_in_words(ahead_s)} in the future: of another clock; have the driver use the system's"
    if ahead_s < -OTHER_CLOCK_S:
        return (
            f"the stamp is {_in_words(-ahead_s)} old: of another clock, such as the time since boot; have the "
            "driver use the system's, or play a recording with --clock and set use_sim_time"
        )
    return ""


def _too_old_text(ages_s: Sequence[float], max_age_s: float, other_clock: str) -> str:
    """Returns what is said of the last of some frames in a row that were too old, and of all of them.

    Args:
        ages_s: Theirs, seconds.
        max_age_s: Of `Stamps.check`.
        other_clock: Which other clock the last one's stamp is of, and what to do; empty if it may be of the node's.
    """
    age_s = ages_s[-1]
    text = f"the frame is {age_s:.3g} s old, more than max_age {max_age_s:g} s"
    if age_s > OTHER_CLOCK_S:
        return f"{text}: {_IF_RECORDED}; otherwise the stamp is of another clock"
    if other_clock:
        return f"{text}: {other_clock}"
    if len(ages_s) < CONSTANT_FRAMES or max(ages_s) - min(ages_s) > CONSTANT_S:
        return text
    return (
        f"{text}, as those before it were: {_IF_RECORDED}; otherwise synchronise the machines' clocks, or mend the "
        "camera's delay"
    )


def _in_words(duration_s: float) -> str:
    """Returns a duration of more than a day."""
    days = duration_s / 86_400.0
    return f"{days:.3g} days" if days < 365.25 else f"{days / 365.25:.3g} years"


def too_old(stamp_ns: int, now_ns: int, max_age_s: float) -> bool:
    """Returns whether a frame must no longer be answered; asked when it is taken, and again before it is published.

    Args:
        stamp_ns: The frame's stamp, nanoseconds; a frame without one (0 and less) has no age and is never too old.
        now_ns: The node's clock, nanoseconds; at zero no frame is too old.
        max_age_s: Seconds; 0 switches it off.
    """
    return max_age_s > 0 and stamp_ns > 0 and now_ns > 0 and now_ns - stamp_ns > max_age_s * 1e9
