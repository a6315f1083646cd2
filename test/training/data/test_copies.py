"""Owns: which pictures count as crops and mirror images of others. Leaves to others: what is done about it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from paths import SHARED_DATA
from PIL import Image, ImageEnhance, ImageOps
from tiny_images import scene, write_folder

from cnn_perception.errors import EXIT_OK
from training.check import main
from training.data import copies
from training.data.copies import fingerprint, same_share
from training.data.load import load_images


def collage(seed: int, height: int = 240, width: int = 320) -> np.ndarray:
    """A picture full of corners: no two are alike."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), rng.integers(60, 200, 3), np.uint8)
    for _ in range(60):
        corners = rng.integers(0, (width, height), 2) + rng.integers(-40, 40, (5, 2))
        cv2.fillPoly(pixels, [corners.astype(np.int32)], [int(value) for value in rng.integers(20, 195, 3)])
    return pixels


def cropped(image: Image.Image, share: float, at: tuple[float, float] = (0.5, 0.5)) -> Image.Image:
    width, height = (round(share * side) for side in image.size)
    left, top = round(at[0] * (image.width - width)), round(at[1] * (image.height - height))
    return image.crop((left, top, left + width, top + height))


def encoded(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


CHANGES = {
    "mirrored": ImageOps.mirror,
    "cropped to 80 %": lambda image: cropped(image, 0.8),
    "cropped to 70 %": lambda image: cropped(image, 0.7, (0.1, 0.9)),
    "cropped and enlarged": lambda image: cropped(image, 0.7, (1, 0)).resize(image.size),
    "a side cut off": lambda image: image.crop((0, 0, round(0.75 * image.width), image.height)),
    "cropped and mirrored": lambda image: ImageOps.mirror(cropped(image, 0.8)),
    "brightened": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "re-encoded": lambda image: encoded(image, 40),
    "halved": lambda image: image.resize((image.width // 2, image.height // 2)),
}


def leaks(folder: Path, findings: Path) -> dict[str, tuple[str, str]]:
    """What `training.check` says to be a copy across parts: by the copy's name, of which file, and what it is."""
    assert main(["--data", str(folder), "--csv", str(findings)]) == EXIT_OK
    if not findings.exists():
        return {}
    rows = [row for row in csv.DictReader(findings.open()) if " across parts of " in row["reason"]]
    told = [(Path(row["path"]).stem, *row["reason"].partition(" across parts of ")[::2]) for row in rows]
    return {name: (Path(where.rpartition(" in ")[0]).stem, kind) for name, kind, where in told}


def plant(folder: Path, originals: list[Path], change: str) -> None:
    """Puts changed copies of training images into val, under names that give their origin away."""
    for path in originals:
        copy = CHANGES[change](Image.open(path).convert("RGB"))
        copy.save(folder / "val" / path.parent.name / f"copy_{path.stem}.jpg", quality=90)


@pytest.fixture(scope="module")
def collages(tmp_path_factory):
    root = tmp_path_factory.mktemp("collages")
    for number in range(40):
        place = root / ("val" if number >= 24 else "train") / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(collage(number)).save(place / f"{number:03}.png")
    return root


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_in_another_part_is_found_and_named(change, collages, tmp_path):
    originals = sorted(collages.glob("train/*/*.png"))[::3]
    plant(collages, originals, change)
    try:
        found = leaks(collages, tmp_path / "findings.csv")
    finally:
        for path in collages.glob("val/*/copy_*"):
            path.unlink()

    assert {copy: of for copy, (of, _) in found.items()} == {f"copy_{path.stem}": path.stem for path in originals}
    kinds = {kind for _, kind in found.values()}
    assert all("mirrored" in kind for kind in kinds) == ("mirrored" in change)
    assert all("cropped" in kind for kind in kinds) == (change.startswith("cropped") or "cut off" in change)


def test_of_photographs_every_planted_copy_is_found_and_nothing_else(tmp_path):
    photos = sorted((SHARED_DATA / "hymenoptera").rglob("*.jpg"))
    if not photos:
        pytest.skip("the hymenoptera data set is not here")
    data = tmp_path / "data"
    for path in photos:
        link = data / path.relative_to(SHARED_DATA / "hymenoptera")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    train = sorted(data.glob("train/*/*.jpg"))
    groups = dict(zip(CHANGES, np.random.default_rng(0).permutation(len(train))[:72].reshape(-1, 8), strict=True))
    for change, rows in groups.items():
        plant(data, [train[row] for row in rows], change)

    found = leaks(data, tmp_path / "findings.csv")

    for change, rows in groups.items():
        missed = [train[row].stem for row in rows if found.get(f"copy_{train[row].stem}", ("",))[0] != train[row].stem]
        assert missed == [], change
    assert len(found) == 72


def test_small_pictures_are_found_mirrored(tmp_path):
    data = write_folder(tmp_path / "d" / "train", {"a": 6, "b": 6})
    write_folder(tmp_path / "d" / "val", {"a": 3, "b": 3}, first_seed=500)
    image = Image.open(data / "a" / "02.png").convert("RGB")
    ImageOps.mirror(image).save(tmp_path / "d" / "val" / "a" / "turned.png")

    assert leaks(tmp_path / "d", tmp_path / "f.csv") == {"turned": ("02", "mirrored copy")}


def test_an_image_and_its_crop_are_held_out_together(tmp_path, capsys):
    for number in range(30):
        place = tmp_path / "d" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(collage(number))
        image.save(place / f"{number:03}.png")
        cropped(image, 0.75).save(place / f"{number:03}_zoom.png")

    assert leaks(tmp_path / "d", tmp_path / "f.csv") == {}
    assert "30 images: cropped copy" in capsys.readouterr().out


def test_where_there_are_too_many_images_for_crops_to_be_looked_for_it_is_said(tmp_path, monkeypatch):
    root = tmp_path / "d"
    for number in range(12):
        (root / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(number, 60, 80)).save(root / "ab"[number % 2] / f"{number}.png")
    assert not any("cropped copies" in warning for warning in load_images(root).warnings)
    monkeypatch.setattr(copies, "MAX_IMAGES", 11)
    (said,) = [warning for warning in load_images(root).warnings if "cropped copies" in warning]
    assert said.startswith("cropped copies are not looked for among more than 11 images, and there are 12")


def test_one_thing_in_two_photographs_is_no_copy():
    """The same object pasted on two grounds: its corners agree, the pictures do not."""
    sticker = collage(7, 120, 120)
    one, other = collage(1), collage(2)
    one[60:180, 100:220] = sticker
    other[40:160, 60:180] = sticker
    prints = [fingerprint(one), fingerprint(other)]
    assert len(copies.candidates(prints)) > 0

    none = np.empty((0, 2), np.int64)
    found = copies.find(prints, none, np.arange(2), ["train", "val"], lambda row: [one, other][row])

    assert found == []


def test_one_sign_drawn_on_different_grounds_is_no_copy():
    def drawn(seed):
        rng = np.random.default_rng(seed)
        ground = Image.fromarray(rng.integers(0, 80, (8, 8, 3), dtype=np.uint8)).resize((64, 64))
        pixels = np.array(ground)
        x, y, size = (int(value) for value in rng.integers((26, 28, 12), (34, 36, 16)))
        cv2.fillPoly(pixels, [np.array([(x - size, y), (x, y - size), (x, y + size)])], (250, 240, 30))
        cv2.rectangle(pixels, (x, y - 4), (x + 2 * size, y + 4), (250, 240, 30), -1)
        return pixels

    pictures = [drawn(seed) for seed in range(24)]
    prints = [fingerprint(picture) for picture in pictures]
    assert len(copies.candidates(prints)) > 20

    none = np.empty((0, 2), np.int64)
    assert copies.find(prints, none, np.arange(24), ["train"] * 24, lambda row: pictures[row]) == []


def test_the_share_that_a_crop_keeps_is_measured():
    image = copies.compared(collage(3))
    crop = np.ascontiguousarray(image[20:180, 30:230])
    shift = np.array([[1.0, 0.0, -30.0], [0.0, 1.0, -20.0]])

    assert same_share(image, crop, shift) == pytest.approx(crop.size / image.size, abs=0.02)
    assert same_share(image, copies.compared(collage(4)), np.eye(2, 3)) is None


def test_frames_of_a_recording_are_said_to_be_one(tmp_path, capsys):
    wide = collage(11, 240, 900)
    for frame in range(60):
        place = tmp_path / "d" / "ab"[frame % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(wide[:, 2 * frame : 2 * frame + 320]).save(place / f"{frame}.png")

    leaks(tmp_path / "d", tmp_path / "f.csv")

    said = capsys.readouterr().out
    assert "as the frames of a recording are: hold out its end with --split tail" in said
    assert main(["--data", str(tmp_path / "d"), "--split", "tail"]) == EXIT_OK
    assert "as the frames of a recording" not in capsys.readouterr().out
