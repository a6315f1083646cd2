"""Owns: `training.check --labels` as a command: its files, its page, its errors. Leaves to others: what is found."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from checkpoints import checkpoint_of
from PIL import Image
from tiny_images import write_folder
from tiny_model import write_tiny_model

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK
from training import checkpoint
from training.batches import feature_cache
from training.check import main
from training.label.worklist import answers_asked_for
from training.label_errors import features, measures
from training.label_errors.page import MOST_OF_GROUP
from training.networks import backbones

FILES = {"labels.html", "suspects.csv", "classes.txt", "labels.json"}


@pytest.fixture
def spoilt(digits: Path, tmp_path: Path) -> Path:
    """The digits with eight pictures in the folder of another class."""
    root = tmp_path / "digits <i>"
    shutil.copytree(digits, root)
    for number in range(8):
        path = sorted((root / "0127"[number % 4]).glob("0*.png"))[number]
        path.rename(root / "1270"[number % 4] / f"moved{number}.png")
    return root


def run(*words: object) -> int:
    return main([str(word) for word in words])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_page_worklist_and_record_say_the_same(spoilt, tmp_path, capsys):
    out = tmp_path / "out"

    assert run("--data", spoilt, "--labels", "--output", out) == EXIT_OK

    assert {path.name for path in out.iterdir()} == FILES
    record = json.loads((out / "labels.json").read_text())
    said = capsys.readouterr().out
    moved = {Path(one["path"]).name for one in record["findings"] if one["kind"] == "label"}
    assert len([name for name in moved if name.startswith("moved")]) >= 7
    assert f"{record['counts']['label']} labels that the other images contradict" in said
    listed = rows_of(out / "suspects.csv")
    assert {(out / row["path"]).resolve() for row in listed} == {Path(one["path"]) for one in record["findings"]}
    doubts = [float(row["doubt"]) for row in listed]
    assert doubts == sorted(doubts, reverse=True)
    assert (out / "classes.txt").read_text().split() == ["0", "1", "2", "7"]
    page = (out / "labels.html").read_text()
    assert all(name in page for name in moved)
    assert "&lt;i&gt;" in page
    assert "<i>" not in re.sub(r'<i style="width:[^"]*">', "", page)
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert page.count("data:image/jpeg") >= len(record["findings"])


def test_page_is_capped_and_says_so(tmp_path):
    """Every picture of one class is black: they all have one finding, and not all are shown."""
    root = write_folder(tmp_path / "d", {"a": 40, "b": 40})
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 9, (24, 40, 3), np.uint8)
        Image.fromarray(pixels).save(root / "a" / f"{number:02}.png")

    assert run("--data", root, "--labels", "--output", tmp_path / "out") == EXIT_OK

    page = (tmp_path / "out" / "labels.html").read_text()
    assert json.loads((tmp_path / "out" / "labels.json").read_text())["counts"]["dark"] == 40
    assert f"{40 - MOST_OF_GROUP} more of these are not shown" in page
    assert len(rows_of(tmp_path / "out" / "suspects.csv")) >= 40


def test_without_an_output_the_worst_are_said_and_nothing_is_written(spoilt, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))

    assert run("--data", spoilt, "--labels") == EXIT_OK

    assert "moved" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before


def test_images_that_cannot_be_read_are_left_out_and_said(spoilt, capsys):
    (spoilt / "0" / "broken.png").write_bytes(b"")
    (spoilt / "1" / "text.jpg").write_text("<html>404</html>")

    assert run("--data", spoilt, "--labels") == EXIT_OK

    said = capsys.readouterr().out
    assert "2 images cannot be read and are left out" in said
    assert "broken.png (empty" in said


def test_a_worklist_with_decisions_is_not_overwritten(spoilt, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("--data", spoilt, "--labels", "--output", out) == EXIT_OK
    assert run("--data", spoilt, "--labels", "--output", out) == EXIT_OK  # its own, undecided
    text = (out / "suspects.csv").read_text()
    first = text.splitlines()[1]
    cells = next(csv.reader([first]))
    decided = text.replace(first, ",".join([*cells[:2], "labelled", *cells[3:6], "x", ""]))
    (out / "suspects.csv").write_text(decided)

    assert run("--data", spoilt, "--labels", "--output", out) == EXIT_BAD_INPUT

    assert "holds 1 decisions; bring them back with --apply" in capsys.readouterr().err
    assert (out / "suspects.csv").read_text() == decided


def test_files_of_others_and_the_images_are_left_alone(spoilt, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "labels.html").write_text("mine")

    assert run("--data", spoilt, "--labels", "--output", tmp_path / "out") == EXIT_BAD_INPUT
    assert run("--data", spoilt, "--labels", "--output", spoilt / "0") == EXIT_BAD_INPUT

    assert (tmp_path / "out" / "labels.html").read_text() == "mine"
    assert "lies in" in capsys.readouterr().err


def one_class(root):
    return write_folder(root, {"only": 20})


def few(root):
    return write_folder(root, {"a": 4, "b": 4})


def all_broken(root):
    write_folder(root, {"a": 10, "b": 10})
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    return root


UNUSABLE = {
    one_class: "one class only ('only')",
    few: "8 usable images are too few to judge labels by; at least 10",
    all_broken: "0 usable images are too few",
    lambda root: root: "d: ",
}


@pytest.mark.parametrize("make", UNUSABLE, ids=["one_class", "few", "all_broken", "none"])
def test_data_that_cannot_be_judged_are_one_line(make, tmp_path, capsys):
    root = make(tmp_path / "d")

    assert run("--data", root, "--labels") == EXIT_BAD_INPUT

    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert UNUSABLE[make] in lines[0]


def test_images_that_are_all_the_same_are_copies_with_another_label(tmp_path, capsys):
    root = write_folder(tmp_path / "d", {"a": 10, "b": 10})
    for path in root.rglob("*.png"):
        Image.new("RGB", (20, 20), (90, 90, 90)).save(path)

    assert run("--data", root, "--labels") == EXIT_OK

    assert "20 copies with another label" in capsys.readouterr().out


CONFLICTS = {
    ("--labels", "--apply", "x.csv"): "--labels and --apply",
    ("--apply", "x.csv"): "--output is missing",
    ("--skipped", "keep"): "--skipped has no effect without --apply",
    ("--output", "x"): "--output has no effect without --labels",
    ("--model", "m.onnx"): "--model has no effect without --labels",
    ("--weights", "none"): "--weights has no effect without --labels",
    ("--labels", "--backbone", "resnet18"): "--backbone has no effect without --weights",
    ("--labels", "--weights", "none", "--model", "m.onnx"): "--model and --weights: both give features",
    ("--labels", "--csv", "x.csv"): "--csv has no effect with --labels",
    ("--labels", "--preview", "x.html"): "--preview has no effect with --labels",
}


@pytest.mark.parametrize("words", CONFLICTS, ids=" ".join)
def test_options_that_contradict_each_other_are_one_line(words, tmp_path, capsys):
    assert run("--data", tmp_path, *words) == EXIT_BAD_INPUT

    assert CONFLICTS[words] in capsys.readouterr().err


def test_features_of_a_network_are_kept_by_content(digits, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(feature_cache.FOLDER, str(tmp_path / "cache"))
    words = ["--data", digits, "--labels", "--weights", "none", "--backbone", "lenet5", "--input-size", "32"]

    assert run(*words, "--workers", 0) == EXIT_OK
    first = capsys.readouterr().out
    assert run(*words, "--workers", 0) == EXIT_OK
    second = capsys.readouterr().out

    assert "are known" not in first
    assert "features of 200 of 200 images are known from earlier runs" in second
    assert "judged by lenet5" in second


def test_features_of_a_checkpoint_say_if_it_has_learned_from_the_images(digits, tmp_path, capsys):
    seen = tuple(str(path) for path in sorted(digits.rglob("*.png"))[:30])
    network = backbones.build("lenet5", 5, size=(32, 32))
    saved = checkpoint_of("lenet5", network, (32, 32))
    checkpoint.save(tmp_path / "best.pt", saved)
    checkpoint.save(tmp_path / "seen.pt", type(saved)(**{**vars(saved), "train_images": seen}))

    assert run("--data", digits, "--labels", "--checkpoint", tmp_path / "best.pt") == EXIT_OK
    assert "has learned from" not in capsys.readouterr().out
    assert run("--data", digits, "--labels", "--checkpoint", tmp_path / "seen.pt") == EXIT_OK
    assert "has learned from 30 of these images" in capsys.readouterr().out


def test_embeddings_of_a_model_file_judge_labels(tmp_path, capsys):
    """The tiny model's embedding is the mean colour of a picture."""
    colors = ((200, 30, 30), (30, 30, 200))
    rng = np.random.default_rng(0)
    for number in range(60):
        folder = tmp_path / "d" / "rb"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shown = colors[(number + (number in (8, 31))) % 2]
        pixels = np.clip(rng.normal(shown, 20, (24, 32, 3)) + rng.normal(0, 15, 3), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:02}.png")
    write_tiny_model(tmp_path / "m.onnx")

    assert run("--data", tmp_path / "d", "--labels", "--model", tmp_path / "m.onnx") == EXIT_OK

    said = capsys.readouterr().out
    assert "2 labels that the other images contradict" in said
    assert "08.png: labelled 'r'" in said
    assert "31.png: labelled 'b'" in said


