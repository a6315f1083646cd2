"""Owns: the command, its page and files. Leaves to others: what the sections compute."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from checkpoints import checkpoint_of
from looked_at import samples_of
from PIL import Image

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK
from training import checkpoint
from training.look import page, sections
from training.look.command import main
from training.look.section import Picture
from training.look.sections import visualisation
from training.networks import backbones

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def saved(folder: Path, photos: Path, name: str = "squeezenet1_1", size: int = 64, classes: int = 3) -> Path:
    samples = samples_of(photos)
    of_part = {part: [sample for sample in samples if sample.part == part] for part in ("train", "val")}
    made = dataclasses.replace(
        checkpoint_of(
            name, backbones.build(name, classes), (size, size), sorted(path.name for path in photos.iterdir())
        ),
        train_images=tuple(str(sample.path) for sample in of_part["train"]),
        train_targets=tuple((float(sample.label),) for sample in of_part["train"]),
        val_images=tuple(str(sample.path) for sample in of_part["val"]),
        val_targets=tuple((float(sample.label),) for sample in of_part["val"]),
    )
    checkpoint.save(folder / "best.pt", made)
    return folder / "best.pt"


class Links(HTMLParser):
    """What a page would fetch, and what it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.pictures = 0

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.pictures += tag == "img"
        for name in ("src", "href"):
            if name in given and not given[name].startswith(("data:", "#")):
                self.fetched.append(given[name])


