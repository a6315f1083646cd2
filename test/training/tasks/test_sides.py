"""Owns: which names mean something else in a mirror. Leaves to others: what follows from it (test_augment)."""

from __future__ import annotations

import pytest

from training.tasks.sides import sided


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["turn_left", "turn_right", "straight"], {"turn_left", "turn_right"}),
        (["LeftArrow", "stop"], {"LeftArrow"}),
        (["turnright", "KEEP RIGHT", "go"], {"turnright", "KEEP RIGHT"}),
        (["lane.l", "lane.r"], {"lane.l", "lane.r"}),
        (["Kurve links", "Kurve rechts"], {"Kurve links", "Kurve rechts"}),
        (["spin_cw", "spin_ccw", "still"], {"spin_cw", "spin_ccw"}),
        (["bright", "leftover", "upright", "copyright"], set()),
        (["links", "l", "vitamin r"], set()),  # web links: nothing here is the mirror image of another
        (["cat", "dog", "Steering wheel", "angle grinder"], set()),
        (["", "1", "_"], set()),
    ],
)
def test_classes_that_name_a_side_or_are_exchanged_in_a_mirror_are_sided(names, expected):
    assert set(sided(names, of_numbers=False)) == expected


def test_numbers_whose_sign_is_a_side_are_sided():
    names = ["angle", "steeringAngle", "yaw_rate", "throttle", "distance_left"]

    assert sided(names, of_numbers=True) == ("angle", "steeringAngle", "yaw_rate", "distance_left")