def test_embeddings_of_a_model_are_found_again(digits, tmp_path, monkeypatch):
    from training.data.load import DataOptions, list_images
    from training.label_errors.record import meaning_of

    monkeypatch.setenv(feature_cache.FOLDER, str(tmp_path / "cache"))
    write_tiny_model(tmp_path / "m.onnx")
    data = meaning_of(list_images(digits, DataOptions()))

    first = features.of_model(tmp_path / "m.onnx")(data)
    monkeypatch.setattr(features, "_embedding", lambda *_: None)
    second = features.of_model(tmp_path / "m.onnx")(data)

    assert first.known.all()
    assert second.known.all()
    assert (first.rows == second.rows).all()


@pytest.mark.usefixtures("listens_to_ctrl_c")
def test_interrupted_nothing_is_written(digits, tmp_path, monkeypatch):
    interrupted = sorted(digits.rglob("*.png"))[20]
    measure = measures.measure

    def interrupting(path):
        if path.name == interrupted.name and path.parent.name == interrupted.parent.name:
            os.kill(os.getpid(), signal.SIGINT)
        return measure(path)

    monkeypatch.setattr(measures, "measure", interrupting)

    assert run("--data", digits, "--labels", "--output", tmp_path / "out") == EXIT_INTERRUPTED

    assert list((tmp_path / "out").glob("*")) == []


