"""Owns: the command, its page and files. Leaves to others: what the sections compute."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from checkpoints import checkpoint_of
from looked_at import samples_of

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from training import checkpoint
from training.look import sections
from training.look.command import main
from training.networks import backbones

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FAST = ("filters", "layers", "patches")


def saved(folder: Path, photos: Path, name: str = "squeezenet1_1", size: int = 64) -> Path:
    samples = samples_of(photos)
    of_part = {part: [sample for sample in samples if sample.part == part] for part in ("train", "val")}
    made = dataclasses.replace(
        checkpoint_of(name, backbones.build(name, 3), (size, size), sorted(path.name for path in photos.iterdir())),
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
    folder = tmp_path_factory.mktemp("run")
    code = main(["--checkpoint", str(saved(folder, photos)), "--sections", *FAST, "--units", "2"])
    assert code == EXIT_OK
    return folder / "look"


def test_the_page_is_one_file_and_its_pictures_and_figures_lie_beside_it(looked):
    links = Links()
    links.feed((looked / "look.html").read_text())
    facts = json.loads((looked / "look.json").read_text())

    assert links.fetched == []
    assert links.pictures == len(list(looked.rglob("*.png")))
    assert tuple(facts["sections"]) == FAST
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

    assert "What a unit looks for" not in done.stdout
    assert "What excites a unit" in done.stdout
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
        (["--checkpoint", "RUN", "--data", "nowhere"], "nowhere"),
        (["--checkpoint", "RUN", "--images", "nowhere.png"], "nowhere.png"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(arguments, told, looked, capsys):
    words = [str(looked.parent / "best.pt") if word == "RUN" else word for word in arguments]

    assert main([*words, "--sections", "filters", "layers"]) == EXIT_BAD_INPUT
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


def test_every_section_has_a_file(photos):
    for name in sections.NAMES:
        assert (Path(sections.__file__).parent / f"{name}.py").is_file(), name
