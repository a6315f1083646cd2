"""Owns: which frames are kept, how they lie on the disk, their bounds, and what becomes of them when things go wrong.

Leaves to others: the thread (test_worker). Oracles: hand arithmetic, Pillow, csv, rosbags, and training itself.
"""

from __future__ import annotations

import csv
import itertools
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from paths import ROOT, files_of_at_most
from PIL import Image
from recording import SHA256, SPEC, SURE, TIMEOUT_S, UNSURE, Recording, packed, picture, prediction, raw, settings
from rosbags.rosbag2 import Reader
from tiny_bag import TYPES
from tiny_model import as_multilabel, regression_spec, with_unknown
from tiny_run import command_line

from cnn_perception.background import recorder as recorder_module
from cnn_perception.background.selection import Origin, reason
from cnn_perception.bag.reader import Bag
from cnn_perception.errors import ConfigError, DataError
from cnn_perception.image.messages import EncodedImage, decode
from cnn_perception.tasks import task_of
from training.data.load import load_images
from training.train import main


def table(folder, name=SHA256[:12]):
    with (folder / name / "frames.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (prediction((0.5, 0.375, 0.125)), 0.125),
        (prediction((0.125, 0.75, 0.125)), 0.625),
        (prediction((0.25, 0.25, 0.5)), 0.25),
        (prediction((0.5, 0.5, 0.0)), 0.0),
        (prediction((0.875, 0.125), names=("a", "b"), task="multilabel", thresholds=np.float32([0.5, 0.25])), 0.125),
        (prediction((0.75,), names=("a",), task="multilabel", thresholds=np.float32([0.25])), 0.5),
    ],
)
def test_the_margin_is_the_distance_to_another_answer(found, expected):
    assert task_of(found.task).margin(found) == expected


@pytest.mark.parametrize(
    ("found", "changes", "expected"),
    [
        (prediction(UNSURE), {}, "margin"),
        (prediction(UNSURE), {"margin": 0.125}, None),  # less, not equal
        (prediction(SURE), {}, None),
        (prediction(SURE, unknown=True), {}, "unknown"),
        (prediction(UNSURE, unknown=True), {"unknown": False}, None),
        (prediction(UNSURE), {"margin": 0.0}, None),
    ],
)
def test_unsure_is_a_small_margin_or_unknown(tmp_path, found, changes, expected):
    assert reason(found, settings(tmp_path, **changes)) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"margin": -0.1}, "margin is -0.1; choose 0 to 1"),
        ({"margin": 1.1}, "margin is 1.1"),
        ({"margin": math.nan}, "margin is nan"),
        ({"margin": 0.0, "unknown": False}, "margin is 0 and unknown frames are not wanted"),
        *(
            ({name: value}, f"{name} is {value}")
            for name in ("max_mb", "max_rate_hz")
            for value in (0.0, -1.0, math.inf)
        ),
        ({"max_mb": math.nan}, "max_mb is nan"),
    ],
)
def test_nonsense_settings_are_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        settings(tmp_path, **changes)


@pytest.mark.parametrize(
    ("spec", "changes", "message"),
    [
        (regression_spec({"angle": "rad"}), {}, "a regression model has none"),
        (SPEC, {"margin": 0.0}, "the model has no unknown rule"),
    ],
)
def test_a_model_that_is_never_unsure_is_refused(tmp_path, spec, changes, message):
    with pytest.raises(ConfigError, match=message):
        Recording(tmp_path, spec, **changes)