def test_an_image_that_two_tables_label_otherwise_is_found_and_asked_once(digits, tmp_path):
    images = sorted(path for name in "01" for path in (digits / name).glob("*.png"))
    one = tmp_path / "one.csv"
    one.write_text("path,class\n" + "".join(f"{path},{path.parent.name}\n" for path in images))
    other = tmp_path / "other.csv"
    other.write_text(f"path,class\n{images[0]},1\n{images[1]},0\n")

    assert run("--data", one, other, "--labels", "--output", tmp_path / "out") == EXIT_OK

    rows = rows_of(tmp_path / "out" / "suspects.csv")
    listed = [(tmp_path / "out" / row["path"]).resolve() for row in rows]
    assert listed[0] == images[0]
    assert f"the same pixels as {images[0].name}, which is labelled" in rows[0]["reason"]
    assert len(set(listed)) == len(listed)


def test_numbers_of_a_worklist_in_a_folder_with_a_blank_are_opened_by_the_command_that_is_said(
    digits, tmp_path, capsys
):
    table = tmp_path / "table.csv"
    images = sorted((digits / "0").glob("*.png"))
    table.write_text("path,angle,speed\n" + "".join(f"{path},{k / 50},1\n" for k, path in enumerate(images)))
    out = tmp_path / "my doubts"

    assert run("--data", table, "--targets", "angle:rad,speed", "--labels", "--output", out) == EXIT_OK

    words = shlex.split(capsys.readouterr().out.splitlines()[-1].partition("to decide: ")[2])
    assert words == ["python", "-m", "training.label", str(out / "suspects.csv"), "--targets", "angle:rad,speed"]
    assert answers_asked_for(out / "suspects.csv", "auto", ()).columns == ("angle", "speed")
