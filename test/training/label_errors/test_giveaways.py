"""Owns: which properties of pictures give their labels away. Leaves to others: how they are measured."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest
from PIL import Image
from tiny_images import scene

from training.data.load import DataOptions, list_images
from training.label_errors.checks import giveaways
from training.label_errors.measures import measure_all

COUNT = 60


def found_in(root, cells=()):
    listing = list_images(root, DataOptions())
    measured = list(measure_all([sample.path for sample in listing.samples]))
    return {one.name: one for one in giveaways.find(listing, measured, list(cells), 0)}


def write(root, seed=0, brighter=0, quality=None):
    """Two classes of random pictures; those of b are brighter, or stored in another quality."""
    rng = np.random.default_rng(seed)
    for number in range(COUNT):
        name = "ab"[number % 2]
        (root / name).mkdir(parents=True, exist_ok=True)
        image = scene(number, 60, 80).astype(np.int64) // 2 + 50 + rng.integers(-5, 6)
        image = np.clip(image + brighter * (name == "b"), 0, 255).astype(np.uint8)
        stored = quality[number % 2] if quality else 80
        Image.fromarray(image).save(root / name / f"{number:02}.jpg", quality=stored)
    return root


def test_brightness_that_tells_the_classes_is_far_above_chance(tmp_path):
    found = found_in(write(tmp_path / "d", brighter=60))["brightness"]

    assert found.is_far
    assert found.told.value > 0.9
    assert found.told.low <= found.told.value <= found.told.high
    assert found.chance == 0.5


def test_nothing_is_far_above_chance_where_nothing_is_planted(tmp_path):
    found = found_in(write(tmp_path / "d"))

    assert [one.name for one in found.values() if one.is_far] == []
    assert {"brightness", "contrast", "sharpness"} <= found.keys()
    assert "pixels" not in found  # they do not differ


def test_shuffled_labels_hide_a_shortcut(tmp_path):
    root = write(tmp_path / "d", brighter=60)
    listing = list_images(root, DataOptions())
    labels = np.random.default_rng(3).permutation([sample.label for sample in listing.samples])
    samples = (dataclasses.replace(one, label=int(k)) for one, k in zip(listing.samples, labels, strict=True))
    shuffled = listing.keep(tuple(samples))

    found = giveaways.find(shuffled, list(measure_all([one.path for one in shuffled.samples])), [], 0)

    assert [one.name for one in found if one.is_far] == []


def test_quality_of_the_files_tells_the_classes(tmp_path):
    found = found_in(write(tmp_path / "d", quality=(60, 90)))

    assert found["JPEG quality"].is_far
    assert found["JPEG quality"].told.value == 1.0


def test_camera_and_time_of_a_table_tell_the_classes(tmp_path):
    root = write(tmp_path / "d")
    rows = [
        (path.relative_to(tmp_path), path.parent.name, f"camera {path.parent.name}", hour * 3600 * 10**9)
        for path in sorted(root.rglob("*.jpg"))
        for hour in [6 if path.parent.name == "a" else 20]
    ]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "class", "camera", "stamp_ns"), *rows])
    cells = [dict(zip(("path", "class", "camera", "stamp_ns"), map(str, row), strict=True)) for row in rows]

    found = found_in(tmp_path / "labels.csv", cells)

    assert {name for name, one in found.items() if one.is_far} == {"camera", "time of day", "date"}


def test_group_that_is_of_one_class_gives_it_away(prepared):
    samples = tuple(
        dataclasses.replace(one, group=f"bag {one.path.parent.name}{row % 2}")
        for row, one in enumerate(prepared.listing.samples)
    )

    found = giveaways.find(prepared.listing.keep(samples), prepared.measured, [], 0)

    assert found[0].name == "group"
    assert found[0].told.value == 1.0


def test_each_class_of_several_and_each_number_is_asked_for_itself(prepared):
    brightness = [one.numbers["brightness"] for one in prepared.measured]
    middle = float(np.median(brightness))
    rng = np.random.default_rng(0)
    marks = [(float(value > middle), float(rng.random() > 0.5)) for value in brightness]
    several = tuple(
        dataclasses.replace(one, label=0, values=values)
        for one, values in zip(prepared.listing.samples, marks, strict=True)
    )
    listing = dataclasses.replace(prepared.listing, task="multilabel", class_names=("light", "chance"), samples=several)
    numbers = tuple(
        dataclasses.replace(one, values=(2 * value,)) for one, value in zip(several, brightness, strict=True)
    )
    regression = dataclasses.replace(listing, task="regression", class_names=("lux",), units=("lx",), samples=numbers)

    of_classes = {(one.name, one.of): one for one in giveaways.find(listing, prepared.measured, [], 0)}
    of_numbers = {(one.name, one.of): one for one in giveaways.find(regression, prepared.measured, [], 0)}

    assert of_classes["brightness", "light"].told.value > 0.95
    assert not of_classes["brightness", "chance"].is_far
    assert of_numbers["brightness", "lux"].is_far
    assert of_numbers["brightness", "lux"].chance == 0.0


@pytest.mark.parametrize("of_b", [1, 4])
def test_classes_of_hardly_any_image_are_not_asked_for(of_b, prepared):
    samples = tuple(dataclasses.replace(one, label=int(row < of_b)) for row, one in enumerate(prepared.listing.samples))

    assert giveaways.find(prepared.listing.keep(samples), prepared.measured, [], 0) == []
