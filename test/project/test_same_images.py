"""Owns: that every program takes the same files of a folder for images. Leaves to others: which (test_listing)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from frames import saved
from PIL import Image
from tiny_model import tiny_spec

pytest.importorskip("torch", reason="needs what training needs")

from cnn_perception.camera_node.image_files import ImageFiles
from cnn_perception.camera_node.node import FrameSource
from cnn_perception.evaluation.labelled_frames import frames_of_folder
from cnn_perception.image.listing import image_files
from training.calibration.embeddings import outside_images
from training.data import image_folder
from training.graphs.gallery import of_folder

PICTURE = Image.new("RGB", (8, 6), (200, 30, 30))


def made(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def nasty(root: Path) -> Path:
    """A folder of pictures as people have them: every trouble of a listing in one place."""
    made(root, "notes.txt", "@eaDir/a.jpg", ".thumbnails/a.jpg", "Thumbs.db", "broken.jpg", "._a.jpg")
    for name, kind in (("a.JFIF", "JPEG"), ("b", "PNG"), ("c.dat", "PPM"), ("d.jpg", "PNG"), ("caf\udce9.gif", "GIF")):
        (root / name).write_bytes(saved(PICTURE, kind))
    (root / "photo.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200))
    (root / "film.avi").write_bytes(b"RIFF\0\0\0\0AVI LIST")
    (root / "loop").symlink_to(root)
    (root / "z.jpg").symlink_to(root / "d.jpg")
    (root / "gone.png").symlink_to(root / "nothing.png")
    return root


def test_every_program_says_what_it_has_passed_over(tmp_path, capsys):
    red = made(tmp_path / "red", "notes.txt", ".hidden.png", "below/.keep")
    (red / "1.png").write_bytes(saved(PICTURE, "PNG"))
    (tmp_path / "lost.png").write_bytes(saved(PICTURE, "PNG"))

    found = frames_of_folder(tmp_path, "", tiny_spec()).ignored
    assert found == {
        "hidden files": 2,
        "not an image (.txt)": 1,
        "images outside class folders, of which no class is known": 1,
    }
    for program in (outside_images, of_folder):
        program(red)
        assert capsys.readouterr().out == f"{red}: 1 images; ignored: 2 hidden files, 1 not an image (.txt)\n"
    heard: list[str] = []
    FrameSource(str(red), say=heard.append)
    assert heard == [
        f"listing {red}",
        f"{red}: 1 images; ignored: 1 hidden files, 1 not an image (.txt), 1 folders below",
    ]


def test_listing_that_takes_long_is_shown_from_the_second_second_on(tmp_path, monkeypatch, capsys):
    clock = iter(range(1000))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("tqdm.std.time", lambda: next(clock))
    red = made(tmp_path / "red", *(f"{number}.png" for number in range(20)))

    for listing in (lambda: frames_of_folder(tmp_path, "", tiny_spec()), lambda: image_folder.every_image(red)):
        listing()
        assert "listing: " in capsys.readouterr().err


def test_every_program_lists_the_same_files_of_one_nasty_folder(tmp_path, monkeypatch):
    red, green = nasty(tmp_path / "red"), made(tmp_path / "green", "1.png")
    expected = ["a.JFIF", "b", "broken.jpg", "c.dat", "caf\udce9.gif", "d.jpg", "gone.png", "photo.HEIC"]

    shown: list[str] = []
    monkeypatch.setattr(ImageFiles, "read", lambda _, path: shown.append(path.name) or b"")
    monkeypatch.setattr(FrameSource, "_resized", lambda _, image: image)
    source = FrameSource(str(red))
    while source.read() is not None:
        pass
    trained = [sample.path for sample in image_folder.read(tmp_path).samples]
    evaluated = [frame.record.name for frame in frames_of_folder(tmp_path, "", tiny_spec())]

    assert sorted(path.name for path in image_files(red)) == expected
    assert sorted(shown) == expected
    assert sorted(path.name for path in trained if path.parent == red) == expected
    assert sorted(Path(name).name for name in evaluated if name.startswith("red/")) == expected
    assert sorted(sample.path.name for sample in outside_images(red)) == expected
    assert sorted(reference.path.name for reference in of_folder(red)) == expected
    assert [path.name for path in trained if path.parent == green] == ["1.png"]
