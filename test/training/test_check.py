"""Owns: every kind of bad training data, as a generated folder each. Leaves to others: CSV files, how data is split.

Files that vanish during an epoch are in test_load, untrusted checkpoints in test_checkpoint.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_images import scene, write_folder

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from cnn_perception.image.messages import decode_file_bytes
from training.check import main
from training.config import make
from training.data.load import DataOptions, load_images
from training.loop.run import open_run


@pytest.fixture
def check(tmp_path, capsys):
    """Runs the command; returns its exit code, what it said, and the findings as (file name, reason, action)."""

    def run(root, *more):
        findings = tmp_path / "findings.csv"
        code = main(["--data", str(root), "--csv", str(findings), *more])
        said = capsys.readouterr()
        rows = list(csv.reader(findings.open())) if findings.exists() else [["path", "reason", "action"]]
        assert rows[0] == ["path", "reason", "action"]
        text = said.out if code == EXIT_OK else said.err.splitlines()[-1]
        return code, text, [(row[0].rpartition("/")[2], row[1], row[2]) for row in rows[1:]]

    return run


def folder(tmp_path, a=30, b=30):
    return write_scenes(tmp_path / "d", {"a": a, "b": b})


def write_scenes(root, counts, first_seed=0):
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = scene(first_seed + 1000 * number + index, 24, 40)
            Image.fromarray(pixels).save(root / name / f"{index:02}.png")
    return root


def test_a_sound_folder_passes_without_a_finding(tmp_path, check):
    code, said, findings = check(folder(tmp_path))

    assert code == EXIT_OK
    assert "multiclass, 2 classes, 48 train, 12 val, 0 test images" in said
    assert "warning" not in said
    assert findings == []


def flip_bits(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


BROKEN = {
    "zero-byte": (lambda path: path.write_bytes(b""), "empty"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:500]), "corrupt"),
    "bit-flipped": (flip_bits, "corrupt"),
    "html": (lambda path: path.write_text("<html>404</html>"), "format"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_zero_byte_truncated_bit_flipped_or_html_file_is_listed_and_skipped(kind, tmp_path, check):
    root = folder(tmp_path)
    spoil, reason = BROKEN[kind]
    spoil(root / "a" / "07.png")

    code, said, findings = check(root)

    assert code == EXIT_OK
    assert "left out: 1 images" in said
    assert [(name, action) for name, _, action in findings] == [("07.png", "left out")]
    assert findings[0][1].startswith(reason)


def test_with_strict_one_unreadable_file_is_enough(tmp_path, check):
    root = folder(tmp_path)
    (root / "a" / "07.png").write_bytes(b"")

    code, said, findings = check(root, "--strict")

    assert code == EXIT_BAD_INPUT
    assert "1 images cannot be used, first" in said
    assert "07.png" in said
    assert len(findings) == 1


@pytest.mark.parametrize(("broken", "code"), [(3, EXIT_OK), (4, EXIT_BAD_INPUT)])
def test_above_five_percent_of_unreadable_files_it_fails(broken, code, tmp_path, check):
    root = folder(tmp_path)  # 5 % of 60 are 3
    for index in range(broken):
        (root / "a" / f"{index:02}.png").write_bytes(b"")

    assert check(root)[0] == code


def test_of_an_animation_the_first_picture_counts_and_it_is_said(tmp_path, check):
    root = folder(tmp_path)
    frames = [Image.fromarray(scene(900 + i, 24, 40)) for i in range(3)]
    frames[0].save(root / "a" / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(root / "b" / "moving.png", save_all=True, append_images=frames[1:])

    code, said, findings = check(root)

    assert code == EXIT_OK
    assert "warning: 2 images: animated: the first" in said
    animated = [(name, action) for name, reason, action in findings if reason.startswith("animated")]
    assert animated == [("moving.gif", "warning"), ("moving.png", "warning")]


def test_16_bit_pictures_are_scaled_as_the_node_scales_them(tmp_path, check):
    root = folder(tmp_path)
    deep = np.linspace(0, 65535, 24 * 40).reshape(24, 40).astype(np.uint16)
    cv2.imwrite(str(root / "a" / "deep.png"), deep)

    code, _, findings = check(root)

    assert (code, findings) == (EXIT_OK, [])
    shown = decode_file_bytes((root / "a" / "deep.png").read_bytes())
    assert np.abs(shown[..., 0] - deep / 65535 * 255).max() <= 1  # Pillow's convert("RGB") gives 255 nearly everywhere
    assert (np.asarray(Image.open(root / "a" / "deep.png").convert("RGB")) == 255).mean() > 0.9


def test_alpha_is_composited_and_said_but_not_where_it_is_opaque(tmp_path, check):
    root = folder(tmp_path)
    clear = np.dstack([scene(900, 24, 40), np.full((24, 40), 128, np.uint8)])
    Image.fromarray(clear).save(root / "a" / "clear.png")
    opaque = np.dstack([scene(901, 24, 40), np.full((24, 40), 255, np.uint8)])
    Image.fromarray(opaque).save(root / "a" / "opaque.png")

    code, said, findings = check(root)

    assert code == EXIT_OK
    assert findings == [("clear.png", "transparent: composited over white", "warning")]
    assert "warning: 1 image: transparent" in said


def test_cmyk_palette_and_grey_pictures_are_taken_without_a_word(tmp_path, check):
    root = folder(tmp_path)
    pixels = Image.fromarray(scene(900, 24, 40))
    pixels.convert("CMYK").save(root / "a" / "ink.jpg")
    Image.fromarray(scene(901, 24, 40)).convert("P").save(root / "a" / "palette.png")
    Image.fromarray(scene(902, 24, 40)).convert("L").save(root / "b" / "grey.png")

    code, said, findings = check(root)

    assert (code, findings) == (EXIT_OK, [])
    assert "51 train, 12 val" in said  # of 32 and 31 images a fifth, rounded to 6 each, is held out


def test_an_exif_rotation_is_applied_before_images_are_compared(tmp_path, check):
    root = folder(tmp_path)
    upright = Image.fromarray(scene(900, 240, 400))
    upright.save(root / "a" / "upright.jpg", quality=95)
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by the viewer
    turned.save(root / "a" / "turned.jpg", exif=exif, quality=95)

    code, _, findings = check(root)

    assert code == EXIT_OK
    assert [(name, reason.partition(" of")[0]) for name, reason, _ in findings] == [("upright.jpg", "near duplicate")]


def test_a_decompression_bomb_is_skipped(tmp_path, check):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    root = folder(tmp_path)
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
    (root / "a" / "bomb.png").write_bytes(bomb)

    code, _, findings = check(root)

    assert code == EXIT_OK
    assert findings[0][0] == "bomb.png"
    assert findings[0][1].startswith("size")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"a": 5}, "one class only ('a')"),
        ({"a": 5, "b": 0}, "class 'b' holds no image"),
        ({"a": 5, "b": 2}, "class 'b' has 2 usable images in train, 3 are needed"),
    ],
    ids=["one class", "empty class", "class with fewer than 3 images"],
)
def test_one_class_an_empty_one_or_one_with_fewer_than_3_images_is_named(counts, message, tmp_path, check):
    code, said, _ = check(write_folder(tmp_path / "d", counts))

    assert code == EXIT_BAD_INPUT
    assert message in said


def test_what_is_no_image_is_ignored_and_counted(tmp_path, check):
    root = folder(tmp_path)
    for name in ("notes.txt", "drawing.svg", "._00.png"):
        (root / "a" / name).write_bytes(b"x")
    os.mkfifo(root / "a" / "pipe.png")  # reading it would wait for ever
    for name in (".ipynb_checkpoints", "__MACOSX"):
        shutil.copytree(root / "b", root / name)

    code, said, findings = check(root)

    assert (code, findings) == (EXIT_OK, [])
    assert "48 train, 12 val" in said
    for line in (
        "ignored: 1 not an image (.txt)",
        "ignored: 1 not an image (.svg)",
        "ignored: 1 hidden files",
        "ignored: 1 pipes",
    ):
        assert line in said


def test_a_loop_of_symlinks_gives_each_real_file_once(tmp_path, check):
    root = folder(tmp_path)
    (root / "a" / "again").symlink_to(root / "a")
    (root / "a" / "up").symlink_to(root)

    code, said, _ = check(root)

    assert code == EXIT_OK
    assert "48 train, 12 val" in said
    assert "folders linked twice" in said


def test_names_may_hold_anything(tmp_path, check):
    root = write_folder(tmp_path / "größe 止", dict.fromkeys(("line\nbreak", "n" * 200, " zone 30,"), 5))
    (root / "line\nbreak" / "00.png").rename(root / "line\nbreak" / 'a, "b"\n止.png')

    assert check(root)[0] == EXIT_OK


def test_train_and_val_with_different_classes_are_an_error(tmp_path, check):
    write_folder(tmp_path / "d" / "train", {"a": 5, "b": 5})
    write_folder(tmp_path / "d" / "val", {"a": 5, "c": 5}, first_seed=50)

    code, said, findings = check(tmp_path / "d")

    assert code == EXIT_BAD_INPUT
    assert findings[1][1:] == ("class missing from a part: class 'c' has no image in train, only in val", "error")
    assert "2 classes are missing from a part, first class 'b' has no image in val; mend it, see " in said
    assert "--on-conflict drop or first" in said


def test_the_parent_of_the_data_set_is_recognised(tmp_path, check):
    write_folder(tmp_path / "outer" / "d" / "train", {"a": 5, "b": 5})

    code, said, _ = check(tmp_path / "outer")

    assert code == EXIT_BAD_INPUT
    assert f"use --data {tmp_path / 'outer' / 'd'}" in said


def parted(tmp_path):
    write_scenes(tmp_path / "d" / "train", {"a": 10, "b": 10})
    write_scenes(tmp_path / "d" / "val", {"a": 5, "b": 5}, first_seed=50)
    return tmp_path / "d"


def test_exact_duplicates_across_the_split_are_an_error_with_the_pairs(tmp_path, check):
    root = parted(tmp_path)
    shutil.copy(root / "train" / "a" / "03.png", root / "val" / "a" / "leak.png")
    shutil.copy(root / "train" / "b" / "04.png", root / "val" / "b" / "leak too.png")

    code, said, findings = check(root)

    assert code == EXIT_BAD_INPUT
    assert "2 images are in two parts, first" in said
    assert [(name, action) for name, _, action in findings] == [("leak.png", "error"), ("leak too.png", "error")]
    assert findings[0][1] == f"same image in two parts: in val here, in train as {root / 'train' / 'a' / '03.png'}"


def test_exact_duplicates_in_one_part_are_a_warning(tmp_path, check):
    root = parted(tmp_path)
    shutil.copy(root / "train" / "a" / "03.png", root / "train" / "a" / "copy.png")

    code, said, findings = check(root)

    assert code == EXIT_OK
    assert "warning: 1 image: exact duplicate" in said
    assert findings == [("copy.png", f"exact duplicate of {root / 'train' / 'a' / '03.png'}", "warning")]


def test_near_duplicates_across_the_split_are_a_warning_with_the_pairs(tmp_path, check):
    root = parted(tmp_path)
    original, copy = root / "train" / "a" / "03.png", root / "val" / "a" / "again.jpg"
    cv2.imwrite(str(copy), cv2.imread(str(original)), [cv2.IMWRITE_JPEG_QUALITY, 80])

    code, said, findings = check(root)

    assert code == EXIT_OK
    assert "warning: 1 image: near duplicate across parts" in said
    assert findings == [("again.jpg", f"near duplicate across parts of {original} in train", "warning")]


def roboflow(name, number):
    """The name of a copy in an export of Roboflow: a hash of 32 hexadecimal digits behind the picture's own."""
    return f"{name}_png.rf.{number:032x}.jpg"


