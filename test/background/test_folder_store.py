"""Owns: images and the table that people label, as they lie on the disk. Leaves to others: bags, bounds, faults.

Oracles: Pillow, csv, and training itself.
"""

from __future__ import annotations

import csv
import itertools
import os

import numpy as np
import pytest
from PIL import Image
from recording import SHA256, SPEC, SURE, Recording, packed, picture, prediction, raw, size, table
from tiny_model import as_multilabel, with_unknown

pytest.importorskip("torch", reason="needs what training needs")

from tiny_run import command_line

from cnn_perception.background import folder_store
from cnn_perception.errors import DataError
from cnn_perception.image.messages import decode
from cnn_perception.label_table import states_of
from cnn_perception.label_text import NONE_OF_THESE
from training.data.load import load_images
from training.data_set import table as data_set
from training.data_set.columns import (
    CAMERA,
    CLASS,
    CLASSES,
    DOUBT,
    GUESS,
    MODEL,
    PATH,
    REASON,
    STAMP,
    STATE,
    TOPIC,
)  # fmt: skip
from training.train import main


def test_an_unsure_frame_becomes_an_image_and_a_row_and_a_sure_one_nothing(tmp_path):
    recording = Recording(tmp_path)
    pixels = picture()
    assert not recording.offer(raw(pixels), prediction(SURE))
    assert not list(tmp_path.glob("*/*"))

    assert recording.offer(raw(pixels), camera="front", frame_id="with, comma")
    report = recording.close()

    assert table(tmp_path) == [
        {
            "path": "front/5000000007.png", "class": "", "state": "", "stamp_ns": "5000000007", "camera": "front",
            "topic": "/front/image_raw", "frame_id": "with, comma", "reason": "margin", "answer": "ants",
            "guess": "ants", "doubt": "0.875000", "margin": "0.125000", "model": SHA256,
            "score ants": "0.500000", "score bees": "0.375000", "score wasps": "0.125000",
        }
    ]  # fmt: skip
    with Image.open(tmp_path / SHA256[:12] / "front" / "5000000007.png") as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)
    assert (report.recorded, report.folder_bytes, report.problem) == (1, size(tmp_path), "")
    assert report.values()["recorded"] == "1"


def test_an_unknown_frame_is_listed_as_such_with_its_scores(tmp_path):
    recording = Recording(tmp_path, with_unknown(SPEC, 0.0))
    recording.offer(raw(picture()), prediction(SURE, unknown=True), camera="")
    recording.close()

    (row,) = table(tmp_path)
    assert (row["path"], row["camera"], row["reason"]) == ("camera/5000000007.png", "", "unknown")
    assert (row["answer"], row["score ants"]) == ("unknown", "0.750000")
    assert (row["guess"], row["doubt"]) == (NONE_OF_THESE, "1.000000")


def test_jpeg_and_png_are_kept_byte_by_byte_and_the_rest_as_it_was_seen(tmp_path):
    pixels = picture()
    recording = Recording(tmp_path)
    kept = {"j": packed(pixels), "p": packed(pixels, "PNG", "rgb8; png compressed bgr8")}
    seen = {
        "b": packed(pixels, "BMP", "bmp"),
        "w": packed(pixels, "WEBP", "webp"),
        "m": packed(pixels[..., 0], "PNG", "bayer_rggb8; png compressed "),  # grey to whoever does not know the format
    }
    for camera, encoded in (kept | seen).items():
        recording.offer(encoded, camera=camera)
    recording.close()

    folder = tmp_path / SHA256[:12]
    assert [row["path"].partition("/")[2] for row in table(tmp_path)] == ["5000000007.jpg", *["5000000007.png"] * 4]
    assert (folder / "j" / "5000000007.jpg").read_bytes() == kept["j"].data
    assert (folder / "p" / "5000000007.png").read_bytes() == kept["p"].data
    for camera, encoded in seen.items():
        with Image.open(folder / camera / "5000000007.png") as image:
            np.testing.assert_array_equal(np.asarray(image), decode(encoded))