@pytest.fixture(scope="module")
def looked(photos, tmp_path_factory):
    """A page of all sections, of a network of random weights."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(visualisation, "_STEPS", 2)
        patch.setattr(visualisation, "_CLASS_STEPS", 2)
        words = ["--checkpoint", str(saved(folder, photos)), "--masks", str(write_masks(folder, photos))]
        assert main([*words, "--units", "2", "--visualised-units", "2"]) == EXIT_OK
    return folder / "look"


def write_masks(folder: Path, photos: Path) -> Path:
    """Of each picture its middle as its class."""
    names = sorted(path.name for path in photos.iterdir())
    masks = folder / "masks"
    for place, name in enumerate(names):
        (masks / name).mkdir(parents=True)
        for path in (photos / name).iterdir():
            labels = np.zeros((24, 40), np.uint8)
            labels[6:18, 10:30] = place + 1
            Image.fromarray(labels).save(masks / name / path.name)
    (masks / "classes.csv").write_text("index,name\n" + "".join(f"{1 + i},{name}\n" for i, name in enumerate(names)))
    return masks


def test_the_page_is_one_file_and_its_pictures_and_figures_lie_beside_it(looked):
    links = Links()
    links.feed((looked / "look.html").read_text())
    facts = json.loads((looked / "look.json").read_text())

    assert links.fetched == []
    assert links.pictures == len(list(looked.rglob("*.png")))
    assert tuple(facts["sections"]) == sections.NAMES
    assert [name for name, section in facts["sections"].items() if "missing" in section] == []
    assert facts["images"] == facts["of_images"] == 24
    assert (looked / "look.html").stat().st_size < 8e6


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_page_opens_in_a_browser_without_a_fault(looked, tmp_path):
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--dump-dom", (looked / "look.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip

    assert all(title in done.stdout for title in sections.TITLES.values())
    assert "CONSOLE" not in done.stderr


def test_the_same_run_looks_the_same_again(looked, photos, tmp_path):
    assert main(["--checkpoint", str(looked.parent / "best.pt"), "--sections", "patches", "--units", "2",
                 "--output", str(tmp_path)]) == EXIT_OK  # fmt: skip

    for path in (tmp_path / "figures").rglob("*.png"):
        assert path.read_bytes() == (looked / path.relative_to(tmp_path)).read_bytes()


def test_a_section_that_cannot_be_made_is_told_in_the_page_and_the_others_are_made(photos, tmp_path, capsys):
    path = saved(tmp_path, photos, "mlp", 28)

    assert main(["--checkpoint", str(path), "--sections", "filters", "layers"]) == EXIT_OK
    page = (tmp_path / "look" / "look.html").read_text()
    facts = json.loads((tmp_path / "look" / "look.json").read_text())
    assert "mlp has no convolution whose filters could be drawn" in page
    assert "left out: mlp has no maps" in capsys.readouterr().out
    assert {"seconds", "missing"} == set(facts["sections"]["layers"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--checkpoint", "nowhere.pt"], "no such checkpoint"),
        (["--checkpoint", "RUN", "--units", "0"], "--units"),
        (["--checkpoint", "RUN", "--seed", "-1"], "--seed: -1 is out of range"),
        (["--checkpoint", "RUN", "--seed", str(2**32)], "--seed"),
        (["--checkpoint", "RUN", "--data", "nowhere"], "nowhere"),
        (["--checkpoint", "RUN", "--images", "nowhere.png"], "nowhere.png"),
        (["--checkpoint", "RUN", "--images", "/"], "/: cannot be read"),
        (["--checkpoint", "RUN", "--masks", "nowhere"], "nowhere: there is no such folder of masks"),
        (["--checkpoint", "RUN", "--masks", "/"], "has no classes.csv"),
        (["--checkpoint", "RUN", "--output", __file__], "cannot be made"),
        (["--checkpoint", "RUN", "--output", "/proc/self/task"], "free or choose another --output"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line_before_anything_is_computed(
    arguments, told, looked, capsys, monkeypatch
):
    words = [str(looked.parent / "best.pt") if word == "RUN" else word for word in arguments]
    monkeypatch.setattr(sections, "section", pytest.fail)

    assert main(words) == EXIT_BAD_INPUT
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert told in line


def test_a_page_of_somebody_else_is_not_overwritten(photos, tmp_path, capsys):
    path = saved(tmp_path, photos)
    (tmp_path / "look").mkdir()
    (tmp_path / "look" / "look.html").write_text("mine")

    assert main(["--checkpoint", str(path), "--sections", "filters"]) == EXIT_BAD_INPUT
    assert "look.html" in capsys.readouterr().err
    assert (tmp_path / "look" / "look.html").read_text() == "mine"


def test_a_folder_of_figures_of_somebody_else_is_left_alone(photos, tmp_path, capsys):
    (tmp_path / "out" / "figures").mkdir(parents=True)
    (tmp_path / "out" / "figures" / "mine.png").write_text("mine")

    words = ["--checkpoint", str(saved(tmp_path, photos, "lenet5", 32)), "--output", str(tmp_path / "out")]
    assert main([*words, "--sections", "filters"]) == EXIT_BAD_INPUT
    assert "figures: is there already, and not of an earlier run" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*.png")] == ["mine.png"]


def filters_of(folder: Path, photos: Path) -> int:
    path = folder / "best.pt"
    made = path if path.exists() else saved(folder, photos, "lenet5", 32)
    return main(["--checkpoint", str(made), "--sections", "filters"])


def test_figures_of_an_earlier_run_go_with_it(photos, tmp_path):
    words = ["--checkpoint", str(saved(tmp_path, photos, "lenet5", 32)), "--units", "1"]
    assert main([*words, "--sections", "layers"]) == EXIT_OK

    assert filters_of(tmp_path, photos) == EXIT_OK

    assert [path.name for path in (tmp_path / "look" / "figures").iterdir()] == ["filters"]
    assert {path.name for path in (tmp_path / "look").iterdir()} == {"look.html", "look.json", "figures"}


@pytest.mark.parametrize("moment", ["_write_pictures", "_take_place", "_page"])
def test_interrupted_while_it_is_written_the_page_before_is_whole(moment, photos, tmp_path, monkeypatch, capsys):
    assert filters_of(tmp_path, photos) == EXIT_OK
    before = {path: path.read_bytes() for path in (tmp_path / "look").rglob("*.*") if path.is_file()}
    monkeypatch.setattr(page, moment, mock.Mock(side_effect=KeyboardInterrupt))

    assert filters_of(tmp_path, photos) == EXIT_INTERRUPTED

    assert "interrupted: no page is written" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "look").rglob("*.*") if path.is_file()} == before


def test_interrupted_between_its_files_there_is_no_page(photos, tmp_path, monkeypatch):
    assert filters_of(tmp_path, photos) == EXIT_OK
    monkeypatch.setattr(page, "write_text", mock.Mock(side_effect=KeyboardInterrupt))

    assert filters_of(tmp_path, photos) == EXIT_INTERRUPTED

    assert not (tmp_path / "look" / "look.html").exists()
    monkeypatch.undo()
    assert filters_of(tmp_path, photos) == EXIT_OK
    assert (tmp_path / "look" / "look.html").is_file()


def test_a_full_disk_is_one_line_and_the_page_before_is_whole(photos, tmp_path, monkeypatch, capsys):
    assert filters_of(tmp_path, photos) == EXIT_OK
    before = (tmp_path / "look" / "look.html").read_bytes()
    monkeypatch.setattr(Picture, "png", mock.Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))

    assert filters_of(tmp_path, photos) == EXIT_BAD_INPUT

    *_, line = capsys.readouterr().err.strip().splitlines()
    assert "disk full" in line
    assert (tmp_path / "look" / "look.html").read_bytes() == before


def test_names_of_classes_and_images_are_text_and_no_markup(photos, tmp_path):
    root = tmp_path / "photos"
    shutil.copytree(photos / "go", root / "<b>go")
    shutil.copytree(photos / "stop", root / "stop & $go$")
    (root / "<b>go" / "03.png").rename(root / "<b>go" / "<img src=x>.png")
    path = saved(tmp_path, root, "lenet5", 32, classes=2)

    assert main(["--checkpoint", str(path), "--sections", "layers", "patches", "neighbours", "--units", "1"]) == EXIT_OK

    shown = (tmp_path / "look" / "look.html").read_text()
    assert "&lt;b&gt;go" in shown
    assert "&lt;img src=x&gt;.png" in shown
    assert "<b>go" not in shown
    assert "<img src=x" not in shown


def test_every_section_has_a_file(photos):
    for name in sections.NAMES:
        assert (Path(sections.__file__).parent / f"{name}.py").is_file(), name
