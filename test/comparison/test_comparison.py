"""Owns: what is compared, task by task, in all frames and in parts. Oracle: hand arithmetic.

Leaves to others: intervals (test_difference), sentences (test_verdict), where frames come from (test_baseline).
"""

from __future__ import annotations

import dataclasses
import math

import pytest
from compared import answer, frame, frames, image

from cnn_perception.comparison import compare
from cnn_perception.errors import DataError
from cnn_perception.image.appearance import Appearance
from cnn_perception.label_text import NONE_OF_THESE
from cnn_perception.model.spec import UNKNOWN

MANY = {
    ("red", "red", "red"): 60,
    ("red", "red", "blue"): 20,
    ("blue", "red", "blue"): 5,
    ("blue", "red", "red"): 15,
}
"""100 frames of one class an image: 80 right before, 65 now; 20 newly wrong, 5 newly right."""


def test_right_answers_are_counted_frame_by_frame():
    found = compare(frames(MANY, image), ("red", "blue"))

    assert (found.frames, found.bags, found.points) == (100, 1, "points")
    assert (found.headline.theirs, found.headline.ours) == (0.8, 0.65)
    assert found.headline.difference.value == pytest.approx(-0.15)
    assert (len(found.lost), len(found.gained)) == (20, 5)
    assert {one.frame.truth for one in found.lost} == {"red"}
    assert [one.frame.index for one in found.gained] == list(range(80, 85))
    assert found.measures == ()
    assert found.verdict.change == "worse"


def test_images_of_a_folder_are_independent_and_frames_of_a_bag_are_not():
    """The twenty that are newly wrong follow each other, as if it were one junction."""
    of_folder = compare(frames(MANY, image), ("red", "blue"))
    of_bag = compare(frames(MANY), ("red", "blue"))
    folder = of_folder.headline.difference
    bag = of_bag.headline.difference

    assert (of_folder.verdict.change, of_bag.verdict.change) == ("worse", "not shown")
    assert (folder.unit, folder.block, folder.units) == ("frame", 1, 100)
    assert bag.unit == "time"
    assert bag.block > 1
    assert bag.high - bag.low > folder.high - folder.low


def test_with_an_unknown_rule_the_answer_counts_and_the_best_class_is_beside_it():
    unsure = answer(UNKNOWN, "red")
    rows = [frame(index, "red", "red", unsure if index < 8 else "red") for index in range(40)]
    rows += [frame(40, "blue", "red", answer(UNKNOWN, "blue"))]

    found = compare(rows, ("red", "blue"))

    assert found.headline.name == "right answers, by the unknown rule"
    assert (found.headline.theirs, found.headline.ours) == (40 / 41, 32 / 41)
    without = found.measures[0]
    assert without.name == "right answers, without that rule"
    assert (without.theirs, without.ours) == (40 / 41, 1.0)
    assert len(found.lost) == 8


def test_unknown_is_right_for_what_is_none_of_the_classes():
    rows = [frame(index, NONE_OF_THESE, "red", answer(UNKNOWN, "red")) for index in range(10)]

    found = compare(rows, ("red", "blue"))

    assert (found.headline.theirs, found.headline.ours) == (0.0, 1.0)


def test_several_classes_are_right_if_all_are_and_each_by_itself():
    both, one, none = frozenset({"person", "box"}), frozenset({"person"}), frozenset[str]()
    rows = [frame(0, both, both, one), frame(1, one, one, one), frame(2, none, one, none), frame(3, one, both, both)]

    found = compare(rows, ("person", "box"))

    assert (found.headline.name, found.headline.theirs, found.headline.ours) == ("exactly the right classes", 0.5, 0.5)
    figures = {one.name: (one.theirs, one.ours) for one in found.measures}
    assert figures == {"right about person": (0.75, 1.0), "right about box": (0.75, 0.5)}
    parts = {part.name: part.measure.difference.frames for part in found.slices if part.kind == "class"}
    assert parts == {"person": 3, "box": 1}


def test_numbers_are_compared_by_their_absolute_errors():
    """Errors of x: 1, 3 before, 2, 2 now; of y: 10, 0 before, 5, 15 now."""
    rows = [frame(0, (0.0, 0.0), (1.0, -10.0), (2.0, 5.0)), frame(1, (5.0, 1.0), (2.0, 1.0), (7.0, 16.0))]

    found = compare(rows, ("x", "y"), ("m", "deg"))

    x, y = found.measures
    assert (x.name, x.unit, x.scale, x.theirs, x.ours, x.difference.value) == ("error of x", "m", "error", 2, 2, 0)
    assert (y.unit, y.theirs, y.ours, y.difference.value) == ("deg", 5, 10, -5)
    assert (found.headline.scale, found.headline.theirs) == ("part", 1.0)
    assert found.headline.ours == pytest.approx((1 + 2) / 2)  # of each number as a part of the baseline's error
    assert found.points == "% of the baseline's error"
    assert [one.frame.index for one in found.lost] == [1]


def test_beside_a_perfect_baseline_the_whole_error_is_a_loss():
    rows = [frame(index, (1.0,), (1.0,), (1.0 + index % 2,)) for index in range(40)]

    found = compare(rows, ("x",), ("",))

    assert found.headline.difference.value == pytest.approx(-1.0)
    assert found.measures[0].ours == 0.5


