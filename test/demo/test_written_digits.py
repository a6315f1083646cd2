"""Owns: the folder of handwritten digits. Leaves to others: what is learned of it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from demo.digits import main


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.png")}


def test_every_digit_lies_in_the_folder_of_its_label_and_shows_its_pixels(tmp_path, capsys):
    assert main(["--output", str(tmp_path / "digits")]) == EXIT_OK

    assert "1797 pictures of 10 digits" in capsys.readouterr().out
    images, labels = load_digits(return_X_y=True)
    found = sorted((tmp_path / "digits").glob("*/*.png"), key=lambda path: path.stem)
    assert [path.parent.name for path in found] == list(map(str, labels))
    for number in (0, 1000, 1796):
        with Image.open(found[number]) as picture:
            small = cv2.resize(np.asarray(picture), (8, 8), interpolation=cv2.INTER_AREA)
        assert picture.size == (32, 32)
        assert np.corrcoef(small.ravel(), images[number])[0, 1] > 0.97


def test_a_choice_of_digits_is_of_the_first_ones_and_writing_it_again_changes_nothing(tmp_path):
    arguments = ["--output", str(tmp_path / "few"), "--digits", "7", "3", "--each", "5"]
    labels = load_digits().target
    assert main(arguments) == EXIT_OK
    first = contents(tmp_path / "few")

    assert main(arguments) == EXIT_OK

    assert contents(tmp_path / "few") == first
    assert {int(path.stem) for path in first if path.parent.name == "7"} == set(np.flatnonzero(labels == 7)[:5])
    assert {path.parent.name for path in first} == {"3", "7"}


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")

    assert main(["--output", str(tmp_path), "--each", "1"]) == EXIT_BAD_INPUT

    assert "holds something else" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("arguments", [["--each", "0"], ["--digits", "10"], ["--digits", "x"]])
def test_nonsense_is_refused(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--output", str(tmp_path / "a"), *arguments])
    assert arguments[0] in capsys.readouterr().err
