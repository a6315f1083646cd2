"""Owns: numbers drawn over time and against each other. Oracle: hand arithmetic on the pictures' coordinates."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cnn_perception.evaluation import plots
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.pages.rendering import render
from cnn_perception.tasks.prediction import Prediction


def numbers(index: int, time_s: float, true: float | None, found: float) -> FrameRecord:
    nothing = np.empty(0, np.float32)
    answer = Prediction(
        ("speed",), nothing, 0, None, nothing, task="regression", values=np.array([found], np.float32), units=("",)
    )
    return FrameRecord(index, "", 0, time_s, None if true is None else (true,), prediction=answer)


def drawn(plot: plots.Series | plots.Scatter | plots.Strips | None) -> str:
    return "" if plot is None else render("cnn_perception.evaluation", plot.template, part=plot)


def render_series(records: list[FrameRecord], index: int, unit: str) -> str:
    return drawn(plots.series(records, index, "speed", unit))


def render_scatter(records: list[FrameRecord], index: int) -> str:
    return drawn(plots.scatter(records, index, "speed"))


def points(svg: str) -> list[np.ndarray]:
    """(n, 2) coordinates of each line."""
    lines = re.findall(r'<polyline points="([^"]+)"', svg)
    return [np.array(line.replace(",", " ").split(), float).reshape(-1, 2) for line in lines]


def test_a_number_is_drawn_at_its_time_and_height():
    records = [numbers(0, 5.0, 0.0, 1.0), numbers(1, 6.0, 0.0, 0.0), numbers(2, 7.0, 0.0, 0.5)]

    true, found = points(render_series(records, 0, "m/s"))

    assert found[:, 0] == pytest.approx([96, 546, 996])
    assert np.ptp(true[:, 1]) == 0
    # the picture's 180 pixels are the range with 3 % more at both ends
    assert found[1, 1] - found[:, 1] == pytest.approx(np.array([1.0, 0.0, 0.5]) * 180 / 1.06, abs=0.1)
    assert true[0, 1] == found[1, 1]


def test_a_stretch_without_truth_interrupts_its_line_only():
    truths = [0.0, 1.0, None, 1.0, 0.0]
    records = [numbers(index, index, true, 0.5) for index, true in enumerate(truths)]

    assert [len(line) for line in points(render_series(records, 0, ""))] == [2, 2, 5]


def test_of_a_long_recording_each_point_is_the_mean_of_its_column():
    records = [numbers(index, index / 100, float(index % 2), 0.5) for index in range(60_000)]

    true, found = points(render_series(records, 0, ""))

    assert len(true) == len(found) == 600
    assert np.ptp(true[:, 1]) < 1.0  # alternating 0 and 1 is one half
    assert true[:, 1] == pytest.approx(found[:, 1], abs=1.0)
    assert render_scatter(records, 0).count("<circle") <= 2000


def test_equal_numbers_lie_on_the_diagonal():
    svg = render_scatter([numbers(0, 0, 1.0, 1.0), numbers(1, 0, 3.0, 3.0), numbers(2, 0, 1.0, 3.0)], 0)

    found = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([^"]+)" cy="([^"]+)"', svg)]
    assert [x - 60 == pytest.approx(310 - y) for x, y in found] == [True, True, False]
    assert found[2] == (found[0][0], found[1][1])


def test_what_cannot_be_drawn_is_left_out():
    assert render_series([numbers(0, 0, 1.0, 1.0)], 0, "") == ""
    assert render_scatter([numbers(0, 0, None, 1.0)], 0) == ""
    assert "<polyline" in render_series([numbers(0, 0, None, 1.0), numbers(1, 1, None, 1.0)], 0, "")  # constant


def test_a_class_is_drawn_where_it_was_seen_missed_or_seen_by_mistake():
    def frame(time_s: float, truth: frozenset[str] | None, score: float) -> FrameRecord:
        scores = np.array([score, 0.0], np.float32)
        least = np.array([0.5, 0.5], np.float32)
        answer = Prediction(("ant", "bee"), scores, 0, None, scores[:0], task="multilabel", thresholds=least)
        return FrameRecord(0, "", 0, time_s, truth, prediction=answer)

    there = frozenset({"ant"})
    absent = frozenset[str]()
    kinds = [(there, 0.9), (there, 0.1), (absent, 0.9), (absent, 0.1), (None, 0.9)]
    records = [frame(time_s, *kinds[time_s // 2]) for time_s in range(2 * len(kinds))]

    svg = drawn(plots.presence(records, ("ant", "bee")))

    assert re.findall("<title>(.*?)</title>", svg) == ["seen", "missed", "seen by mistake", "seen, unlabelled"]
    assert ">ant</text>" in svg
    assert ">bee</text>" not in svg
