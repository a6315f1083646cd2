"""Owns: which files of a folder are images. Leaves to others: what training and evaluation make of them."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from frames import saved
from PIL import Image
from tiny_model import tiny_spec

from cnn_perception.errors import DataError
from cnn_perception.evaluation.labelled_frames import frames_of_folder
from cnn_perception.image import listing
from cnn_perception.image.file_formats import HEAD_BYTES
from cnn_perception.image.listing import broken_links, image_files, visible_folders

PICTURE = Image.new("RGB", (8, 6), (200, 30, 30))


def made(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def listed(root, **options):
    return [path.relative_to(root).as_posix() for path in image_files(root, **options)]


def test_images_are_listed_in_the_order_of_their_paths_and_the_rest_is_counted(tmp_path):
    made(tmp_path, "b/2.PNG", "b/1.jpe", "a.webp", "c/note.txt", ".hidden/1.png", "__MACOSX/1.png", "b/._1.png")
    (tmp_path / "b" / "again").symlink_to(tmp_path / "b")
    os.mkfifo(tmp_path / "pipe.png")
    ignored = Counter()

    assert listed(tmp_path, ignored=ignored) == ["a.webp", "b/1.jpe", "b/2.PNG"]
    assert ignored == {
        "hidden files": 2,
        "leftovers of archivers, NAS boxes and file browsers": 1,
        "folders linked twice": 1,
        "not an image (.txt)": 1,
        "pipes and devices": 1,
    }


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("name", ["a", "a.txt", "a.jpg.1", "a.data", "a.mp4"])
def test_a_picture_is_known_by_its_first_bytes_whatever_it_is_called(tmp_path, kind, name):
    (tmp_path / name).write_bytes(saved(PICTURE, kind))
    assert listed(tmp_path) == [name]


@pytest.mark.parametrize(
    "head",
    [
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", b"\0\0\0\x0cJXL \r\n\x87\n",
        b"\xff\x4f\xff\x51", b"8BPS\0\1", b"II*\0\x10\0\0\0CR\2\0", b"\0\0\0\x18ftypcrx \0\0\0\1",
    ],
)  # fmt: skip
def test_a_picture_that_may_not_be_readable_is_listed_too(tmp_path, head):
    (tmp_path / "a").write_bytes(head.ljust(200, b"\0"))
    assert listed(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"BMW is a car, and this is a text about it", b"BM" + bytes(12) + b" \0\0\0", b"P1 is a place",
        b"RIFF\0\0\0\0WAVEfmt ",
        b"RIFF\0\0\0\0AVI LIST", b"\0\0\0\x18ftypisom\0\0\0\0isomavc1", b"%PDF-1.7", b"PK\3\4", b"\xff\xfea\0",
        b"<svg>", b"P7\nWIDTH 3\n", b"GIF is a format",
    ],
)  # fmt: skip
def test_what_only_begins_like_a_picture_is_none(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    ignored = Counter()
    assert listed(tmp_path, ignored=ignored) == []
    assert ignored == {"not an image (no suffix)": 1}


@pytest.mark.parametrize(
    "name",
    [
        "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "#recycle/a.jpg", ".thumbnails/a.png", ".ipynb_checkpoints/a-copy.png",
        "__MACOSX/._a.jpg", "Thumbs.db", "desktop.ini", "MVI_0001.THM", ".@__thumb/default.jpg", "$RECYCLE.BIN/a.jpg",
        "Icon\r",
    ],
)  # fmt: skip
def test_leftovers_of_systems_are_passed_over_though_they_are_pictures(tmp_path, name):
    made(tmp_path, name)
    (tmp_path / name).write_bytes(saved(PICTURE, "JPEG"))
    assert listed(tmp_path) == []
    assert [folder.name for folder in visible_folders(tmp_path)] == []


def test_only_the_folder_itself_is_looked_into_where_that_is_wanted(tmp_path):
    made(tmp_path, "1.png", "below/2.png")

    assert [path.name for path in image_files(tmp_path, recursive=False)] == ["1.png"]


def test_each_real_file_is_listed_once_and_by_its_own_path_if_it_lies_here(tmp_path):
    made(tmp_path / "here", "b/1.png", "b/2.png")
    made(tmp_path / "elsewhere", "3.png")
    (tmp_path / "here" / "a.png").symlink_to(tmp_path / "here" / "b" / "1.png")
    (tmp_path / "here" / "c.png").symlink_to("a.png")
    for name in ("d.png", "e.png"):
        (tmp_path / "here" / name).symlink_to(tmp_path / "elsewhere" / "3.png")
    ignored = Counter()

    assert listed(tmp_path / "here", ignored=ignored) == ["b/1.png", "b/2.png", "d.png"]
    assert ignored == {"files linked twice": 3}


def test_links_to_nothing_and_in_circles_are_counted_or_listed_as_pictures_by_name(tmp_path):
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "x").symlink_to(tmp_path / "y")
    (tmp_path / "y").symlink_to(tmp_path / "x")
    ignored = Counter()

    assert listed(tmp_path, ignored=ignored) == ["gone.png"]
    assert ignored == {"links to nothing": 3}
    assert [path.name for path in broken_links(tmp_path)] == ["gone", "gone.png", "x", "y"]


def test_of_each_file_only_the_first_bytes_are_read_and_none_of_one_called_a_picture(tmp_path, monkeypatch):
    for name in ("a", "b.txt", "c.png"):
        (tmp_path / name).write_bytes(saved(PICTURE.resize((400, 300)), "PNG") + bytes(100_000))
    opened = listing.Path.open
    read = Counter()

    class Counted:
        def __init__(self, path):
            self.name, self.file = path.name, opened(path, "rb", buffering=0)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def read(self, size):
            read[self.name] += size
            return self.file.read(size)

    monkeypatch.setattr(listing.Path, "open", lambda path, *_, **__: Counted(path))
    seen = []

    assert listed(tmp_path, listed=lambda: seen.append(1)) == ["a", "b.txt", "c.png"]
    assert read == {"a": HEAD_BYTES, "b.txt": HEAD_BYTES}
    assert len(seen) == 3


def test_a_folder_that_cannot_be_listed_is_refused_by_its_name(tmp_path, monkeypatch):
    made(tmp_path, "1.png", "secret/2.png")

    all_in = listing.Path.iterdir

    def refuse(folder):
        if folder.name == "secret":
            raise PermissionError(13, "Permission denied")
        return all_in(folder)

    monkeypatch.setattr(listing.Path, "iterdir", refuse)

    with pytest.raises(DataError, match=r"secret: cannot be listed \(Permission denied\); mend its permissions"):
        image_files(tmp_path)
    with pytest.raises(DataError, match="secret: cannot be listed"):
        visible_folders(tmp_path / "secret")


def test_a_class_folder_that_is_a_link_to_another_has_its_images_too(tmp_path):
    made(tmp_path, "green/1.png", "green/2.png")
    (tmp_path / "blue").symlink_to(tmp_path / "green")

    frames = frames_of_folder(tmp_path, "", tiny_spec())

    assert [(frame.record.name, frame.record.truth) for frame in frames] == [
        ("blue/1.png", "blue"), ("blue/2.png", "blue"), ("green/1.png", "green"), ("green/2.png", "green"),
    ]  # fmt: skip
