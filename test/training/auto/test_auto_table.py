"""Owns: which candidate is better, which are worth having. Leaves to others: where the answers come from."""

from __future__ import annotations

import csv
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from cnn_perception.intervals import Estimate
from training.auto import table
from training.auto.table import Line
from training.baselines.rows import Cost, Row
from training.data.records import Sample
from training.report import figures


@dataclass(frozen=True)
class Meaning:
    class_names = ("a", "b")
    task = "multiclass"
    units = ()
    scaling = ()


def row(name, right, first=0, ms=1.0):
    """A candidate that answers images of class a, from the first on, rightly or not."""
    samples = tuple(Sample(Path(f"{number}.png"), 0, "train") for number in range(first, first + len(right)))
    outputs = np.array([(1.0, 0.0) if one else (0.0, 1.0) for one in right], np.float32)
    return Row(name, True, "", None, Cost(1.0, ms, 1), samples, outputs, Meaning())


def line(name, score, ms, **more):
    estimate = None if score is None else Estimate(score, score - 0.1, score + 0.1)
    return Line(name, "none", "5 of 5", estimate, 100, ms, 1.0, 10.0, more.pop("ended", ""), **more)


def test_front_is_what_no_other_one_beats_in_both():
    lines = [
        line("fast", 0.7, 1.0),
        line("good", 0.9, 5.0),
        line("as good and slower", 0.9, 6.0),
        line("slow and bad", 0.6, 7.0),
        line("as fast and worse", 0.5, 1.0),
        line("not tried", None, 0.1),
        line("not timed", 0.99, None),
        line("no network", 0.99, 0.1, deployable=False),
    ]

    assert table.front(lines) == {"fast", "good"}


def test_candidates_are_compared_on_the_images_that_both_answered():
    all_folds = row("one", [1, 1, 1, 0, 0, 0])
    two_folds = row("other", [1, 1, 0])  # 2 of 3, the other one 3 of 3 of these

    assert two_folds.score.value > all_folds.score.value
    assert not table.better(two_folds, all_folds)
    assert table.better(all_folds, two_folds)


def test_of_equally_good_ones_the_faster_is_better():
    assert table.better(row("one", [1, 0], ms=1.0), row("other", [0, 1], ms=2.0))
    assert not table.better(row("one", [1, 0], ms=2.0), row("other", [0, 1], ms=1.0))


@pytest.mark.parametrize(("lost", "is_worse"), [(5, False), (6, True)])
def test_worse_is_what_the_sign_test_says(lost, is_worse):
    """Of 5 images that differ, all to one side, chance is 2/32 = 0.0625; of 6 it is 0.031."""
    best = row("best", [1] * 20)
    ours = row("ours", [0] * lost + [1] * (20 - lost))

    assert table.is_worse(ours, best) == is_worse
    assert not table.is_worse(best, ours)


def test_what_answered_other_images_is_not_called_worse():
    assert not table.is_worse(row("ours", [0] * 9), row("best", [1] * 9, first=100))


def test_table_tells_what_was_chosen_and_why_others_ended():
    lines = [line("fast", 0.7, 1.0), line("good", 0.9, 5.0), line("late", None, None, ended="no time")]

    heading, first, second, third, *_ = table.in_words(lines, "top-1 accuracy", "good")

    assert "top-1 accuracy" in heading
    assert first.split()[0] == "fast"
    assert "front" in first
    assert "0.900 (0.800-1.000)" in second
    assert "chosen" in second
    assert third.endswith("no time")


def test_csv_and_picture_are_left(tmp_path):
    lines = [line("fast $x$", 0.7, 1.0), line("good", 0.9, 5.0), line("late", None, None, ended="no time")]

    table.write(tmp_path, lines, "top-1 accuracy")
    table.draw(tmp_path, lines, "top-1 accuracy", "good", 7.0)

    rows = list(csv.DictReader((tmp_path / "auto.csv").open()))
    assert [(one["candidate"], one["score"], one["front"]) for one in rows] == [
        ("fast $x$", "0.7", "yes"), ("good", "0.9", "yes"), ("late", "", "")
    ]  # fmt: skip
    assert {one["metric"] for one in rows} == {"top-1 accuracy"}
    assert (tmp_path / "accuracy_latency.png").read_bytes().startswith(b"\x89PNG")


CROWD = [
    figures.Point(name, ms, Estimate(score, score - reach, score + reach), name == "b, fast", name == "c, chosen")
    for name, ms, score, reach in (
        ("a network of the same time", 0.06, 0.975, 0.012), ("b, fast", 0.06, 0.987, 0.008),
        ("c, chosen", 0.13, 0.992, 0.006), ("d, nearly as fast as the chosen one", 0.132, 0.988, 0.007),
        ("e", 0.226, 0.990, 0.006), ("a network with a longer name", 0.226, 0.989, 0.006),
        ("the slowest", 2.0, 0.985, 0.007),
    )
]  # fmt: skip
"""Times and scores as a search finds them: the same network twice, the intervals overlapping."""


def places_of(figure):
    """Where the points are drawn, in pixels, by their order from left to right."""
    lines = [container[0] for container in figure.axes[0].containers]
    return sorted(tuple(line.get_transform().transform(line.get_xydata())[0]) for line in lines)


@pytest.mark.parametrize("points", [CROWD, CROWD[:1], CROWD[1:3]], ids=["crowd", "one", "two"])
def test_names_in_the_picture_lie_on_nothing_and_are_not_cut_off(points):
    figure = figures._over_latency(points, "top-1 accuracy", 0.5)
    figure.draw_without_rendering()
    (axis,) = figure.axes

    names = [text for text in axis.texts if text.get_text()]
    boxes = [Text.get_window_extent(text) for text in names]

    assert sorted(text.get_text() for text in names) == sorted(point.name for point in points)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert not any(box.contains(*place) for box in boxes for place in places_of(figure))
    for box in boxes:
        assert axis.bbox.x0 <= box.x0
        assert box.x1 <= axis.bbox.x1


def test_intervals_of_points_of_one_time_stand_beside_each_other():
    figure = figures._over_latency(CROWD, "top-1 accuracy", None)
    figure.draw_without_rendering()

    columns = [x for x, _ in places_of(figure)]

    assert len(columns) == len(CROWD)
    assert min(np.diff(columns)) > 8


def test_the_picture_says_what_its_axes_are_and_times_as_plain_numbers():
    figure = figures._over_latency(CROWD, "top-1 accuracy", None)
    figure.draw_without_rendering()
    (axis,) = figure.axes

    assert axis.get_xlabel() == "latency of an image, ms"
    assert axis.get_ylabel() == "top-1 accuracy, cross-validated, 95 % intervals"
    ticks = [label.get_text() for label in axis.get_xticklabels()]
    assert {"0.05", "0.1", "0.2", "1"} <= set(ticks)


def test_lines_are_kept_as_plain_values():
    for one in (line("fast", 0.7, 1.0), line("late", None, None, ended="no time")):
        assert Line.of_json(one.as_json()) == one