def augmentor(name, number):
    """The same of Augmentor, which adds a UUID of version 4."""
    return f"a_original_{name}.png_{number:08x}-0000-4000-8000-000000000000.png"


def write_copies(root, counts, named, copies=3):
    """Pictures that have nothing in common, of which the names say that each three come of one."""
    for seed, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            for copy in range(copies):
                number = copies * index + copy
                pixels = scene(5000 * (seed + 1) + number, 24, 40)
                Image.fromarray(pixels).save(root / name / named(f"{index:02}", number))
    return root


@pytest.mark.parametrize("named", [roboflow, augmentor])
@pytest.mark.parametrize("options", [{}, {"split": "tail"}, {"folds": 4}], ids=["random", "tail", "folds"])
def test_augmented_copies_of_one_picture_are_held_out_together_by_their_names(tmp_path, named, options):
    root = write_copies(tmp_path / "d", {"a": 11, "b": 11}, named)

    data = load_images(root, DataOptions(**options))

    parts = {}
    for sample in data.samples:
        picture = re.search(r"(?:^|_original_)(\d\d)", sample.path.name)[1]
        parts.setdefault((sample.label, picture), set()).add(sample.part)
    assert len(parts) == 22  # a 03 of class a and a 03 of class b are two pictures
    assert {len(each) for each in parts.values()} == {1}
    assert {part for each in parts.values() for part in each} == {"train", "val"}


