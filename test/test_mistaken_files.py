"""What is said of a pointer of Git LFS, or of a saved web page, that is given in place of any file of the user."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cnn_perception.bag.reader import Bag
from cnn_perception.errors import PerceptionError
from cnn_perception.image.messages import read_image
from cnn_perception.label_table import read_table
from cnn_perception.mistaken_files import what_instead, what_is_at
from cnn_perception.model.onnx_file import read_onnx_file


def calibration(path: Path) -> object:
    pytest.importorskip("rclpy", reason="needs ROS 2")
    from cnn_perception.camera_node.calibration_file import read_calibration

    return read_calibration(str(path))


def live_parameters(path: Path) -> object:
    pytest.importorskip("rclpy", reason="needs ROS 2")
    from cnn_perception.live_replay.node_options import NodeOptions

    return NodeOptions(model=path, params=path)


def foreign_model(path: Path) -> object:
    pytest.importorskip("onnx", reason="of training")
    from training.adopt import foreign_file

    return foreign_file.read(path)


def tensors(path: Path) -> object:
    pytest.importorskip("torch", reason="of training")
    from training.torch_files import read_tensors

    return read_tensors(path)


def checkpoint(path: Path) -> object:
    pytest.importorskip("torch", reason="of training")
    from training.checkpoint import load

    return load(path)


def recipe(path: Path) -> object:
    from training.recipes.recipe import words

    return words(str(path))


def classes(path: Path) -> object:
    from training.data import classes_file

    return classes_file.read(str(path))


def idx_file(path: Path) -> object:
    from training.idx_files import read

    return read(path)


READERS: dict[str, Callable[[Path], object]] = {
    "model.onnx": read_onnx_file,
    "photo.jpg": read_image,
    "drive.mcap": Bag,
    "labels.csv": lambda path: read_table(path, "name another"),
    "camera.yaml": calibration,
    "node.yaml": live_parameters,
    "foreign.onnx": foreign_model,
    "weights.pth": tensors,
    "best.pt": checkpoint,
    "recipe.txt": recipe,
    "classes.txt": classes,
    "images.idx": idx_file,
}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
PAGES = [b"\n<!DOCTYPE html><html>Sign in</html>", b"\xef\xbb\xbf<HTML lang='de'>"]


@pytest.mark.parametrize("name", READERS)
def test_a_pointer_of_git_lfs_is_called_so_by_every_reader(name: str, tmp_path: Path):
    (tmp_path / name).write_bytes(POINTER)
    with pytest.raises(
        PerceptionError, match=r"is a pointer of Git LFS, not the file itself; fetch it with `git lfs pull"
    ):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("page", PAGES)
def test_a_web_page_is_called_so_by_every_reader(name: str, page: bytes, tmp_path: Path):
    (tmp_path / name).write_bytes(page)
    with pytest.raises(PerceptionError, match=r"is a web page; download the [a-z ]+ itself"):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize(("content", "told"), [(POINTER, "is a pointer of Git LFS"), (PAGES[0], "is a web page")])
def test_a_node_whose_parameter_file_is_none_ends_with_what_it_is(content: bytes, told: str, tmp_path: Path):
    pytest.importorskip("rclpy", reason="needs ROS 2")
    (tmp_path / "node.yaml").write_bytes(content)
    code = "import sys; from cnn_perception.ros import process; sys.exit(process.run(None, None, sys.argv[1:]))"
    arguments = ["--ros-args", "--params-file", str(tmp_path / "node.yaml")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert f"error: {tmp_path / 'node.yaml'}: {told}" in done.stderr.splitlines()[-1]


def test_what_begins_otherwise_and_what_cannot_be_read_is_passed_over(tmp_path: Path):
    for content in (b"", b"path,label\n", b"version: 1\n", b"<xml>", b"# <html>"):
        assert what_instead(content, "table") == ""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "missing", Path("a\0b")):
        assert what_is_at(path, "table") == ""
