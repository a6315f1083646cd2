"""Owns: what a data set looks like before training, as a page. Leaves to others: what is noticed (test_check)."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_images import scene, write_folder
from tiny_run import tiny_run

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD
from training.batches import mixup
from training.batches.mixup import Mixing
from training.check import main
from training.report.preview import denormalised

VOID = {"img", "meta", "br", "link", "line", "rect"}
BATCHES = ("--input-size", "32x40", "--batch-size", "8", "--augment", "light,rotate")


class Page(HTMLParser):
    """Headings with the pictures and texts below them; tags that are not closed as they were opened are an error."""

    def __init__(self, path):
        super().__init__()
        self.sections: dict[str, list[tuple[str, bytes]]] = {}
        self.text, self.open, self.references = "", [], []
        self.heading = None
        self.feed(path.read_text())
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "h2":
            self.heading = ""
        if tag == "img":
            self.references.append(values["src"])
            name = next(reversed(self.sections))
            self.sections[name].append((values["alt"], base64.b64decode(values["src"].partition(",")[2])))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "h2":
            self.sections[self.heading] = []
            self.heading = None

    def handle_data(self, data):
        self.text += f" {data}"
        if self.heading is not None:
            self.heading += data

    def pixels(self, heading):
        decoded = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for _, data in self.sections[heading]]
        return np.stack(decoded)[..., ::-1]


def shown(root, page, *more):
    assert main(["--data", str(root), "--preview", str(page), *more]) == EXIT_OK
    return Page(page)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("preview") / "signs & <more>", {"go": 14, "$top": 16, "turn": 12})


def expected(tensors):
    """The pictures of preprocessed images, by the formula of the normalisation."""
    mean, std = (np.array(values, np.float64) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return np.rint((tensors.numpy().transpose(0, 2, 3, 1) * std + mean) * 255)


def test_the_pictures_are_the_batches_that_training_gets(photos, tmp_path):
    page = shown(photos, tmp_path / "p.html", *BATCHES)

    run = tiny_run(photos, tmp_path / "run", mode="finetune", weights="none", augment=("light", "rotate"))
    loader, order = run.training_batches()
    for order.epoch in range(2):
        batch = next(iter(loader))
        assert np.array_equal(page.pixels(f"First batch of epoch {order.epoch + 1}"), expected(batch.images))
        names = [run.data.class_names[label] for label in batch.labels.tolist()]
        assert [alt for alt, _ in page.sections[f"First batch of epoch {order.epoch + 1}"]] == names
    val = next(iter(run.evaluation_batches("val")))
    assert np.array_equal(page.pixels("Val images, as the robot sees them")[0], expected(val.images)[0])


def test_mixed_images_are_shown_mixed_with_their_shares(photos, tmp_path):
    page = shown(photos, tmp_path / "p.html", *BATCHES, "--mixup", "0.4")

    run = tiny_run(photos, tmp_path / "run", mode="finetune", weights="none", augment=("light", "rotate"), mixup=0.4)
    batch = next(iter(run.training_batches()[0]))
    mixed, targets = mixup.mix(batch.images, batch.labels, 3, Mixing.of(run.config, "multiclass"), 0, 0)
    assert np.abs(page.pixels("First batch of epoch 1") - expected(mixed)).max() <= 1
    told = [alt for alt, _ in page.sections["First batch of epoch 1"]]
    assert [f"{float(row.max()):.2f}" in text for row, text in zip(targets, told, strict=True)] == [True] * 8


def test_denormalising_gives_back_every_grey_level():
    grey = torch.arange(256, dtype=torch.float32).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    std, mean = (torch.tensor(values).reshape(3, 1, 1) for values in (IMAGENET_STD, IMAGENET_MEAN))

    spec = type("Spec", (), {"mean": IMAGENET_MEAN, "std": IMAGENET_STD})
    back = denormalised((grey / 255 - mean) / std, spec)

    assert np.array_equal(back[0, ..., 0].ravel(), np.arange(256))


def test_the_split_and_the_balance_are_shown(photos, tmp_path):
    page = shown(photos, tmp_path / "p.html", *BATCHES)

    rows = re.sub(r"\s+", " ", page.text)
    for name, train, val in (("go", 11, 3), ("$top", 13, 3), ("turn", 10, 2)):
        assert f"{name} {train} {val}" in rows
    assert "images 34 8" in rows
    assert page.pixels("Balance").shape[1] > 100
    assert all(reference.startswith("data:image/") for reference in page.references)


def test_copies_stand_side_by_side_and_bad_files_are_named(tmp_path):
    root = tmp_path / "d"
    for part, first, count in (("train", 0, 24), ("val", 100, 6)):
        for number in range(count):
            place = root / part / "ab"[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene(first + number, 60, 80)).save(place / f"{number}.png")
    shutil.copy(root / "train" / "a" / "2.png", root / "train" / "a" / "again.png")
    Image.fromarray(scene(4, 60, 80)).resize((160, 120)).save(root / "val" / "a" / "larger.png")
    (root / "train" / "b" / "1.png").write_bytes(b"no picture")

    page = shown(root, tmp_path / "p.html", *BATCHES)

    names = [alt.rpartition("/")[2] for alt, _ in page.sections["Findings"]]
    assert names == ["larger.png", "4.png", "again.png", "2.png"]  # what leaks comes first
    assert "near duplicate across parts" in page.text
    assert "cannot be used" in page.text
    large, small = (cv2.imdecode(np.frombuffer(data, np.uint8), 1) for _, data in page.sections["Findings"][:2])
    assert np.abs(cv2.resize(large, (80, 60)).astype(int) - small).mean() < 6


def test_a_data_set_that_is_refused_shows_why(photos, tmp_path, capsys):
    root = shutil.copytree(photos, tmp_path / "d")
    shutil.copy(root / "go" / "03.png", root / "turn" / "99.png")

    assert main(["--data", str(root), "--preview", str(tmp_path / "p.html")]) == EXIT_BAD_INPUT

    page = Page(tmp_path / "p.html")
    assert "have two labels" in page.text
    assert sorted(alt.rpartition("/")[2] for alt, _ in page.sections["Findings"]) == ["03.png", "99.png"]
    assert "have two labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("train", "class missing from a part: class 'stop' has no image in train and val, only in test"),
        ("", "class without images: class 'stop' holds no image"),
    ],
)
def test_classes_that_contradict_the_data_set_are_shown_though_no_image_was_read(part, says, photos, tmp_path, capsys):
    root = tmp_path / "d"
    for one in ("train", "val", "test") if part else ("",):
        shutil.copytree(photos, root / one, dirs_exist_ok=True)
        (root / one / "stop").mkdir()
    if part:
        shutil.copy(photos / "go" / "03.png", root / "test" / "stop" / "1.png")

    assert main(["--data", str(root), "--preview", str(tmp_path / "p.html")]) == EXIT_BAD_INPUT

    page = Page(tmp_path / "p.html")
    assert page.sections["Findings"] == []  # a class has no picture
    assert re.sub(r"\s+", " ", page.text).count(says) == 1
    assert "Cannot be trained with" in page.text
    assert "shown in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("columns", "cells", "more", "says"),
    [
        (("red", "warm"), lambda k: (k % 2, int(k > 4)), ("--task", "multilabel"), "red 8 2"),
        (("angle",), lambda k: (k / 10,), ("--targets", "angle:rad"), "angle 0.9"),
    ],
    ids=["multilabel", "regression"],
)
def test_other_tasks_are_shown_too(columns, cells, more, says, photos, tmp_path):
    files = sorted(photos.glob("go/*.png")) + sorted(photos.glob("turn/*.png"))[:6]
    lines = [",".join(("path", *columns))]
    lines += [",".join(map(str, (path, *cells(number)))) for number, path in enumerate(files)]
    (tmp_path / "t.csv").write_text("\n".join(lines))

    page = shown(tmp_path / "t.csv", tmp_path / "p.html", *BATCHES, *more)

    assert len(page.sections["First batch of epoch 1"]) == 8
    assert says in re.sub(r"\s+", " ", page.text)
    assert len(page.sections["Balance"]) == 1


def test_a_file_that_is_no_preview_is_not_overwritten(photos, tmp_path, capsys):
    (tmp_path / "p.html").write_text("mine")

    assert main(["--data", str(photos), "--preview", str(tmp_path / "p.html")]) == EXIT_BAD_INPUT

    assert (tmp_path / "p.html").read_text() == "mine"
    assert "no preview" in capsys.readouterr().err
    shown(photos, tmp_path / "q.html", *BATCHES)
    shown(photos, tmp_path / "q.html", *BATCHES)  # its own it may


def test_what_is_written_makes_the_folders_above_it(photos, tmp_path, capsys):
    (photos / "go" / "empty.png").write_bytes(b"")
    listed, page = tmp_path / "lists" / "of" / "findings.csv", tmp_path / "pages" / "of" / "p.html"

    assert main(["--data", str(photos), "--csv", str(listed), "--preview", str(page), *BATCHES]) == EXIT_OK

    assert "empty.png" in listed.read_text()
    assert "empty.png" in page.read_text()


def test_settings_of_batches_that_nothing_shows_are_said_to_have_no_effect(photos, capsys):
    assert main(["--data", str(photos), "--augment", "color"]) == EXIT_OK

    assert "warning: --augment has no effect without --preview" in capsys.readouterr().out


def test_a_browser_shows_the_page_without_an_error(photos, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here")
    shown(photos, tmp_path / "p.html", *BATCHES)

    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        [browser, *options, profile, (tmp_path / "p.html").as_uri()], capture_output=True, text=True, timeout=120
    )

    assert "CONSOLE" not in done.stderr
    assert "First batch of epoch 1" in done.stdout