def test_what_names_say_of_augmented_copies_is_said_in_a_line(tmp_path, check):
    root = write_copies(tmp_path / "d", {"a": 11, "b": 11}, roboflow)

    code, said, findings = check(root)

    assert code == EXIT_OK
    assert said.count("66 images are augmented copies by their names, such as 00_png.rf.") == 1
    assert "frames of a recording" not in said
    assert {reason.partition(" of ")[0] for _, reason, _ in findings} == {"augmented copy"}


@pytest.mark.parametrize("named", [roboflow, augmentor])
def test_augmented_copies_of_one_picture_in_two_parts_are_told_with_the_pairs(tmp_path, check, named):
    root = write_copies(tmp_path / "d" / "train", {"a": 10, "b": 10}, named).parent
    for path in write_scenes(root / "val", {"a": 6, "b": 6}, first_seed=90_000).glob("*/*.png"):
        path.rename(path.with_stem(f"other {path.stem}"))
    leak = root / "val" / "a" / named("03", 999)
    Image.fromarray(scene(77, 24, 40)).save(leak)

    code, said, findings = check(root)

    assert code == EXIT_OK
    assert "warning: 1 image: augmented copy across parts" in said
    original = root / "train" / "a" / named("03", 9)
    across = [row for row in findings if "across" in row[1]]
    assert across == [(leak.name, f"augmented copy across parts of {original} in train", "warning")]