def test_equal_stamps_do_not_overwrite_each_other(tmp_path):
    recording = Recording(tmp_path)
    for seed in range(3):
        recording.offer(raw(picture(seed)), camera="front", stamp_ns=0)
    recording.close()

    paths = [row["path"] for row in table(tmp_path)]
    assert len(set(paths)) == 3
    for seed, path in enumerate(paths):
        with Image.open(tmp_path / SHA256[:12] / path) as image:
            np.testing.assert_array_equal(np.asarray(image), picture(seed))


def label(file, classes, **options):
    """What a human does in a spreadsheet; `options` are those of the program that saves it."""
    with file.open(newline="") as text:
        rows = list(csv.DictReader(text))
    for row, name in zip(rows, itertools.cycle(classes), strict=False):
        row["class"] = row["class"] or name
    with file.open("w", newline="", encoding=options.pop("encoding", "utf-8")) as text:
        writer = csv.DictWriter(text, rows[0], **options)
        writer.writeheader()
        writer.writerows(rows)


def test_the_table_trains_a_model_once_the_classes_are_filled_in(tmp_path):
    recording = Recording(tmp_path / "frames")
    for seed in range(24):
        recording.offer(packed(picture(seed)), camera="front", stamp_ns=seed)
    recording.close()
    file = tmp_path / "frames" / SHA256[:12] / "frames.csv"
    with pytest.raises(DataError, match=r"frames\.csv: none of its 24 rows has a label yet"):
        load_images(file)

    label(file, ("moths", "bees", "", NONE_OF_THESE))

    found = load_images(file)
    assert (found.class_names, len(found.samples), len(found.outside)) == (("bees", "moths"), 12, 6)
    assert main(command_line(file, tmp_path / "run", epochs=1)) == 0


def test_the_table_is_one_that_people_label_with_the_program_for_it(tmp_path):
    recording = Recording(tmp_path, with_unknown(SPEC, 0.0))
    for seed in range(8):
        recording.offer(packed(picture(seed)), camera="front", stamp_ns=seed)
    recording.close()
    file = tmp_path / SHA256[:12] / "frames.csv"
    found = data_set.read(file)
    about = {PATH, CLASS, STATE, STAMP, CAMERA, TOPIC, REASON, GUESS, DOUBT, MODEL}
    assert about <= {*found.header}
    assert {*states_of(found.rows, [CLASS])} == {""}

    for row, name in enumerate(("ants", "bees") * 3):
        found = found.changed(row, {CLASS: name, STATE: "labelled"})
    found.changed(6, {CLASS: "ants"}).write()  # begun, and not confirmed

    data = load_images(file)
    assert len(data.samples) == 6
    assert data.sources[0].unlabelled == 2


def test_several_classes_are_never_taken_for_labelled_before_they_are(tmp_path):
    spec = as_multilabel(SPEC, 0.5, 0.5, 0.5)
    recording = Recording(tmp_path, spec)
    for seed in range(12):
        scores = (0.75, 0.625, 0.25) if seed % 2 else (0.25, 0.375, 0.5)
        found = prediction(scores, task="multilabel", thresholds=np.float32([0.5, 0.5, 0.5]))
        recording.offer(packed(picture(seed)), found, camera="front", stamp_ns=seed)
    recording.close()
    file = tmp_path / SHA256[:12] / "frames.csv"
    with pytest.raises(DataError, match="none of its 12 rows has a label yet"):
        load_images(file)

    found = data_set.read(file)
    for row, guess in enumerate(row["guess"] for row in found.rows[:10]):  # once a human has confirmed the answers
        found = found.changed(row, {CLASSES: guess, STATE: "labelled"})
    found.changed(10, {CLASSES: NONE_OF_THESE, STATE: "labelled"}).write()

    data = load_images(file)
    assert data.class_names == ("ants", "bees", "wasps")
    assert [sample.values for sample in data.samples[:2]] == [(0, 0, 1), (1, 1, 0)]
    assert [sample.values for sample in data.samples[10:]] == [(0, 0, 0)]


