"""Owns: which candidate is better, which are worth having. Leaves to others: where the answers come from."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cnn_perception.intervals import Estimate
from training.auto import table
from training.auto.table import Line
from training.baselines.rows import Cost, Row
from training.data.records import Sample


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


def test_lines_are_kept_as_plain_values():
    for one in (line("fast", 0.7, 1.0), line("late", None, None, ended="no time")):
        assert Line.of_json(one.as_json()) == one