@pytest.mark.parametrize("name", ["00_png.rf.12.jpg", "a_original_00.png", "00.rf.png"])
def test_names_that_only_begin_like_those_of_copies_bind_nothing(tmp_path, check, name):
    root = folder(tmp_path)
    (root / "a" / "07.png").rename(root / "a" / name)

    assert "augmented" not in check(root)[1]


def test_near_duplicates_are_kept_together_where_the_tool_splits(tmp_path, check):
    root = folder(tmp_path)
    for original in sorted(root.glob("*/*.png")):
        cv2.imwrite(str(original.with_suffix(".jpg")), cv2.imread(str(original)), [cv2.IMWRITE_JPEG_QUALITY, 80])

    code, said, findings = check(root)

    assert code == EXIT_OK
    assert "warning: 60 images: near duplicate\n" in said
    assert {reason.partition(" of ")[0] for _, reason, _ in findings} == {"near duplicate"}
    assert "96 train, 24 val" in said


def test_the_same_image_under_two_labels_is_an_error(tmp_path, check):
    root = folder(tmp_path)
    shutil.copy(root / "a" / "03.png", root / "b" / "copy.png")

    code, said, findings = check(root)

    assert code == EXIT_BAD_INPUT
    assert "1 images have two labels, first" in said
    assert findings == [("copy.png", f"same image under two labels: b here, a as {root / 'a' / '03.png'}", "error")]


@pytest.mark.parametrize(
    ("part", "message"), [("train", "1 images have two labels"), ("val", "1 images are in two parts")]
)
def test_a_link_gives_an_image_a_second_label_or_part_as_a_copy_does(part, message, tmp_path, check):
    root = parted(tmp_path)
    (root / part / "b" / "link.png").symlink_to(root / "train" / "a" / "03.png")

    code, said, _ = check(root)

    assert code == EXIT_BAD_INPUT
    assert message in said


def test_an_imbalance_of_1_to_100_is_a_warning_that_names_the_remedy(tmp_path, check):
    code, said, _ = check(write_folder(tmp_path / "d", {"rare": 4, "common": 301}))

    assert code == EXIT_OK
    # 1 of 4 and 60 of 301 are held out
    assert "1:80 (3 training images of class 'rare', 241 of class 'common')" in said
    assert "--balance" in said


def test_training_makes_the_same_check_and_keeps_its_findings(tmp_path):
    root = folder(tmp_path, 10, 10)
    shutil.copy(root / "a" / "03.png", root / "a" / "copy.png")
    given = {
        "data": str(root),
        "output": str(tmp_path / "run"),
        "weights": "none",
        "device": "cpu",
        "backbone": "squeezenet1_1",
    }

    data = open_run(make(**given)).data

    assert data.warnings == ("1 image: exact duplicate",)
    assert len(list(csv.reader((tmp_path / "run" / "findings.csv").open()))) == 2
    assert next(csv.reader((tmp_path / "run" / "split.csv").open())) == ["path", "class", "part", "group"]


@pytest.mark.parametrize("images", ["sound", "damaged"])
def test_a_table_of_somebody_else_is_neither_replaced_nor_removed(tmp_path, images):
    data = write_folder(tmp_path / "data", {"go": 12, "stop": 15})
    if images == "damaged":
        next((data).rglob("*.png")).write_bytes(b"")
    table = tmp_path / "mine.csv"
    table.write_text("path,class\na.png,go\n")
    assert main(["--data", str(data), "--csv", str(table)]) == EXIT_BAD_INPUT
    assert table.read_text() == "path,class\na.png,go\n"
