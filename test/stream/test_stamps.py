"""Owns: what a frame's stamp is worth: age, oddities, policies, recovery. Oracle: hand arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_perception.errors import FrameError
from cnn_perception.stream.stamps import FUTURE_S, Stamps, too_old

MS = 1_000_000
S = 1_000 * MS
T = 1_700_000_000 * S  # some day in 2023
FRAME = S // 30


def reasons(frames: list[tuple[int, int]], policy: str = "accept", max_age_s: float = 0.0) -> list[str]:
    """What is found of each (stamp, now): the oddity, `-` and the reason where the frame is dropped."""
    stamps = Stamps()
    found = []
    for stamp_ns, now_ns in frames:
        try:
            found.append(stamps.check(stamp_ns, now_ns, policy=policy, max_age_s=max_age_s).oddity)
        except FrameError as error:
            found.append(f"-{error.reason}")
    return found


ODD = {
    # frames as (stamp, now) in ms after T; what is found of each with policy accept
    "a normal camera": ([(0, 20), (33, 50), (67, 90)], ["", "", ""]),
    "the first stamp is never out of order": ([(0, 5000)], [""]),
    "duplicate": ([(0, 20), (0, 50), (33, 60)], ["", "stamp_duplicate", ""]),
    "two frames swapped": ([(0, 20), (67, 80), (33, 90), (100, 120)], ["", "", "stamp_backwards", ""]),
    "out of order by exactly 1 s does not start afresh": (
        [(2000, 2020), (1000, 2050), (1033, 2080), (2033, 2090)],
        ["", "stamp_backwards", "stamp_backwards", ""],
    ),
    "by more than 1 s it does": ([(2001, 2020), (1000, 2050), (1033, 2080)], ["", "stamp_backwards", ""]),
    "a bag that loops": ([(9000, 9020), (1000, 9050), (1033, 9080), (1067, 9110)], ["", "stamp_backwards", "", ""]),
    "ahead by the tolerance": ([(200, 0), (233, 33)], ["", ""]),
    "ahead by more": ([(201, 0), (233, 33), (267, 66)], ["stamp_future", "", "stamp_future"]),
    "one stamp in the future": ([(0, 20), (90_000, 50), (67, 80)], ["", "stamp_future", ""]),
    "one stamp in the past": ([(9000, 9020), (5, 9050), (9067, 9080)], ["", "stamp_backwards", ""]),
    "simulated time starts again": ([(9000, 9010), (100, 120), (133, 150)], ["", "clock_back", ""]),
    "a frame of the old time after the new time began": (
        [(9000, 9010), (9033, 120), (133, 150), (167, 180)],
        ["", "clock_back", "", ""],
    ),
    "the clock is slewed back a little": ([(9000, 9010), (9033, 8900), (9067, 8950)], ["", "", ""]),
    "a paused simulation": ([(0, 0), (0, 0), (0, 0)], ["", "stamp_duplicate", "stamp_duplicate"]),
}


@pytest.mark.parametrize(("frames", "expected"), ODD.values(), ids=ODD.keys())
def test_oddities_are_named_and_pass_or_are_dropped_as_the_policy_says(frames, expected):
    absolute = [(T + stamp * MS, T + now * MS) for stamp, now in frames]
    assert reasons(absolute) == expected
    assert reasons(absolute, "reject") == [f"-{oddity}" if oddity else "" for oddity in expected]


@pytest.mark.parametrize(
    ("nows_ms", "cause"),
    [
        ([0, 100, 200], "synchronise the machines' clocks"),
        ([0, 0, 0], "/clock has stopped, or comes too seldom"),
        ([-1000, 0, 0], "/clock has stopped, or comes too seldom"),
    ],
)
def test_stamps_ahead_of_a_clock_that_stands_are_the_clocks_fault(nows_ms, cause):
    stamps = Stamps()
    frames = [(T + stamp * MS, T + now * MS) for stamp, now in zip([0, 500, 1000], nows_ms, strict=True)]
    *_, last = [stamps.check(*frame, policy="accept", max_age_s=0.0) for frame in frames]
    assert last.oddity == "stamp_future"
    assert last.text.endswith(f"s in the future: {cause}")


DAY_S = 86_400
OTHER_CLOCKS = {
    # seconds by which the stamps are ahead of the node's clock, what is said
    "seconds since boot": (5000 - T // S, "years old: of another clock, such as the time since boot"),
    "a recording of last year": (-300 * DAY_S, "300 days old: of another clock"),
    "just more than a day": (-DAY_S - 1, "use_sim_time"),
    "TAI": (37, "as the clock of TAI is"),
    "TAI, a little late": (36.8, "as the clock of TAI is"),
    "GPS time": (18, "as the clock of GPS time is"),
    "milliseconds for seconds": (T // S * 999, "years in the future: of another clock"),
    "local time of the day before": (2 * DAY_S, "2 days in the future"),
}


@pytest.mark.parametrize(("ahead_s", "text"), OTHER_CLOCKS.values(), ids=OTHER_CLOCKS.keys())
def test_stamps_of_another_clock_are_an_oddity_of_their_own_without_an_age(ahead_s, text):
    frames = [(T + int(ahead_s * S) + i * FRAME, T + i * FRAME) for i in range(5)]
    assert reasons(frames) == ["stamp_clock"] * 5
    assert reasons(frames, "reject") == ["-stamp_clock"] * 5
    verdict = Stamps().check(*frames[0], policy="accept", max_age_s=0.0)
    assert verdict.age_s is None
    assert text in verdict.text


@pytest.mark.parametrize("ahead_s", [-DAY_S + 1, -3600, -37, 0.1])
def test_stamps_that_are_merely_late_are_of_the_same_clock(ahead_s):
    assert reasons([(T + int(ahead_s * S), T)], "reject") == [""]


def steady(age_s: float, frames: int = 30, period_s: float = 0.1, jitter_s=(0.0,)) -> list[tuple[int, int]]:
    """Frames of a camera whose stamps are off by the same time, but for its jitter; a tenth of a second apart."""
    nows = [T + round(i * period_s * S) for i in range(frames)]
    return [(now - round((age_s + jitter_s[i % len(jitter_s)]) * S), now) for i, now in enumerate(nows)]


HOUR = 3600.0
STEADY = {
    # age of the frames in seconds, what is said
    "local time west of Greenwich": (5 * HOUR + 0.05, "5 h behind: of another clock, such as local time taken for UTC"),
    "local time of India, UTC as local": (5.5 * HOUR + 0.05, "5.5 h behind: of another clock"),
    "of Nepal, a slow camera": (5.75 * HOUR + 0.9, "5.75 h behind: of another clock"),
    "between two zones": (0.5 * HOUR, "0.5 h behind: of another clock"),
    "set by hand, 1.9 s wrong": (HOUR - 1.9, "1 h behind: of another clock"),
    "local time east of Greenwich": (-5.5 * HOUR + 0.05, "5.5 h ahead: of another clock, such as local time"),
    "the node's machine runs on TAI": (37.05, "37 s, as UTC lags behind TAI: of another clock"),
    "the node's machine runs on GPS time": (18.4, "18 s, as UTC lags behind GPS time: of another clock"),
}


@pytest.mark.parametrize(("age_s", "text"), STEADY.values(), ids=STEADY.keys())
def test_stamps_off_by_what_two_clocks_differ_by_are_of_another_clock_after_two_seconds(age_s, text):
    frames = steady(age_s, jitter_s=(0.0, 0.03, -0.05, 0.02))
    before = "stamp_future" if age_s < 0 else ""
    dropped = "-stamp_future" if age_s < 0 else ""
    assert reasons(frames) == [before] * 20 + ["stamp_clock"] * 10
    assert reasons(frames, "reject") == [dropped] * 20 + ["-stamp_clock"] * 10
    stamps = Stamps()
    verdict = [stamps.check(*frame, policy="accept", max_age_s=0.0) for frame in frames][-1]
    assert verdict.age_s is None
    assert text in verdict.text
    assert "a recording is played with --clock and use_sim_time" in verdict.text


def test_a_slow_camera_needs_five_frames():
    assert reasons(steady(5 * HOUR, frames=7, period_s=1.0)) == [""] * 4 + ["stamp_clock"] * 3


@pytest.mark.parametrize("age_s", [0.05, 1.0, 17.6, 18.7, 36.6, 37.7, 55.0, 899.0, 900.0, 5 * HOUR + 2.1, 12_345.6])
def test_a_steady_age_that_no_two_clocks_differ_by_is_an_age(age_s):
    """A camera's delay, a recording of the same day, and a quarter of an hour, by which no two local times differ."""
    assert reasons(steady(age_s, frames=50)) == [""] * 50


