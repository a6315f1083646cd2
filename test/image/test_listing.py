"""Owns: which files of a folder are images. Leaves to others: what training and evaluation make of them."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from tiny_model import tiny_spec

from cnn_perception.errors import DataError
from cnn_perception.evaluation.labelled_frames import frames_of_folder
from cnn_perception.image import listing
from cnn_perception.image.listing import image_files, visible_folders


def made(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_images_are_found_by_suffix_in_the_order_of_their_paths_and_the_rest_is_counted(tmp_path):
    made(tmp_path, "b/2.PNG", "b/1.jpe", "a.webp", "c/note.txt", ".hidden/1.png", "__MACOSX/1.png", "b/._1.png")
    (tmp_path / "b" / "again").symlink_to(tmp_path / "b")
    os.mkfifo(tmp_path / "pipe.png")
    ignored = Counter()

    found = [path.relative_to(tmp_path).as_posix() for path in image_files(tmp_path, ignored)]

    assert found == ["a.webp", "b/1.jpe", "b/2.PNG"]
    assert ignored == {"hidden files": 3, "folders linked twice": 1, "not an image (.txt)": 1, "pipes and devices": 1}


def test_only_the_folder_itself_is_looked_into_where_that_is_wanted(tmp_path):
    made(tmp_path, "1.png", "below/2.png")

    assert [path.name for path in image_files(tmp_path, recursive=False)] == ["1.png"]


def test_a_folder_that_cannot_be_listed_is_refused_by_its_name(tmp_path, monkeypatch):
    made(tmp_path, "1.png", "secret/2.png")

    listed = listing.Path.iterdir

    def refuse(folder):
        if folder.name == "secret":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(listing.Path, "iterdir", refuse)

    with pytest.raises(DataError, match=r"secret: cannot be listed \(Permission denied\); mend its permissions"):
        list(image_files(tmp_path))
    with pytest.raises(DataError, match="secret: cannot be listed"):
        visible_folders(tmp_path / "secret")


def test_a_class_folder_that_is_a_link_to_another_has_its_images_too(tmp_path):
    made(tmp_path, "green/1.png", "green/2.png")
    (tmp_path / "blue").symlink_to(tmp_path / "green")

    frames = frames_of_folder(tmp_path, "", tiny_spec())

    assert [(frame.record.name, frame.record.truth) for frame in frames] == [
        ("blue/1.png", "blue"), ("blue/2.png", "blue"), ("green/1.png", "green"), ("green/2.png", "green"),
    ]  # fmt: skip
