"""Owns: copies with other labels, outliers, blur, darkness, overexposure. Leaves to others: labels, what is written."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_images import scene

from training.data.load import DataOptions, list_images
from training.data.records import ImageFinding
from training.label_errors.checks import copies, unusual
from training.label_errors.checks.copies import ALIKE, MIRRORED, NEAREST, SAME
from training.label_errors.examination import prepare
from training.label_errors.features import by_hand
from training.label_errors.measures import Measured, measure, measure_all, of_stamp


def photos(root, count=40):
    """Folders a and b of different pictures."""
    for number in range(count):
        folder = root / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(number)).save(folder / f"{number:02}.png")
    return root


def measured(root):
    listing = list_images(root, DataOptions())
    return listing, list(measure_all([sample.path for sample in listing.samples]))


def names(listing, findings):
    return {listing.samples[one.row].path.name: one for one in findings}


def test_copies_with_another_label_are_found_both_and_by_how(tmp_path):
    root = photos(tmp_path / "d")
    Image.open(root / "a" / "00.png").save(root / "b" / "same.png", compress_level=1)
    Image.open(root / "a" / "02.png").save(root / "b" / "near.jpg", quality=60)
    Image.open(root / "a" / "04.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(root / "b" / "mirrored.png")
    Image.open(root / "a" / "06.png").save(root / "a" / "agrees.png", compress_level=1)

    listing, found = measured(root)
    findings = names(listing, copies.with_other_labels(listing, copies.find(found, np.zeros((len(found), 1)))))

    assert findings.keys() == {"00.png", "same.png", "02.png", "near.jpg", "04.png", "mirrored.png"}
    for pair, how in ((("00.png", "same.png"), SAME), (("02.png", "near.jpg"), ALIKE),
                      (("04.png", "mirrored.png"), MIRRORED)):  # fmt: skip
        one, other = (findings[name] for name in pair)
        assert (one.guess, other.guess) == ("b", "a")
        assert one.text.startswith(how)
        assert one.other.name == pair[1]
    assert findings["same.png"].doubt == 1.0 > findings["near.jpg"].doubt


def test_of_three_copies_the_one_that_is_outvoted_is_found_alone(tmp_path):
    root = photos(tmp_path / "d")
    Image.open(root / "a" / "00.png").save(root / "a" / "agrees.png", compress_level=1)
    Image.open(root / "a" / "00.png").save(root / "b" / "differs.png", compress_level=1)

    listing, found = measured(root)
    findings = names(listing, copies.with_other_labels(listing, copies.find(found, np.zeros((len(found), 1)))))

    assert findings.keys() == {"differs.png"}
    assert findings["differs.png"].guess == "a"


def test_images_that_are_one_to_the_network_alone_are_copies_too():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 4)) * 10
    features[7] = features[21] + 0.01

    pairs = copies.find([], features)

    assert pairs[NEAREST].tolist() == [[7, 21]]


def test_copies_of_images_with_numbers_may_differ(prepared):
    listing = dataclasses.replace(prepared.listing, task="regression", class_names=("angle",), units=("",))
    samples = tuple(dataclasses.replace(one, values=(float(row),)) for row, one in enumerate(listing.samples))

    assert copies.with_other_labels(listing.keep(samples), {SAME: np.array([[0, 1]])}) == []


def test_an_image_of_something_else_is_an_outlier(digits, tmp_path):
    for path in digits.rglob("*.png"):
        there = tmp_path / "d" / path.relative_to(digits)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(path.read_bytes())
    Image.fromarray(scene(3, 32, 32)).save(tmp_path / "d" / "7" / "photo.png")

    found = prepare(list_images(tmp_path / "d", DataOptions()), by_hand)
    findings = sorted(unusual.outliers(found.features), key=lambda one: -one.doubt)

    assert found.listing.samples[findings[0].row].path.name == "photo.png"
    assert findings[0].doubt <= 0.5
    assert findings[0].guess == ""
    assert len(findings) <= 5


def test_distance_ratios_by_hand():
    """Twenty-one directions one degree apart and one far away: distances are chords, 2 sin(angle / 2)."""
    degrees = np.array([*range(21), 110.0])
    lengths = np.linspace(1, 9, 22)  # which do not count
    features = lengths[:, None] * np.stack([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))], axis=1)

    ratios = unusual.distance_ratios(features)

    def chord(angle):
        return 2 * np.sin(np.deg2rad(angle) / 2)

    middle = np.mean([chord(angle) for angle in (1, 1, 2, 2, 3, 3, 4, 4, 5, 5)])
    away = np.mean([chord(90 + nearer) for nearer in range(10)])
    assert ratios[21] / ratios[10] == pytest.approx(away / middle)
    assert np.median(ratios) == pytest.approx(1)
    assert max(unusual.outliers(features), key=lambda one: one.doubt).row == 21


def test_images_that_are_all_the_same_stand_out_in_nothing():
    assert unusual.outliers(np.zeros((50, 3))) == []
    assert unusual.modified_z(np.full(50, 3.0)).tolist() == [0.0] * 50


def test_blurred_dark_and_overexposed_images_are_found_and_no_others(tmp_path):
    root = photos(tmp_path / "d")
    sharp = [np.asarray(Image.open(root / "a" / f"{number:02}.png")) for number in range(0, 40, 2)]
    rng = np.random.default_rng(0)
    for number, image in enumerate(sharp):  # a photograph has fine detail, which blur takes away
        detailed = np.clip(image + rng.normal(0, 25, image.shape), 0, 255).astype(np.uint8)
        Image.fromarray(detailed).save(root / "a" / f"{2 * number:02}.png")
    for path in sorted((root / "b").iterdir()):
        image = np.asarray(Image.open(path))
        Image.fromarray(np.clip(image + rng.normal(0, 25, image.shape), 0, 255).astype(np.uint8)).save(path)
    image = np.asarray(Image.open(root / "a" / "00.png")).astype(np.float64)
    Image.fromarray(cv2.GaussianBlur(image, (0, 0), 5).astype(np.uint8)).save(root / "a" / "blurred.png")
    Image.fromarray((image * 0.1).astype(np.uint8)).save(root / "a" / "dark.png")
    Image.fromarray(np.clip(image * 0.1 + 232, 0, 255).astype(np.uint8)).save(root / "b" / "bright.png")

    listing, found = measured(root)
    findings = names(listing, unusual.poor_pictures(found))

    assert {name: one.kind for name, one in findings.items()} == {
        "blurred.png": "blurred", "dark.png": "dark", "bright.png": "bright",
    }  # fmt: skip
    assert all(0 <= one.doubt <= 0.5 for one in findings.values())


def test_measures_of_one_picture_by_hand(tmp_path):
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :10] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")

    one = measure(tmp_path / "a.png")

    assert isinstance(one, Measured)
    assert one.numbers["brightness"] == pytest.approx(255 / 4)
    assert one.numbers["contrast"] == pytest.approx(255 * np.sqrt(3) / 4)
    assert (one.numbers["pixels"], one.numbers["aspect"]) == (800, 2)
    assert (one.black, one.white) == (0.75, 0.25)
    assert one.words == {"file type": "PNG", "camera": ""}
    assert np.isnan(one.numbers["JPEG quality"])


@pytest.mark.parametrize("quality", [25, 50, 75, 95])
def test_quality_of_a_jpeg_is_the_one_that_it_was_written_with(quality, tmp_path):
    Image.fromarray(scene(1)).save(tmp_path / "a.jpg", quality=quality)

    assert measure(tmp_path / "a.jpg").numbers["JPEG quality"] == pytest.approx(quality, abs=2)


def test_camera_and_time_are_those_of_the_exif(tmp_path):
    exif = Image.Exif()
    exif[0x0110] = "Left camera"
    exif.get_ifd(0x8769)[0x9003] = "2026:11:26 13:45:00"
    Image.fromarray(scene(1)).save(tmp_path / "a.jpg", exif=exif)

    one = measure(tmp_path / "a.jpg")

    assert one.words["camera"] == "Left camera"
    assert one.numbers["time of day"] == 13.75


@pytest.mark.parametrize("stamp", ["", "soon", "9" * 40, "-1e9"])
def test_a_stamp_that_is_none_says_nothing(stamp):
    assert of_stamp(stamp) == {}


def test_a_damaged_image_is_left_out_with_its_reason(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")

    found = measure(tmp_path / "a.png")

    assert isinstance(found, ImageFinding)
    assert found.action == "left out"
    assert isinstance(measure(tmp_path / "gone.png"), ImageFinding)