@pytest.mark.parametrize("odd", [math.nan, math.inf, None])
def test_numbers_that_are_none_are_left_out_and_said(odd: float | None):
    rows = [frame(index, (1.0,), (1.5,), (1.25,)) for index in range(20)]
    bad = answer(None) if odd is None else (odd,)

    found = compare([*rows, frame(20, (1.0,), bad, (1.0,)), frame(21, (1.0,), (1.0,), bad)], ("x",))

    assert (found.frames, found.left_out) == (20, ("2 frames that one of the models could not answer",))


def test_a_class_that_one_model_could_not_answer_is_wrong_and_of_neither_left_out():
    rows = [frame(index, "red", "red", answer(None)) for index in range(10)]

    found = compare([*rows, frame(10, "red", answer(None), answer(None))], ("red", "blue"))

    assert (found.headline.theirs, found.headline.ours) == (1.0, 0.0)
    assert found.left_out == ("1 frames that neither model could answer",)


@pytest.mark.parametrize("rows", [[], [frame(0, "red", answer(None), answer(None))]])
def test_nothing_to_compare_is_said(rows):
    with pytest.raises(DataError, match="nothing to compare"):
        compare(rows, ("red", "blue"))


@pytest.mark.parametrize("make", [frame, image])
@pytest.mark.parametrize("answers", [("red", "red"), ("red", "blue"), ("blue", "red"), ("blue", "blue")])
def test_a_single_frame_shows_nothing(make, answers):
    found = compare([make(0, "red", *answers)], ("red", "blue"))

    assert found.verdict.change == "not shown"
    assert not found.verdict.fails("pass")
    assert found.verdict.fails("fail")


def test_models_that_answer_alike_are_neither_better_nor_worse():
    found = compare(frames({("red", "red", "red"): 50, ("red", "blue", "blue"): 50}), ("red", "blue"))

    assert found.verdict.change == "not shown"
    assert (found.lost, found.gained) == ((), ())
    assert found.headline.difference.detectable > 0


def test_the_order_of_the_frames_does_not_matter():
    rows = frames(MANY)

    assert compare(rows[::-1], ("red", "blue")) == compare(rows, ("red", "blue"))


def of_two_bags() -> list:
    """Of two drives with two cameras: only in the second, by the left one, and in the dark, the model is worse."""
    rows = []
    for index in range(400):
        bag = f"drive {index // 200 + 1}"
        is_dark = index % 40 < 10
        is_left = index % 2 == 0
        is_worse = bag == "drive 2" and is_dark and is_left
        look = Appearance(0.1 if is_dark else 0.6, 5.0 + index % 7)
        topic = "/left" if is_left else "/right"
        rows.append(frame(index, "red", "red", "blue" if is_worse else "red", bag=bag, topic=topic, look=look))
    return rows


def test_parts_are_recordings_cameras_looks_and_classes():
    found = compare(of_two_bags(), ("red", "blue"))

    parts = {(part.kind, part.name): part.measure for part in found.slices}
    counts = {}
    for key, one in parts.items():
        counts[key] = (one.difference.frames, round(one.difference.value * one.difference.frames))
    assert counts[("bag", "drive 1")] == (200, 0)
    assert counts[("bag", "drive 2")] == (200, -25)
    assert counts[("topic", "/left")] == (200, -25)
    assert counts[("topic", "/right")] == (200, 0)
    assert counts[("picture", "darkest quarter: brightness up to 0.1")] == (100, -25)
    assert counts[("class", "red")] == (400, -25)
    assert [kind for kind, name in counts if name.startswith("most blurred")] == ["picture"]
    assert found.bags == 2


def test_the_largest_loss_comes_first_and_proof_is_corrected_for_the_number_of_parts():
    found = compare(of_two_bags(), ("red", "blue"))

    first = found.slices[0]
    assert (first.name, first.change, first.is_loss_proven) == ("darkest quarter: brightness up to 0.1", "worse", True)
    assert all(part.chance >= part.measure.difference.chance for part in found.slices)
    assert first.chance == pytest.approx(len(found.slices) * first.measure.difference.chance)


def test_pictures_that_are_all_alike_or_unseen_have_no_darkest_quarter():
    alike = [dataclasses.replace(one, look=Appearance(0.5, 3.0)) for one in frames(MANY)]

    for rows in (alike, frames(MANY)):
        assert {part.kind for part in compare(rows, ("red", "blue")).slices} == {"class"}


def test_ten_recordings_are_drawn_as_wholes():
    rows = [
        frame(index, "red", "red", "blue" if index % 9 == 0 else "red", bag=f"{index % 10}") for index in range(300)
    ]

    assert compare(rows, ("red", "blue")).headline.difference.unit == "bag"
    assert compare(rows, ("red", "blue"), independent="time").headline.difference.unit == "time"
    assert compare(rows[:9], ("red", "blue")).headline.difference.unit == "time"


def test_one_recording_of_many_that_changed_proves_nothing():
    """All 30 frames of one of 12 recordings are newly wrong: that may be a matter of this one."""
    rows = [frame(index, "red", "red", "blue" if index < 30 else "red", bag=f"{index // 30}") for index in range(360)]

    assert compare(rows, ("red", "blue")).verdict.change == "not shown"


def test_a_loss_that_is_allowed_is_a_share():
    found = compare(frames(MANY, image), ("red", "blue"), max_loss=0.5)

    assert (found.verdict.change, found.verdict.is_loss_proven) == ("worse", False)
    assert found.verdict.is_loss_ruled_out
