"""Owns: when a camera is said to show a file slowly. Oracle: hand arithmetic; the test's own time."""

from __future__ import annotations

import pytest

from cnn_perception.camera_node.pace import Pace


def said(rate_hz: float, published: list[int], elapsed_s: float = 1.0) -> list[str]:
    pace = Pace(rate_hz)
    return [pace.observe(elapsed_s, count) for count in published]


@pytest.mark.parametrize(("rate_hz", "found_hz"), [(30, 12), (30, 24), (10, 6), (1000, 700)])
def test_fewer_frames_than_are_due_are_told_with_both_rates(rate_hz: int, found_hz: int):
    found = said(rate_hz, [found_hz * second for second in range(1, 6)])
    assert found[0] == ""
    for text in found[1:]:
        assert f"publishes {found_hz} frames a second in place of {rate_hz}" in text.replace("1e+03", "1000")


@pytest.mark.parametrize("rate_hz", [0.2, 1, 5, 30])
def test_the_rate_with_a_frame_more_or_less_is_kept(rate_hz: float):
    on_time = [int(rate_hz * second) + 1 for second in range(60)]
    assert set(said(rate_hz, on_time)) == {""}
    assert set(said(rate_hz, [count - count % 2 for count in on_time])) == {""}


def test_a_slow_camera_is_told_as_well():
    found = said(1.0, [1 + second // 3 for second in range(40)])
    assert found[0] == ""
    assert "in place of 1:" in found[-1]


def test_before_the_first_frame_and_while_time_stands_still_none_is_due():
    assert set(said(30.0, [0] * 20)) == {""}
    assert set(said(30.0, [0, 0, 1, 1, 1], elapsed_s=0.0)) == {""}
    assert set(said(30.0, [1, 31, 61], elapsed_s=-5.0)) == {""}


def test_after_a_clock_was_set_back_it_is_judged_as_before():
    pace = Pace(30.0)
    found = [bool(pace.observe(*now)) for now in [(1.0, 30), (-1000.0, 60), (1.0, 70), (1.0, 80)]]
    assert found == [False, False, True, True]


def test_it_ends_where_the_rate_is_kept_again():
    pace = Pace(30.0)
    counts = [0, 10, 20, 30, 60, 90]
    assert [bool(pace.observe(1.0, count)) for count in counts] == [False, False, True, True, False, False]
