"""Owns: recordings become a data set: which frames, how their images are kept, and what the table says of them."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tiny_bag
from paths import ROOT
from PIL import Image
from scenes import scene, scenes, stamps
from tiny_bag import BOTH, SECOND, START_NS, flat, write_bag

from training.data.load import DataOptions, load_images


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@BOTH
def test_frames_of_either_storage_come_with_their_origin(tmp_path: Path, output: Path, collect, storage) -> None:
    bag = scenes(tmp_path / "drive", range(10), storage=storage)
    code, rows = collect("--bag", bag, "--gap", 0)

    assert code == 0
    assert stamps(rows) == list(range(10))
    assert list(rows[0]) == [
        "path", "class", "state", "part", "bag", "topic", "camera", "stamp_ns", "guess", "doubt", "reason", "cluster",
        "model",
    ]  # fmt: skip
    first = {"topic": "/front/image_raw", "camera": "front", "bag": "drive", "part": "train", "state": "", "class": ""}
    assert {name: rows[0][name] for name in first} == first
    assert rows[0]["path"] == f"images/drive/{START_NS}.png"
    for number, row in enumerate(rows):
        np.testing.assert_array_equal(pixels(output / row["path"]), scene(number))


def test_jpeg_and_png_are_kept_byte_by_byte(tmp_path: Path, output: Path, collect) -> None:
    kinds = ("jpeg", "png")
    messages = [
        (f"/{kind}/image/compressed", START_NS + n, tiny_bag.compressed(scene(n), START_NS + n, kind))
        for n, kind in enumerate(kinds)
    ]
    bag = write_bag(tmp_path / "drive", messages)
    _, rows = collect("--bag", bag, "--topic", "/jpeg/image/compressed", "/png/image/compressed")

    assert [row["path"] for row in rows] == [
        f"images/drive/jpeg/{START_NS}.jpg",
        f"images/drive/png/{START_NS + 1}.png",
    ]
    assert [row["camera"] for row in rows] == ["jpeg", "png"]
    for row, (_, _, message) in zip(rows, messages, strict=True):
        assert (output / row["path"]).read_bytes() == message.data.tobytes()


def test_camera_that_stands_still_gives_one_frame_and_one_that_moves_again_another(tmp_path: Path, collect) -> None:
    rng = np.random.default_rng(0)
    still = [np.clip(scene(1) + rng.normal(0, 3, (48, 64, 1)), 0, 255).astype(np.uint8) for _ in range(8)]
    frames = [*still, scene(2)]
    times = [START_NS + n * SECOND // 10 for n in range(9)]
    bag = write_bag(
        tmp_path / "drive", [("/image", t, tiny_bag.raw(frame, t)) for frame, t in zip(frames, times, strict=True)]
    )

    assert stamps(collect("--bag", bag)[1]) == [0, 8]


def test_every_frame_is_kept_where_the_least_distance_is_zero(tmp_path: Path, collect) -> None:
    bag = scenes(tmp_path / "drive", [1] * 5)
    _, rows = collect("--bag", bag, "--min-distance", 0, "--val-fraction", 0)

    assert len(rows) == 5  # the same pixels at other times


def test_a_second_run_adds_only_new_frames_and_leaves_labels_alone(
    tmp_path: Path, output: Path, collect, capsys
) -> None:
    bag = scenes(tmp_path / "drive", range(20))
    _, first = collect("--bag", bag, "--budget", 6, "--gap", 0)
    first[2] |= {"class": "ant", "state": "labelled"}
    with (output / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, first[0])
        writer.writeheader()
        writer.writerows(first)
    capsys.readouterr()
    code, rows = collect("--bag", bag, "--budget", 5, "--gap", 0)

    assert code == 0
    assert rows[:6] == first
    assert len(rows) == len(set(stamps(rows))) == 11
    assert "known      6 are in" in capsys.readouterr().out
    _, everything = collect("--bag", bag, "--gap", 0)
    assert sorted(stamps(everything)) == list(range(20))
    code, again = collect("--bag", bag)
    assert (code, again) == (0, everything)


def test_a_recording_that_was_moved_or_is_named_twice_adds_nothing(tmp_path: Path, collect) -> None:
    bag = scenes(tmp_path / "drive", range(6))
    storage_file = next(bag.glob("*.mcap"))
    _, rows = collect("--bag", bag, storage_file, "--gap", 0)
    assert len(rows) == 6

    shutil.move(bag, tmp_path / "elsewhere")
    assert collect("--bag", tmp_path / "elsewhere") == (0, rows)


def test_recordings_of_one_name_and_the_same_stamps_are_told_apart(tmp_path: Path, output: Path, collect) -> None:
    one = scenes(tmp_path / "monday" / "drive", range(4))
    other = scenes(tmp_path / "tuesday" / "drive", range(50, 54))
    _, rows = collect("--bag", one, other)

    assert {row["bag"] for row in rows} == {"monday_drive", "tuesday_drive"}
    assert {row["part"] for row in rows} == {"train", "val"}
    _, after = collect("--bag", scenes(tmp_path / "drive", range(100, 104)))
    assert len({row["path"] for row in after}) == len(after) == 12
    for number, row in zip([0, 1, 2, 3, 50, 51, 52, 53, 100, 101, 102, 103], after, strict=True):
        np.testing.assert_array_equal(pixels(output / row["path"]), scene(number))


def parts_of(rows, output: Path, numbers: range) -> Counter[str]:
    """How many of some scenes are in each part, told by their pixels."""
    known = {scene(number).tobytes() for number in numbers}
    return Counter(row["part"] for row in rows if pixels(output / row["path"]).tobytes() in known)


@pytest.mark.parametrize("is_moved", [False, True])
def test_a_recording_stays_in_its_part_whatever_it_is_called_later(
    tmp_path: Path, output: Path, collect, is_moved
) -> None:
    monday = scenes(tmp_path / "monday" / "drive", range(40))
    tuesday = scenes(tmp_path / "tuesday" / "drive", range(100, 140))
    _, before = collect("--bag", monday, tuesday, "--budget", 12)  # called monday_drive and tuesday_drive
    if is_moved:
        monday, tuesday = tuesday.rename(tmp_path / "one"), monday.rename(tmp_path / "other")
    for bag in (monday, tuesday):  # called drive, both of them, or otherwise
        _, rows = collect("--bag", bag, "--budget", 8)

    assert len(rows) == 28
    for numbers in (range(40), range(100, 140)):
        assert len(parts_of(rows, output, numbers)) == 1
        assert parts_of(rows, output, numbers).keys() == parts_of(before, output, numbers).keys()


def test_the_end_of_a_recording_stays_held_out_when_its_name_needs_more_of_its_path(
    tmp_path: Path, output: Path, collect
) -> None:
    monday = scenes(tmp_path / "monday" / "drive", range(40))
    collect("--bag", monday, "--budget", 10, "--gap", 0)  # called drive, its last eight are held out
    _, rows = collect("--bag", monday, scenes(tmp_path / "tuesday" / "drive", range(100, 140)), "--gap", 0)

    assert parts_of(rows, output, range(32)) == {"train": 32}
    assert parts_of(rows, output, range(32, 40)) == {"val": 8}
    assert parts_of(rows, output, range(100, 140)) == {"train": 40}


def test_a_clip_is_in_the_part_of_the_recording_that_it_was_cut_of(tmp_path: Path, output: Path, collect) -> None:
    clip = scenes(tmp_path / "clip", range(10, 20), start_s=1.0)
    drive, other = scenes(tmp_path / "drive", range(40)), scenes(tmp_path / "other", range(100, 130), start_s=86400)
    _, rows = collect("--bag", clip, drive, other)

    assert parts_of(rows, output, range(40)) == {"train": 40}
    assert parts_of(rows, output, range(100, 130)) == {"val": 30}


def test_a_moved_recording_stays_in_its_part_beside_another_one_of_its_old_name(
    tmp_path: Path, output: Path, collect
) -> None:
    first = scenes(tmp_path / "drive", range(40))
    other = scenes(tmp_path / "other", range(200, 260), start_s=3600)
    _, before = collect("--bag", first, other, "--budget", 10)
    first = first.rename(tmp_path / "moved")
    _, rows = collect("--bag", scenes(tmp_path / "drive", range(100, 140), start_s=86400), first)

    assert parts_of(rows, output, range(40)).keys() == parts_of(before, output, range(40)).keys() == {"val"}
    assert {row["bag"] for row in rows} == {"drive", "other", "drive_2"}


def test_another_recording_of_a_known_name_gets_a_name_and_a_part_of_its_own(
    tmp_path: Path, output: Path, collect
) -> None:
    collect("--bag", scenes(tmp_path / "drive", range(20)), "--val-fraction", 0)
    later = scenes(tmp_path / "later" / "drive", range(100, 110), start_s=86400)
    _, rows = collect("--bag", later)

    assert {row["bag"] for row in rows} == {"drive", "drive_2"}
    assert parts_of(rows, output, range(20)) == {"train": 20}
    assert parts_of(rows, output, range(100, 110)) == {"val": 10}


def test_images_with_stamps_of_zero_are_all_kept(tmp_path: Path, output: Path, collect) -> None:
    messages = [("/image", START_NS + n * SECOND, tiny_bag.raw(scene(n), 0)) for n in range(3)]
    _, rows = collect("--bag", write_bag(tmp_path / "drive", messages), "--val-fraction", 0)

    assert [row["path"] for row in rows] == [f"images/drive/0{end}.png" for end in ("", "_2", "_3")]
    np.testing.assert_array_equal(pixels(output / rows[2]["path"]), scene(2))


def test_budget_covers_every_kind_of_picture_of_a_recording(tmp_path: Path, collect) -> None:
    numbers = [0] * 60 + [1] * 40 + [2, 3, 4] + [0] * 60 + [5] + [1] * 20
    bag = scenes(tmp_path / "drive", numbers)
    _, rows = collect("--bag", bag, "--budget", 6, "--min-distance", 0, "--val-fraction", 0)

    assert {numbers[index] for index in stamps(rows)} == set(range(6))
    assert {row["reason"] for row in rows} == {"typical", "diverse"}


def test_end_of_the_only_recording_is_held_out_and_whole_recordings_of_several(tmp_path: Path, collect, capsys) -> None:
    bag = scenes(tmp_path / "drive", range(40))
    _, rows = collect("--bag", bag, "--gap", 0.15)

    parts = {stamp: (row["part"], row["bag"]) for stamp, row in zip(stamps(rows), rows, strict=True)}
    assert parts == dict.fromkeys(range(31), ("train", "drive")) | dict.fromkeys(range(32, 40), ("val", "drive_val"))
    assert "gap        1 left out" in capsys.readouterr().out
    _, rows = collect("--bag", scenes(tmp_path / "next", range(100, 130)))
    assert {(row["part"], row["bag"]) for row in rows[39:]} == {("train", "next")}


def test_recording_that_is_called_like_the_end_of_another_one_costs_no_part(tmp_path: Path, collect) -> None:
    one = scenes(tmp_path / "drive", range(8))
    other = scenes(tmp_path / "drive_val", range(50, 90))
    _, rows = collect("--bag", one, other, "--budget", 12)
    assert {row["bag"]: row["part"] for row in rows} == {"drive": "val", "drive_val": "train"}
    _, rows = collect("--bag", one, other)

    assert {(row["bag"], row["part"]) for row in rows} == {("drive", "val"), ("drive_val", "train")}


def test_training_takes_the_parts_of_what_was_labelled(tmp_path: Path, output: Path, collect) -> None:
    _, rows = collect("--bag", scenes(tmp_path / "drive", range(30)))
    for number, row in enumerate(rows):
        row |= {"class": ("ant", "bee")[number % 2], "state": "labelled"}
    with (output / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    found = load_images(output / "labels.csv", DataOptions())

    assert [sample.part for sample in found.samples] == [row["part"] for row in rows]


def test_one_of_several_cameras_has_to_be_named(tmp_path: Path, collect, capsys) -> None:
    times = [START_NS, START_NS + 1]
    bag = write_bag(tmp_path / "d", [(f"/{n}/image", t, tiny_bag.raw(flat((9, 9, 9)), t)) for n, t in enumerate(times)])
    code, rows = collect("--bag", bag)

    assert (code, rows) == (2, [])
    (line,) = capsys.readouterr().err.splitlines()
    assert "--topic" in line
    assert "/0/image" in line
    assert "/1/image" in line
    assert len(collect("--bag", bag, "--topic", "1/image")[1]) == 1


def test_topic_that_is_named_twice_is_read_once(tmp_path: Path, collect, capsys) -> None:
    bag = scenes(tmp_path / "drive", range(3))
    _, rows = collect("--bag", bag, "--topic", "/front/image_raw", "front/image_raw", "--gap", 0)

    assert stamps(rows) == [0, 1, 2]
    assert "3 read" in capsys.readouterr().out


def test_what_is_odd_about_a_recording_and_its_pictures_is_told_and_all_is_collected(
    tmp_path: Path, collect, capsys
) -> None:
    messages = []
    for number in range(20):
        received_ns = START_NS + number * SECOND
        message = tiny_bag.compressed(scene(number), START_NS + number * SECOND // 100)  # stamps of a faster clock
        code = message.data.tobytes()
        message.data = np.frombuffer(code[:-2] + b"\x5a" * 100 + code[-2:], np.uint8)  # stray before the end
        messages.append(("/camera/compressed", received_ns, message))
    bag = write_bag(tmp_path / "drive", messages)
    code, rows = collect("--bag", bag, "--gap", 0)

    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert code == 0
    assert len(rows) == 20
    assert [line.startswith(f"warning: {bag}: ") for line in warnings] == [True, True]
    assert "its 20 images take" in warnings[0]
    assert "20 images: " in warnings[1]


def test_a_camera_whose_pictures_stand_still_is_told_beside_one_that_lives(tmp_path: Path, collect, capsys) -> None:
    messages = []
    for number in range(10):
        stamp_ns = START_NS + number * SECOND
        messages.append(("/frozen", stamp_ns, tiny_bag.raw(scene(0), stamp_ns)))
        messages.append(("/alive", stamp_ns, tiny_bag.raw(scene(number), stamp_ns)))
    bag = write_bag(tmp_path / "drive", messages)
    code, _ = collect("--bag", bag, "--gap", 0, "--topic", "/frozen", "/alive")
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert code == 0
    assert warning.startswith(f"warning: {bag}: 6 images: picture_frozen: the picture has not changed for 9.0 s")


def test_collecting_without_a_network_needs_no_torch(tmp_path: Path, output: Path) -> None:
    bag = scenes(tmp_path / "drive", range(4))
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from training.collect.command import main\n"
        f"sys.exit(main(['--bag', {str(bag)!r}, '--output', {str(output)!r}]))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)

    assert (output / "labels.csv").is_file()