@pytest.mark.parametrize(
    "program",
    [
        {"lineterminator": "\n"},
        {"lineterminator": "\r\n", "encoding": "utf-8-sig", "quoting": csv.QUOTE_ALL},
        {"lineterminator": "\n", "without_last": True},
    ],
    ids=["unix", "spreadsheet", "without_last_newline"],
)
def test_the_next_session_continues_a_table_that_was_labelled_meanwhile(tmp_path, program):
    first = Recording(tmp_path)
    first.offer(raw(picture(0)), stamp_ns=1)
    first.close()
    file = tmp_path / SHA256[:12] / "frames.csv"
    without_last = program.pop("without_last", False)
    label(file, ["moths"], **program)
    if without_last:
        file.write_bytes(file.read_bytes()[:-1])

    second = Recording(tmp_path)
    second.offer(raw(picture(1)), stamp_ns=2)
    second.close()

    with file.open(newline="", encoding="utf-8-sig") as text:
        rows = list(csv.DictReader(text))
    assert [row["stamp_ns"] for row in rows] == ["1", "2"]
    assert rows[0]["class"] == "moths"
    assert None not in rows[1].values()


def test_a_table_whose_columns_were_changed_is_left_alone(tmp_path):
    first = Recording(tmp_path)
    first.offer(raw(picture(0)))
    first.close()
    file = tmp_path / SHA256[:12] / "frames.csv"
    file.write_text(file.read_text().replace("path,class", "path,part,class"))
    before = file.read_bytes()

    for stamp_ns in (1, 2):
        other = Recording(tmp_path)
        other.offer(raw(picture(1)), stamp_ns=stamp_ns)
        other.close()

    assert file.read_bytes() == before
    assert [row["stamp_ns"] for row in table(tmp_path, f"{SHA256[:12]}-2")] == ["1", "2"]


@pytest.mark.parametrize("target", ["file", "nothing"])
def test_links_that_others_put_there_are_not_written_through(tmp_path, target):
    other = tmp_path / "other" / "mine"
    other.parent.mkdir()
    if target == "file":
        other.write_text("mine")
    folder = tmp_path / "recorded" / SHA256[:12]
    (folder / "camera").mkdir(parents=True)
    (folder / "camera" / "1.png").symlink_to(other)
    (folder / "frames.csv").symlink_to(other.with_name("nothing"))
    recording = Recording(tmp_path / "recorded")
    recording.offer(raw(picture()), stamp_ns=1)
    assert recording.close().recorded == 1
    assert [path.read_text() for path in other.parent.iterdir()] == ["mine"] * (target == "file")


def test_a_table_whose_columns_are_changed_while_the_image_is_stored_is_left_alone(tmp_path, monkeypatch):
    def changed(_descriptor):
        (tmp_path / SHA256[:12] / "frames.csv").write_text("mine,alone\n")
        monkeypatch.setattr(os, "fsync", lambda _: None)

    monkeypatch.setattr(os, "fsync", changed)
    recording = Recording(tmp_path)
    recording.offer(raw(picture()), camera="front")
    report = recording.close()

    assert (report.recorded, report.folder_bytes) == (1, size(tmp_path) - len("mine,alone\n"))
    assert (tmp_path / SHA256[:12] / "frames.csv").read_text() == "mine,alone\n"
    assert not list((tmp_path / SHA256[:12]).rglob("*.png"))
    (row,) = table(tmp_path, f"{SHA256[:12]}-2")
    assert (tmp_path / f"{SHA256[:12]}-2" / row["path"]).is_file()


def test_a_name_that_another_recorder_takes_at_that_moment_stays_its(tmp_path, monkeypatch):
    free_path = folder_store._free_path

    def taken(folder, name):
        monkeypatch.setattr(folder_store, "_free_path", free_path)
        folder.mkdir(parents=True)
        (folder / name).write_text("theirs")
        return folder / name

    monkeypatch.setattr(folder_store, "_free_path", taken)
    recording = Recording(tmp_path)
    recording.offer(raw(picture()), camera="front", stamp_ns=7)
    recording.close()

    front = tmp_path / SHA256[:12] / "front"
    assert (front / "7.png").read_text() == "theirs"
    (row,) = table(tmp_path)
    assert (front.parent / row["path"]).is_file()
    assert row["path"] != "front/7.png"
