"""Owns: images that were moved after training: proven to be the same by their digest, or the difference is said."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil

import pytest
from PIL import Image
from tiny_images import picture
from tiny_run import command_line, write_photos

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from cnn_perception.model.onnx_file import read_onnx_file
from cnn_perception.model.spec import GALLERY_KEY, METADATA_KEY
from training import checkpoint, evaluate, export
from training.train import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run whose images and classes file are gone from where they were, and where they are now."""
    root = tmp_path_factory.mktemp("trained")
    photos = write_photos(root / "photos")
    (root / "labels.txt").write_text("turn\ngo\nstop\n")
    words = command_line(photos, root / "it's run #1 $HOME", epochs=1, classes=root / "labels.txt", unknown="none")
    assert main(words) == EXIT_OK
    (root / "labels.txt").unlink()
    return root / "it's run #1 $HOME", photos.rename(root / "moved")


def exported(run, tmp_path, *words):
    return export.main(
        ["--checkpoint", str(run / "best.pt"), "--output", str(tmp_path / "m.onnx"), "--max-accuracy-loss", "1", *words]
    )


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained[1], tmp_path / "copy")


@pytest.mark.parametrize("option", ["--int8", "--gallery", "--parity-images=3"])
def test_moved_images_are_used_as_if_they_had_stayed(trained, tmp_path, option):
    run, moved = trained

    assert exported(run, tmp_path, option, "--data", str(moved)) == EXIT_OK

    file = read_onnx_file(tmp_path / "m.onnx")
    spec = json.loads(file.metadata[METADATA_KEY])
    assert spec["parity"]["source"] == "validation"
    assert spec["class_names"] == ["turn", "go", "stop"]
    if option == "--gallery":
        assert GALLERY_KEY in file.metadata
        names = {name.partition("/")[0] for name in spec["gallery"]["names"]}
        assert names == {"go", "stop", "turn"}


@pytest.mark.parametrize("option", ["--int8", "--gallery", "--fp16"])
def test_without_the_images_it_is_said_how_to_say_where_they_are(trained, tmp_path, capsys, option):
    assert exported(trained[0], tmp_path, option) == EXIT_BAD_INPUT

    assert "say with --data where they are now" in capsys.readouterr().err.splitlines()[-1]


def test_without_the_images_fp32_is_compared_on_noise(trained, tmp_path):
    assert exported(trained[0], tmp_path) == EXIT_OK

    assert json.loads(read_onnx_file(tmp_path / "m.onnx").metadata[METADATA_KEY])["parity"]["source"] == "noise"


def spoil(path):
    Image.fromarray(picture((9, 99, 9), 4711)).save(path)


CHANGES = {
    "lacks 1 of the 40 images": lambda data: (data / "go" / "03.png").unlink(),
    "lacks 40 of the 40 images": lambda data: data.rename(data.parent / "photos").parent.joinpath("copy").mkdir(),
    r"1 images are new or of another part \(first .*copy/go/99.png\)": lambda data: spoil(data / "go" / "99.png"),
    "the contents of files differ": lambda data: spoil(data / "stop" / "05.png"),
}


@pytest.mark.parametrize("message", CHANGES)
def test_other_images_are_refused_and_what_differs_is_said_in_one_line(trained, copy, tmp_path, capsys, message):
    CHANGES[message](copy)
    if not any(copy.iterdir()):
        for name in ("a", "b"):
            (copy / name).mkdir()

    assert exported(trained[0], tmp_path, "--data", str(copy)) == EXIT_BAD_INPUT

    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {copy}: ")
    assert re.search(message, error)
    assert not (tmp_path / "m.onnx").exists()


def test_a_wrong_place_is_refused(trained, tmp_path, capsys):
    run, moved = trained
    (tmp_path / "labels.csv").write_text("path,class\n")
    for place, message in ((tmp_path / "none", "no such folder"), (tmp_path / "labels.csv", "is no folder, as")):
        assert exported(run, tmp_path, "--data", str(place)) == EXIT_BAD_INPUT
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        export.main(["--backbone", "lenet5", "--classes", "3", "--output", "m.onnx", "--data", str(moved)])


def test_a_table_and_its_images_can_be_moved_too(tmp_path):
    photos = write_photos(tmp_path / "old" / "photos")
    rows = [(path.relative_to(tmp_path / "old"), path.parent.name) for path in sorted(photos.rglob("*.png"))]
    with (tmp_path / "old" / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "class"), *rows])
    assert main(command_line(tmp_path / "old" / "labels.csv", tmp_path / "run", epochs=1, unknown="none")) == EXIT_OK
    (tmp_path / "old").rename(tmp_path / "new")

    assert exported(tmp_path / "run", tmp_path, "--int8", "--data", str(tmp_path / "new" / "labels.csv")) == EXIT_OK
    assert exported(tmp_path / "run", tmp_path, "--data", str(tmp_path / "new")) == EXIT_BAD_INPUT


def test_moved_images_are_scored_although_the_file_of_their_classes_is_gone(trained, capsys):
    run, moved = trained

    assert evaluate.main(["--checkpoint", str(run / "best.pt"), "--data", str(moved)]) == EXIT_OK

    assert "val" in capsys.readouterr().out
    assert checkpoint.load(run / "best.pt").class_names == ("turn", "go", "stop")


def test_the_command_that_a_run_ends_with_can_be_pasted_whatever_its_folder_is_called(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / 'it\'s "run" #1 $HOME `id`'
    photos = write_photos(tmp_path / "my photos & more")
    assert main(command_line(photos, folder, epochs=1, unknown="none")) == EXIT_OK

    (command,) = (line for line in capsys.readouterr().out.splitlines() if "training.export" in line)

    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "training.export"]
    assert export.main(words[3:]) == EXIT_OK
    assert (tmp_path / "models" / "my photos & more_lenet5.onnx").is_file()
