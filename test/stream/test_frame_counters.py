"""Owns: rates, counts and percentiles of a camera's frames, now and lately. Oracle: hand arithmetic."""

from __future__ import annotations

import pytest

from cnn_perception.stream.frame_counters import FrameCounters


def test_rates_are_counted_between_snapshots():
    counters = FrameCounters(now_s=100.0)
    for i in range(30):
        counters.receive(100.0 + i / 15)
    for _ in range(10):
        counters.answer({"inference": 5.0})
    first = counters.snapshot(now_s=102.0)
    counters.receive(102.5)
    second = counters.snapshot(now_s=104.0)
    assert (first.input_rate_hz, first.output_rate_hz) == (15.0, 5.0)
    assert (second.input_rate_hz, second.output_rate_hz) == (0.5, 0.0)
    assert (second.total.received, second.total.answered) == (31, 10)


def test_lost_overtaken_and_dropped_are_three_counts():
    """Ten are sent: two never arrive, three are replaced before they are taken, and one of the other five is bad."""
    counters = FrameCounters(0.0)
    counters.lose(2)
    counters.overtake(3)
    for _ in range(5):
        counters.receive(0.5)
    assert counters.drop("encoding") == 1
    total = counters.snapshot(1.0).total
    assert (total.sent, total.received, total.lost, total.overtaken, dict(total.dropped)) == (
        10,
        8,
        2,
        3,
        {"encoding": 1},
    )


def test_frames_that_met_a_defect_are_counted_apart_from_unusable_ones():
    counters = FrameCounters(0.0)
    assert counters.drop("encoding") == 1
    assert counters.drop("encoding") == 2
    counters.drop("defect")
    first, second = counters.snapshot(1.0), counters.snapshot(2.0)
    assert first.total.dropped == {"encoding": 2, "defect": 1}
    assert (first.newly_broken, second.newly_broken) == (1, 0)
    assert second.recent.unusable == {"encoding": 2}


def test_recent_is_what_happened_in_the_last_ten_seconds():
    """A frame a second is received and dropped, and counted after it; at 13 s those of seconds 4 to 13 are recent."""
    counters = FrameCounters(0.0)
    for second in range(1, 14):
        counters.receive(second - 0.5)
        counters.drop("step" if second < 8 else "size")
        snapshot = counters.snapshot(float(second))
    assert (snapshot.recent.received, snapshot.recent_s) == (10, 10.0)
    assert snapshot.recent.dropped == {"step": 4, "size": 6}
    assert snapshot.total.dropped == {"step": 7, "size": 6}


def test_before_ten_seconds_and_with_rare_snapshots_recent_is_as_long_as_there_are_any():
    counters = FrameCounters(0.0)
    counters.receive(1.0)
    early = counters.snapshot(2.0)
    assert (early.recent.received, early.recent_s) == (1, 2.0)
    late = counters.snapshot(62.0)
    assert (late.recent.received, late.recent_s) == (0, 60.0)


def test_words_are_those_of_the_latest_frame_that_was_dropped_for_a_reason():
    counters = FrameCounters(0.0)
    counters.drop("step", "a step of 1")
    counters.drop("step", "a step of 2")
    assert counters.snapshot(1.0).refusals == {"step": "a step of 2"}


def test_silence_counts_from_the_start_and_from_the_latest_frame_to_the_latest_look():
    counters = FrameCounters(10.0)
    assert counters.silence_s() == 0.0
    counters.look(13.0)
    assert counters.silence_s() == 3.0
    counters.receive(14.0)
    assert counters.silence_s() == 0.0
    counters.look(15.5)
    assert counters.silence_s() == 1.5


def test_node_that_does_not_look_knows_of_no_silence():
    """It is busy from 1 s on. At its next look a frame that has waited is there, or the silence was as long as that."""
    waited, silent = FrameCounters(0.0), FrameCounters(0.0)
    for counters in (waited, silent):
        counters.receive(1.0)
        assert counters.snapshot(500.0).total.received == 1
        assert counters.silence_s() == 0.0
    waited.receive(501.0)
    assert waited.silence_s() == 0.0
    silent.look(501.5)
    assert silent.silence_s() == 500.5


def test_percentiles_are_over_the_latest_frames():
    counters = FrameCounters(0.0)
    for value in [1000.0] * 50 + [float(v) for v in range(256)]:
        counters.answer({"inference": value})
    # the 50 slow first frames have left the window of 256; 0..255 has its median at 127.5, 95 % at 0.95 * 255
    assert counters.snapshot(1.0).percentiles_ms["inference"] == (127.5, pytest.approx(242.25))


def test_unknown_answers_are_counted_among_the_answers():
    counters = FrameCounters(now_s=0.0)
    for unknown in (False, True, True):
        counters.answer({"inference": 5.0}, unknown)
    snapshot = counters.snapshot(now_s=1.0)
    assert (snapshot.total.answered, snapshot.unknown) == (3, 2)


def test_harmless_oddities_are_counted_but_no_cause_for_alarm():
    counters = FrameCounters(0.0)
    assert counters.note("jpeg_warning", harmless=True) == 1
    assert counters.note("stamp_zero") == 1
    assert counters.note("jpeg_warning", harmless=True) == 2
    assert counters.note("stamp_clock", text="of another clock") == 1
    snapshot = counters.snapshot(1.0)
    recent = snapshot.recent
    assert snapshot.refusals["stamp_clock"] == "of another clock"
    assert recent.oddities == {"jpeg_warning": 2, "stamp_zero": 1, "stamp_clock": 1}
    assert recent.odd == {"stamp_zero": 1, "stamp_clock": 1}
