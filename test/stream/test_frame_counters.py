"""Owns: rates, drop counts and percentiles of a camera's frames. Oracle: hand arithmetic."""

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
    assert (second.received, second.answered) == (31, 10)


def test_missed_frames_are_no_refusals():
    counters = FrameCounters(0.0)
    counters.miss(3)
    assert counters.drop("encoding") == 1
    assert counters.drop("encoding") == 2
    first, second = counters.snapshot(1.0), counters.snapshot(2.0)
    assert first.dropped == {"missed": 3, "encoding": 2}
    assert (first.received, first.recently_refused, second.recently_refused) == (3, 2, 0)


def test_frames_that_met_a_defect_are_refusals_and_counted_apart():
    counters = FrameCounters(0.0)
    counters.drop("encoding")
    counters.drop("defect")
    first, second = counters.snapshot(1.0), counters.snapshot(2.0)
    assert first.dropped == {"encoding": 1, "defect": 1}
    assert (first.recently_refused, first.recently_broken) == (2, 1)
    assert (second.recently_refused, second.recently_broken) == (0, 0)


def test_silence_counts_from_the_start_and_from_the_latest_frame():
    counters = FrameCounters(10.0)
    assert counters.silence_s(13.0) == 3.0
    counters.receive(14.0)
    assert counters.silence_s(15.5) == 1.5


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
    assert (snapshot.answered, snapshot.unknown) == (3, 2)


def test_harmless_oddities_are_counted_but_no_cause_for_alarm():
    counters = FrameCounters(0.0)
    assert counters.note("jpeg_warning", harmless=True) == 1
    assert counters.note("stamp_zero") == 1
    assert counters.note("jpeg_warning", harmless=True) == 2
    first, second = counters.snapshot(1.0), counters.snapshot(2.0)
    assert first.oddities == {"jpeg_warning": 2, "stamp_zero": 1}
    assert (first.recently_odd, second.recently_odd) == (1, 0)