def test_an_unsure_frame_becomes_an_image_and_a_row_and_a_sure_one_nothing(tmp_path):
    recording = Recording(tmp_path)
    pixels = picture()
    assert not recording.offer(raw(pixels), prediction(SURE))
    assert list(tmp_path.iterdir()) == []

    assert recording.offer(raw(pixels), camera="front", frame_id="with, comma")
    report = recording.close()

    assert table(tmp_path) == [
        {
            "path": "front/5000000007.png", "class": "", "stamp_ns": "5000000007", "camera": "front",
            "frame_id": "with, comma", "reason": "margin", "answer": "ants", "margin": "0.125000", "model": SHA256,
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
    with pytest.raises(DataError, match=r"frames\.csv, line 2, column 'class': is empty"):
        load_images(file)

    label(file, ("moths", "bees"))

    assert load_images(file).class_names == ("bees", "moths")
    assert main(command_line(file, tmp_path / "run", epochs=1)) == 0


def test_several_classes_are_never_taken_for_labelled_before_they_are(tmp_path):
    spec = as_multilabel(SPEC, 0.5, 0.5, 0.5)
    recording = Recording(tmp_path, spec)
    for seed in range(12):
        scores = (0.75, 0.625, 0.25) if seed % 2 else (0.25, 0.375, 0.5)
        found = prediction(scores, task="multilabel", thresholds=np.float32([0.5, 0.5, 0.5]))
        recording.offer(packed(picture(seed)), found, camera="front", stamp_ns=seed)
    recording.close()
    file = tmp_path / SHA256[:12] / "frames.csv"
    with pytest.raises(ConfigError, match="has no column 'class' or 'classes'"):
        load_images(file)

    file.write_text(file.read_text().replace(",answer,", ",classes,", 1))  # once a human has corrected the answers

    data = load_images(file)
    assert data.class_names == ("ants", "bees", "wasps")
    assert [sample.values for sample in data.samples[:2]] == [(0, 0, 1), (1, 1, 0)]


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


def test_the_rate_is_bounded_for_each_camera(tmp_path):
    recording = Recording(tmp_path, max_rate_hz=0.001)
    taken = [recording.offer(raw(picture(i)), camera=camera) for i, camera in enumerate("abaab")]
    report = recording.close()

    assert taken == [True, True, False, False, False]
    assert [row["camera"] for row in table(tmp_path)] == ["a", "b"]
    assert report.lost == {"rate": 3, "paused": 0, "busy": 0}


@pytest.mark.parametrize("kind", ["folder", "bag"])
def test_the_folder_never_exceeds_its_size_and_recording_goes_on_when_there_is_room(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(recorder_module, "RETRY_S", 0.0)
    tmp_path = tmp_path / "frames"
    tmp_path.mkdir()
    earlier = tmp_path / "earlier.bin"
    earlier.write_bytes(bytes(200_000))
    recording = Recording(tmp_path, format=kind, max_mb=0.4)
    pixels = picture(0, 50, 100)  # noise does not shrink: 15 kB
    for stamp_ns in range(20):
        recording.offer(raw(pixels), camera="front", stamp_ns=stamp_ns)
    full = recording.recorder.report()

    assert (full.recorded >= 6, full.lost["paused"] >= 7, full.recorded + full.lost["paused"]) == (True, True, 20)
    assert full.problem == f"{tmp_path}: 0.4 MB are full; move frames elsewhere"
    assert set(recording.said) == {full.problem}
    assert size(tmp_path) <= 400_000

    earlier.unlink()
    recording.offer(raw(pixels), camera="front", stamp_ns=21)
    again = recording.close()
    assert (again.recorded, again.problem) == (full.recorded + 1, "")
    assert size(tmp_path) <= again.folder_bytes <= 400_000


def test_a_paused_recorder_does_not_look_at_every_frame_whether_there_is_room(tmp_path):
    earlier = tmp_path / "earlier.bin"
    earlier.write_bytes(bytes(100_000))
    recording = Recording(tmp_path, max_mb=0.1)
    recording.offer(raw(picture()))
    earlier.unlink()
    recording.offer(raw(picture()))

    assert recording.close().lost["paused"] == 2
    assert len(recording.said) == 1


def test_a_full_disk_is_said_once_and_leaves_no_image_without_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder_module, "RETRY_S", 0.0)
    folder = tmp_path / SHA256[:12]
    folder.mkdir()
    (folder / "frames.csv").symlink_to("/dev/full")
    recording = Recording(tmp_path)
    for stamp_ns in range(3):
        recording.offer(raw(picture()), stamp_ns=stamp_ns)

    assert recording.said == [f"{tmp_path}: disk full; free some space"]
    assert recording.recorder.report().values()["recorder"] == recording.said[0]
    assert list(folder.rglob("*.png")) == []

    (folder / "frames.csv").unlink()
    recording.offer(raw(picture()), stamp_ns=4)
    report = recording.close()
    assert (report.recorded, report.problem) == (1, "")
    assert [row["stamp_ns"] for row in table(tmp_path)] == ["4"]


def test_a_row_that_fits_only_in_part_is_taken_back(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder_module, "RETRY_S", 0.0)
    recording = Recording(tmp_path)
    small = packed(picture(0, 3, 3))
    recording.offer(small, stamp_ns=1)
    recording.offer(small, stamp_ns=2, frame_id="x" * 900)
    file = tmp_path / SHA256[:12] / "frames.csv"
    before = file.read_bytes()
    assert len(small.data) < len(before)  # the image fits, the row does not
    with files_of_at_most(len(before) + 20):
        recording.offer(small, stamp_ns=3)

    assert recording.said == [f"{tmp_path}: disk full; free some space"]
    assert file.read_bytes() == before
    assert len(list(file.parent.rglob("*.jpg"))) == 2
    recording.close()


@pytest.mark.parametrize("kind", ["folder", "bag"])
def test_a_folder_that_cannot_be_written_is_said_and_the_rest_goes_on(tmp_path, kind):
    (tmp_path / "file").write_text("no folder")
    recording = Recording(tmp_path / "file" / "frames", format=kind)
    recording.offer(raw(picture()))
    recording.close()

    assert recording.said == [
        f"{tmp_path}/file/frames: cannot be written (Not a directory); check the folder and its permissions"
    ]


def test_a_disk_that_hangs_holds_nobody_up(tmp_path):
    folder = tmp_path / SHA256[:12]
    folder.mkdir()
    os.mkfifo(folder / "frames.csv")  # whoever opens it waits for a reader
    recording = Recording(tmp_path)
    origin = Origin("front", "/front/image_raw", 1, "")
    pixels = picture()
    for _ in range(5):
        assert recording.recorder.offer(raw(pixels), pixels, prediction(), origin)
    assert not recording.recorder.close(0.05)

    with (folder / "frames.csv").open("rb") as reader:
        assert recording.recorder.close(TIMEOUT_S)
        assert reader.read().startswith(b"path,class,")


KILLED = """
import sys, itertools
sys.path.insert(0, "test/support")
from pathlib import Path
from recording import Recording, picture, raw
recording = Recording(Path(sys.argv[1]), format=sys.argv[2], max_mb=100.0)
for number in itertools.count():
    recording.offer(raw(picture(number)), camera="front", stamp_ns=number)
    print(number, flush=True)
"""


def killed(folder, kind):
    """Records until it is killed in the midst of it; returns how many frames had been dealt with by then."""
    command = [sys.executable, "-c", KILLED, str(folder), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        for line in process.stdout:
            if line == "20\n":
                process.send_signal(signal.SIGKILL)
                break
        rest = process.stdout.read().splitlines()
    return 21 + len(rest)


def test_a_kill_leaves_a_usable_table_and_at_most_one_image_that_is_not_listed(tmp_path):
    count = killed(tmp_path, "folder")

    rows = table(tmp_path)
    assert len(rows) >= count
    for row in rows:
        with Image.open(tmp_path / SHA256[:12] / row["path"]) as image:
            np.testing.assert_array_equal(np.asarray(image), picture(int(row["stamp_ns"])))
    assert len(list(tmp_path.rglob("*.png"))) - len(rows) in (0, 1)


def test_a_kill_leaves_a_bag_with_every_frame_before_it(tmp_path):
    count = killed(tmp_path, "bag")

    (folder,) = tmp_path.iterdir()
    with Bag(folder) as bag:
        images = list(bag.images(bag.image_topic()))
        assert any("metadata.yaml" in line for line in bag.damage)
    assert len(images) >= count
    for number, image in enumerate(images):
        assert image.stamp_ns == number
        np.testing.assert_array_equal(decode(image.frame), picture(number))


def test_a_bag_holds_the_images_as_they_came_and_all_scores(tmp_path):
    pixels = picture(0, 20, 30)
    padded = EncodedImage(pixels.tobytes() + b"\7", "bgr8", 20, 30, 90, is_bigendian=True)
    jpeg = packed(pixels)
    recording = Recording(tmp_path, with_unknown(SPEC, 0.0), format="bag")
    before_ns = time.time_ns()
    recording.offer(padded, camera="front", stamp_ns=5_000_000_007)
    recording.offer(jpeg, prediction((0.125, 0.125, 0.75), unknown=True), camera="rear", stamp_ns=6_000_000_008)
    report = recording.close()

    (folder,) = tmp_path.iterdir()
    assert folder.name.endswith(f"Z_{SHA256[:12]}")
    with Reader(folder) as reader:
        found = [(c.topic, t, TYPES.deserialize_cdr(m, c.msgtype)) for c, t, m in reader.messages()]
    assert sorted(topic for topic, _, _ in found) == [
        "/front/image_raw", "/front/image_raw/classification", "/rear/image_raw", "/rear/image_raw/classification",
    ]  # fmt: skip
    assert all(before_ns <= time_ns <= time.time_ns() for _, time_ns, _ in found)
    messages = {topic: message for topic, _, message in found}
    image = messages["/front/image_raw"]
    assert (image.height, image.width, image.step, image.encoding, image.is_bigendian) == (20, 30, 90, "bgr8", 1)
    assert bytes(image.data) == padded.data
    assert (image.header.stamp.sec, image.header.stamp.nanosec, image.header.frame_id) == (5, 7, "optical")
    assert messages["/front/image_raw/classification"].header == image.header
    picked = messages["/rear/image_raw"]
    assert (bytes(picked.data), picked.format) == (jpeg.data, jpeg.format)
    answers = [
        [(r.class_id, r.score) for r in messages[f"/{c}/image_raw/classification"].results] for c in ("front", "rear")
    ]
    assert answers == [
        [("ants", 0.5), ("bees", 0.375), ("wasps", 0.125)],
        [("unknown", 1.0), ("wasps", 0.75), ("ants", 0.125), ("bees", 0.125)],
    ]
    assert (report.recorded, report.problem) == (2, "")
    assert SHA256 in (folder / "metadata.yaml").read_text()


def test_a_bag_on_a_full_disk_keeps_its_frames_and_the_next_begins_another(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder_module, "RETRY_S", 0.0)
    recording = Recording(tmp_path, format="bag")
    with files_of_at_most(100_000):
        for stamp_ns in range(6):
            recording.offer(raw(picture(stamp_ns, 60, 100)), camera="front", stamp_ns=stamp_ns)
            if recording.said:
                break
    kept = recording.recorder.report().recorded
    assert 3 <= kept <= 5
    assert recording.said == [f"{tmp_path}: cannot be written (File too large); check the folder and its permissions"]

    recording.offer(raw(picture()), camera="front", stamp_ns=7)
    report = recording.close()

    assert (report.recorded, report.problem) == (kept + 1, "")
    stamps = []
    for folder in sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime):
        with Bag(folder) as bag:
            stamps += [image.stamp_ns for image in bag.images(bag.image_topic())]
    assert sorted(stamps) == [*range(kept), 7]


def test_a_bag_that_never_got_a_frame_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder_module, "RETRY_S", 0.0)
    recording = Recording(tmp_path, format="bag")
    with files_of_at_most(10):
        recording.offer(raw(picture()))
        recording.offer(raw(picture()))
    recording.close()

    assert len(recording.said) == 1
    assert list(tmp_path.iterdir()) == []


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