def test_a_lag_that_grows_past_such_an_age_is_one():
    """A link that carries half of the frames makes a queue that grows by half a second each second."""
    growing = [(T + i * S // 20, T + i * S // 10) for i in range(1, 1200)]  # up to 60 s late
    assert set(reasons(growing)) == {""}


def test_ages_that_jump_about_are_no_offset():
    assert set(reasons(steady(5 * HOUR, jitter_s=(-1.0, 0.5)))) <= {"", "stamp_backwards"}


def test_one_frame_of_another_age_begins_anew_and_the_right_clock_is_trusted_at_once():
    frames = steady(5 * HOUR, frames=60)
    frames[25] = frames[25][1] - 70 * S, frames[25][1]
    found = reasons(frames, "reject")
    assert found[20:25] == ["-stamp_clock"] * 5
    assert "-stamp_clock" not in found[25:45]
    assert found[46:] == ["-stamp_clock"] * 14
    now_ns = frames[-1][1] + FRAME
    assert reasons([*frames, (now_ns, now_ns)], "reject")[-1] == ""


def test_frames_too_old_by_what_two_clocks_differ_by_are_told_so():
    stamps = Stamps()
    texts = []
    for frame in steady(5 * HOUR):
        with pytest.raises(
            FrameError, match=r"use_sim_time|^the frame is 1\.8e\+04 s old, more than max_age 0\.5 s$"
        ) as no:
            stamps.check(*frame, policy="accept", max_age_s=0.5)
        texts.append(str(no.value))
    assert ["5 h behind: of another clock" in text for text in texts] == [False] * 20 + [True] * 10
    assert all("use_sim_time" in text for text in texts[4:])


@pytest.mark.parametrize("ahead_s", [10, 30, 45, 3600])
def test_stamps_ahead_by_what_no_other_scale_leads_by_are_in_the_future(ahead_s):
    assert reasons([(T + ahead_s * S, T)]) == ["stamp_future"]


def test_a_recording_without_its_clock_is_told_of_it_where_frames_must_be_young():
    with pytest.raises(FrameError, match=r"too_old.*--clock and use_sim_time|use_sim_time"):
        Stamps().check(T - 3 * DAY_S * S, T, policy="accept", max_age_s=0.5)


def said_of_old_frames(ages_s: list[float]) -> list[bool]:
    """Of each frame of these ages whether it is dropped as too old with the advice on recordings; all are too old."""
    stamps = Stamps()
    told = []
    for second, age_s in enumerate(ages_s):
        now_ns = T + second * S
        with pytest.raises(FrameError, match=r"^the frame is .* s old, more than max_age 0\.5 s") as refusal:
            stamps.check(now_ns - int(age_s * S), now_ns, policy="accept", max_age_s=0.5)
        told.append("played with --clock and use_sim_time" in str(refusal.value))
    return told


@pytest.mark.parametrize("age_s", [2.0, 3600.0, DAY_S - 1.0])
def test_frames_that_are_all_too_old_by_the_same_time_are_told_of_use_sim_time_from_the_fifth_on(age_s: float):
    jitter_s = [0.0, 0.03, -0.2, 0.1, 0.3, 0.0, 0.0]  # within half a second
    assert said_of_old_frames([age_s + one for one in jitter_s]) == [False] * 4 + [True] * 3


def test_frames_that_are_ever_later_are_late_and_no_recording():
    assert said_of_old_frames([1.0 + 0.2 * frame for frame in range(20)]) == [False] * 20


def test_a_young_frame_in_between_begins_anew():
    stamps = Stamps()
    for second in range(20):
        now_ns = T + second * S
        if second % 4 == 3:
            stamps.check(now_ns, now_ns, policy="accept", max_age_s=0.5)
            continue
        with pytest.raises(FrameError) as refusal:
            stamps.check(now_ns - 3600 * S, now_ns, policy="accept", max_age_s=0.5)
        assert "use_sim_time" not in str(refusal.value)


@pytest.mark.parametrize(
    ("unit_ns", "said"),
    [(1_000, "microseconds stand in the field of nanoseconds"), (S, "they have whole seconds only")],
)
@pytest.mark.parametrize("rate_hz", [5, 10, 30])
def test_stamps_that_leave_out_parts_of_a_second_are_told_after_some_frames(unit_ns: int, said: str, rate_hz: int):
    """As of a driver that writes `tv_usec` into nanosec: the ages grow to a second and fall again, and none is true."""
    stamps = Stamps()
    found = []
    for number in range(6 * rate_hz):
        now_ns = T + number * S // rate_hz + 20 * MS
        second, rest_ns = divmod(now_ns - 20 * MS + 3 * MS, S)
        found.append(stamps.check(second * S + rest_ns // unit_ns, now_ns, policy="accept", max_age_s=0.0))
    assert "stamp_clock" not in [verdict.oddity for verdict in found[:7]]
    for verdict in found[2 * rate_hz :]:
        assert verdict.oddity == "stamp_clock"
        assert said in verdict.text
        assert verdict.age_s is None
    right = stamps.check(T + 7 * S + 123 * MS, T + 7 * S + 150 * MS, policy="reject", max_age_s=0.0)
    assert right.age_s == pytest.approx(0.027)


@pytest.mark.parametrize("rate_hz", [1, 2])
def test_a_camera_that_is_triggered_by_the_second_has_an_age(rate_hz: int):
    frames = [(T + number * S // rate_hz, T + number * S // rate_hz + 20 * MS) for number in range(60)]
    assert reasons(frames) == [""] * 60
    again = [frame for frame in frames for _ in range(2)]  # each sent twice
    assert "stamp_clock" not in reasons(again)


@pytest.mark.parametrize("rate_hz", [2, 10, 30])
def test_stamps_whose_nanoseconds_are_more_than_a_second_has_are_no_times(rate_hz: int):
    """As of drivers that write the lowest 32 bits of all nanoseconds into it, which are less for a second in 4.3."""
    stamps, strict = Stamps(), Stamps()
    is_begun = False
    for number in range(12 * rate_hz):
        taken_ns = T + number * S // rate_hz
        nanosec = taken_ns % 2**32
        stamp_ns, now_ns = taken_ns // S * S + nanosec, taken_ns + 20 * MS
        verdict = stamps.check(stamp_ns, now_ns, policy="accept", max_age_s=0.0, nanosec=nanosec)
        is_begun = is_begun or nanosec >= S
        assert (verdict.oddity == "stamp_invalid") == is_begun
        if is_begun:
            assert verdict.age_s is None
            with pytest.raises(FrameError, match=r"nanosec of the stamp is \d{10}, more than a second has") as refusal:
                strict.check(stamp_ns, now_ns, policy="reject", max_age_s=0.0, nanosec=nanosec)
            assert refusal.value.reason == "stamp_invalid"
    assert is_begun


def test_after_a_stamp_that_is_no_time_the_right_ones_are_judged_by_themselves_within_two_seconds():
    stamps = Stamps()
    assert stamps.check(T + 3 * S, T, policy="accept", max_age_s=0.1, nanosec=3 * S).oddity == "stamp_invalid"
    at_once = stamps.check(T + S, T + S + 20 * MS, policy="accept", max_age_s=0.1)
    assert (at_once.age_s, at_once.oddity) == (None, "stamp_invalid")
    later = stamps.check(T + 2 * S, T + 2 * S + 20 * MS, policy="reject", max_age_s=0.1)
    assert (later.age_s, later.oddity) == (0.02, "")
    assert stamps.check(T + 5 * S, T + 5 * S, policy="reject", max_age_s=0.1, nanosec=S - 1).oddity == ""


def test_a_driver_that_adds_to_nanosec_without_carrying_has_ages_but_for_the_stamps_that_are_no_times():
    stamps = Stamps()
    for number in range(90):
        taken_ns = T + number * S // 30
        nanosec = taken_ns % S + 50 * MS
        stamp_ns = taken_ns // S * S + nanosec
        verdict = stamps.check(stamp_ns, stamp_ns + 20 * MS, policy="accept", max_age_s=0.0, nanosec=nanosec)
        expected = (0.02, "") if nanosec < S else (None, "stamp_invalid")
        assert (verdict.age_s, verdict.oddity) == expected


def test_after_stamps_of_another_clock_those_of_the_right_one_are_judged_by_themselves():
    frames = [(5000 * S, T), (5000 * S + FRAME, T + FRAME), (T + 2 * FRAME, T + 2 * FRAME)]
    assert reasons(frames) == ["stamp_clock", "stamp_clock", ""]


@pytest.mark.parametrize("stamp_ns", [0, -1, -(2**31) * S], ids=["zero", "just negative", "most negative"])
def test_a_stamp_that_was_not_set_has_no_age(stamp_ns):
    assert Stamps().check(stamp_ns, T, policy="accept", max_age_s=0.1).age_s is None
    assert reasons([(T, T), (stamp_ns, T), (T + 1, T)], "reject") == ["", "-stamp_zero", ""]


def test_simulated_time_without_clock_warns_and_goes_on():
    frames = [(0, 0), (T, 0), (T, 0), (T + FRAME, 0)]
    assert reasons(frames) == ["clock_zero"] * 4
    assert reasons(frames, "reject") == ["clock_zero"] * 4
    assert reasons(frames, "accept", max_age_s=0.1) == ["clock_zero"] * 4
    assert Stamps().check(T, 0, policy="accept", max_age_s=0.1).age_s is None


def test_an_age_nobody_can_know_is_refused_only_where_both_ask_for_it():
    assert reasons([(T, 0), (T, T)], "reject", max_age_s=0.1) == ["-clock_zero", ""]


def test_simulated_time_begins_when_the_clock_does():
    assert reasons([(9 * S, 0), (5 * S, 5 * S), (5 * S + FRAME, 5 * S + FRAME)], "reject") == ["clock_zero", "", ""]
    assert reasons([(9 * S, 9 * S), (0, 0), (FRAME, FRAME)]) == ["", "clock_zero", ""]


def test_age_is_what_passed_since_the_stamp():
    assert Stamps().check(T, T + 1500 * MS, policy="accept", max_age_s=2.0).age_s == 1.5
    assert Stamps().check(T + 100 * MS, T, policy="accept", max_age_s=2.0).age_s == -0.1
    assert Stamps().check(T + 300 * MS, T, policy="accept", max_age_s=2.0).age_s is None


@pytest.mark.parametrize("policy", ["accept", "reject"])
def test_a_frame_older_than_max_age_is_dropped_whatever_the_policy(policy):
    edge = [(T, T + 500 * MS), (T + 1, T + 500 * MS + 2)]
    assert reasons(edge, policy, max_age_s=0.5) == ["", "-too_old"]
    assert reasons(edge, policy) == ["", ""]


def test_a_frame_that_is_too_old_and_odd_is_too_old():
    assert reasons([(T, T), (T, T + S)], "reject", max_age_s=0.5) == ["", "-too_old"]


def test_too_old_is_asked_again_before_publishing():
    assert too_old(T, T + 501 * MS, 0.5)
    assert not too_old(T, T + 500 * MS, 0.5)
    assert not too_old(T, T + 10**6 * S, 0.0)
    assert not too_old(0, T, 0.5)
    assert not too_old(T, 0, 0.5)


def test_the_text_says_by_how_much():
    stamps = Stamps()
    assert "12.5 s in the future" in stamps.check(T + 12_500 * MS, T, policy="accept", max_age_s=0).text
    with pytest.raises(FrameError, match=r"3 s old, more than max_age 0\.25 s"):
        stamps.check(T, T + 3 * S, policy="accept", max_age_s=0.25)


TIMES = st.one_of(
    st.integers(-(2**31) * S, 2**32 * S),  # all a message can hold, and the node's clock
    st.integers(T - 3 * S, T + 3 * S),
    st.sampled_from([0, 1, T, T + 1]),
)
FRAMES = st.lists(st.tuples(TIMES, TIMES), max_size=30)
POLICIES = st.sampled_from(["accept", "reject"])


@settings(max_examples=200, deadline=None)
@given(FRAMES, POLICIES, st.sampled_from([0.0, 0.1, 2.0]), st.integers(1, 2**31).map(lambda s: s * S))
def test_after_anything_a_normal_camera_is_soon_answered(before, policy, max_age_s, start_ns):
    normal = [(start_ns + k * FRAME, start_ns + k * FRAME + 20 * MS) for k in range(40)]
    found = reasons(before + normal, policy, max_age_s)[len(before) :]
    assert found[32:] == [""] * 8  # 1 s and two frames later


@settings(max_examples=200, deadline=None)
@given(FRAMES, POLICIES, st.floats(0.001, 1e6))
def test_no_frame_passes_that_is_older_than_max_age(frames, policy, max_age_s):
    stamps = Stamps()
    for stamp_ns, now_ns in frames:
        try:
            verdict = stamps.check(stamp_ns, now_ns, policy=policy, max_age_s=max_age_s)
        except FrameError:
            continue
        if stamp_ns > 0 and now_ns > 0:
            assert (now_ns - stamp_ns) / 1e9 <= max_age_s * (1 + 1e-12)
        if verdict.age_s is not None:
            assert -FUTURE_S <= verdict.age_s <= max_age_s * (1 + 1e-12)
        if policy == "reject":
            assert verdict.oddity == ""


@settings(max_examples=200, deadline=None)
@given(FRAMES)
def test_without_an_oddity_the_stamps_rise_and_are_not_of_the_future(frames):
    stamps = Stamps()
    accepted = []
    for stamp_ns, now_ns in frames:
        if stamps.check(stamp_ns, now_ns, policy="accept", max_age_s=0).oddity == "":
            assert 0 < stamp_ns <= now_ns + 200 * MS
            accepted.append((stamp_ns, now_ns))
        else:
            accepted.clear()  # what started afresh is judged by the tables above
        rising = [stamp for stamp, _ in accepted]
        assert rising == sorted(set(rising))
