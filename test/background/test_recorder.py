"""Owns: the bounds of what is recorded, and what becomes of frames when the disk fills up, hangs or the process dies.

Leaves to others: the thread (test_worker), what is kept (test_selection), and how it lies on the disk
(test_folder_store, test_bag_store). Oracles: hand arithmetic, Pillow, csv, rosbags.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT, files_of_at_most
from PIL import Image
from recording import SHA256, SPEC, TIMEOUT_S, Recording, packed, picture, prediction, raw, size, table
from tiny_model import regression_spec

from cnn_perception.background import recorder as recorder_module
from cnn_perception.background.selection import Origin
from cnn_perception.bag.reader import Bag
from cnn_perception.errors import ConfigError
from cnn_perception.image.messages import decode


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


def test_the_rate_is_bounded_for_each_camera(tmp_path):
    recording = Recording(tmp_path, max_rate_hz=0.001)
    taken = [recording.offer(raw(picture(i)), camera=camera) for i, camera in enumerate("abaab")]
    report = recording.close()

    assert taken == [True, True, False, False, False]
    assert [row["camera"] for row in table(tmp_path)] == ["a", "b"]
    assert report.lost == {"rate": 3, "paused": 0, "size": 0, "busy": 0}


def test_a_picture_that_no_file_holds_is_counted_and_the_next_one_is_kept(tmp_path):
    recording = Recording(tmp_path, max_rate_hz=1000.0)
    recording.offer(raw(np.zeros((1, 1_000_001, 3), np.uint8)), camera="a")
    recording.offer(raw(picture(1)), camera="b")
    report = recording.close()

    assert (report.recorded, report.lost["size"], report.problem) == (1, 1, "")


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
@pytest.mark.parametrize("count", [0, 1])
def test_a_folder_that_cannot_be_written_is_said_before_any_frame_and_the_rest_goes_on(tmp_path, kind, count):
    (tmp_path / "file").write_text("no folder")
    recording = Recording(tmp_path / "file" / "frames", format=kind)
    for _ in range(count):
        recording.offer(raw(picture()))
    report = recording.close()

    assert recording.said == [
        f"{tmp_path}/file/frames: cannot be written (Not a directory); check the folder and its permissions"
    ]
    assert (report.problem, report.lost["paused"]) == (recording.said[0], count)


@pytest.mark.parametrize("in_its_place", ["file", "dangling link"])
def test_what_is_no_folder_is_said_once_in_the_same_words_at_the_start_and_with_a_frame(tmp_path, in_its_place):
    folder = tmp_path / "frames"
    folder.write_text("mine") if in_its_place == "file" else folder.symlink_to(tmp_path / "gone" / "folder")
    recording = Recording(folder)
    recording.offer(raw(picture()))
    recording.close()

    (said,) = recording.said
    assert "cannot be written" in said


def test_the_folder_is_measured_anew_with_the_first_frame(tmp_path):
    earlier = tmp_path / "earlier.bin"
    earlier.write_bytes(bytes(100_000))
    recording = Recording(tmp_path, max_mb=0.1)
    deadline = time.monotonic() + TIMEOUT_S
    while not recording.said:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    earlier.unlink()
    recording.offer(raw(picture()))
    report = recording.close()

    assert (report.recorded, report.lost["paused"], report.problem) == (1, 0, "")
    assert report.folder_bytes == size(tmp_path)


def test_a_folder_that_is_full_is_said_before_any_frame(tmp_path):
    (tmp_path / "earlier.bin").write_bytes(bytes(100_000))
    recording = Recording(tmp_path, max_mb=0.1)

    assert recording.close().problem == f"{tmp_path}: 0.1 MB are full; move frames elsewhere"
    assert [path.name for path in tmp_path.iterdir()] == ["earlier.bin"]


def test_a_folder_that_can_be_written_after_all_is_used_with_the_first_frame(tmp_path):
    (tmp_path / "frames").write_text("no folder")
    recording = Recording(tmp_path / "frames")
    deadline = time.monotonic() + TIMEOUT_S
    while not recording.said:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    (tmp_path / "frames").unlink()
    recording.offer(raw(picture()))
    report = recording.close()

    assert (report.recorded, report.lost["paused"], report.problem) == (1, 0, "")


def test_an_image_is_on_the_disk_before_its_row_is_written(tmp_path, monkeypatch):
    flushed = []
    fsync = os.fsync

    def noting(descriptor):
        name = Path(f"/proc/self/fd/{descriptor}").readlink()
        flushed.append((name, (tmp_path / SHA256[:12] / "frames.csv").exists()))
        fsync(descriptor)

    recording = Recording(tmp_path)
    monkeypatch.setattr(os, "fsync", noting)
    recording.offer(raw(picture()))
    recording.close()

    (image,) = tmp_path.rglob("*.png")
    assert flushed == [(image, False)]


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
