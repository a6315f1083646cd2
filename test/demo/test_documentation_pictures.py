"""Owns: the pictures of README and docs, each from what the demo leaves. Leaves to others: drawing, pages, networks."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from PIL import Image
from tiny_model import write_tiny_model

pytest.importorskip("rclpy", reason="the dashboard's picture needs ROS 2")
pytest.importorskip("torch", reason="needs what training needs")

from labelling import read_cells, rows_of, write_set

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, DataError
from cnn_perception.intervals import Estimate
from demo.pictures import auto, compressed, label, look, overlay
from demo.pictures.__main__ import PICTURES, main
from demo.pictures.sources import Sources
from demo.run import RATE_HZ
from training.auto import table
from training.auto.table import Line

PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)|<img src=\"([^\"]+)\"[^>]* alt=\"([^\"]+)\"")
RED, GREEN, BLUE, GREY = (250, 0, 0), (0, 250, 0), (0, 0, 250), (128, 128, 128)


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), np.uint8)


def write_picture(path: Path, colour: tuple[int, int, int], height: int = 8, width: int = 12) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), colour, np.uint8)).save(path)


def colours_of(path: Path, columns: list[int]) -> list[str]:
    """The name of the colour in the middle row of a picture, at some columns."""
    names = {"red": RED, "green": GREEN, "blue": BLUE, "white": (255, 255, 255)}
    row = pixels_of(path)[4]
    return [min(names, key=lambda name: np.abs(row[column] - np.int64(names[name])).sum()) for column in columns]


def shown(page: Path) -> dict[Path, str]:
    """The pictures of a page, with what is said of them."""
    found = PICTURE.findall(page.read_text(encoding="utf-8"))
    return {(page.parent / (path or src)).resolve(): text or alt for text, path, src, alt in found}


def test_every_picture_of_the_documentation_is_made_by_the_command_or_its_page_and_is_described():
    pages = {page: shown(page) for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]}
    pictures = {path for found in pages.values() for path in found}
    made = {ROOT / "docs" / one.file for one in PICTURES.values()}
    figures = ROOT / "docs" / "textbook" / "figures"

    assert {path for path in pictures if figures not in path.parents} == made - {figures}
    assert {path for path in pictures if not path.is_file()} == set()
    assert all(len(text) > 10 for found in pages.values() for text in found.values())


def drive(folder: Path, signs: list[str], rate_hz: float = RATE_HZ) -> Sources:
    """A drive past signs of two seconds each: at three quarters of one its left half is blue, else green."""
    write_tiny_model(folder / "model.onnx")
    (folder / "drive" / "frames").mkdir(parents=True)
    rows = []
    for number, name in enumerate(signs):
        start_s = 2.0 * number
        rows.append((start_s, start_s + 2.0, name))
        for frame in range(round(2 * rate_hz)):
            image = np.zeros((48, 64, 3), np.uint8)
            image[:, :32] = BLUE if frame == round(1.5 * rate_hz) else GREEN
            Image.fromarray(image).save(folder / "drive" / "frames" / f"{round(rate_hz * start_s) + frame:06}.png")
    with (folder / "drive" / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("start_s", "end_s", "class"), *rows])
    return Sources(folder, folder)


def test_overlay_shows_six_signs_when_they_are_near_with_answer_and_map(tmp_path):
    signs = ["stop", "clear_road", "yield", "stop", "speed_30", "no_entry", "turn_left", "speed_60", "turn_right"]

    said = overlay.make(drive(tmp_path, signs), tmp_path / "overlay.jpg")

    answers = [one.split(": ") for one in said.split(", ")]
    assert [name for name, _ in answers] == ["stop", "yield", "speed_30", "no_entry", "turn_left", "speed_60"]
    assert {answer.split()[0] for _, answer in answers} == {"blue"}
    pixels = pixels_of(tmp_path / "overlay.jpg").astype(int)
    assert pixels.shape == (2 * 288, 3 * 384, 3)
    for top in (0, 288):
        for left in (0, 384, 768):
            tile = pixels[top : top + 288, left : left + 384]
            # The map is strongest where the image is blue, whose colour it changes; elsewhere nothing is drawn.
            assert np.abs(tile[100, 60] - BLUE).max() > 50
            assert tile[100, 340].max() < 30


def test_a_drive_past_few_signs_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"labels\.csv: names 2 signs, fewer than 6"):
        overlay.make(drive(tmp_path, ["stop", "yield"]), tmp_path / "overlay.jpg")


@pytest.mark.parametrize(("suffix", "side"), [(".jpg", 520), (".png", 420)])
def test_a_picture_is_no_larger_than_a_page_can_carry(tmp_path, suffix, side):
    """Noise is the worst case; with 256 colours, and at a quality of 80, it would be larger."""
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    best = Image.fromarray(noise) if suffix == ".jpg" else Image.fromarray(noise).quantize(256)
    best.save(tmp_path / f"best{suffix}", quality=80, optimize=True, progressive=True)
    assert (tmp_path / f"best{suffix}").stat().st_size > compressed.MOST_BYTES

    compressed.write(noise, tmp_path / "deep" / f"noise{suffix}")

    assert (tmp_path / "deep" / f"noise{suffix}").stat().st_size <= compressed.MOST_BYTES
    assert pixels_of(tmp_path / "deep" / f"noise{suffix}").shape == noise.shape


def test_a_small_picture_keeps_its_colours(tmp_path):
    steps = np.repeat(np.arange(200, dtype=np.uint8).reshape(20, 10, 1), 3, axis=2)

    compressed.write(steps, tmp_path / "steps.png")

    assert (pixels_of(tmp_path / "steps.png") == steps).all()


@pytest.fixture
def looked(tmp_path: Path) -> Sources:
    """What a look has left: the pictures that the documentation shows are red, then green, then blue; others grey."""
    figures = tmp_path / "look" / "figures"
    units = {"conv1": (5, 6), "layer3.1": (7, 8), "layer4": (9, 2)}
    for layer, (first, second) in units.items():
        for unit in (first, second):
            write_picture(figures / "patches" / f"{layer.replace('.', '_')}_{unit}.png", GREY)
    write_picture(figures / "patches" / "layer4_9.png", RED)
    write_picture(figures / "patches" / "layer3_1_7.png", GREEN)
    classes = ["clear_road", "stop", "no_entry", "pedestrian_crossing"]
    for number, colour in enumerate((GREY, BLUE, RED, GREEN)):
        write_picture(figures / "visualisation" / f"answer_{number}.png", colour)
    for number, colour in enumerate((GREY, GREEN, RED)):
        write_picture(figures / "dissection" / f"concept_{number:02}.png", colour)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "classes.csv").write_text(
        "name,r,g,b,class\nstop,1,1,1,stop\nspeed_30,2,2,2,speed_30\nno_entry,3,3,3,no_entry\n"
    )
    concept = {"layer": "layer4", "unit": 3, "iou": 0.25, "cap": 0.5}
    sections = {
        "patches": {"layers": {name: {"units": [{"unit": unit} for unit in two]} for name, two in units.items()}},
        "dissection": {"concepts": {"no_entry": concept, "speed_30": {**concept, "unit": 4}, "stop": concept}},
    }
    (tmp_path / "look" / "look.json").write_text(json.dumps({"classes": classes, "sections": sections}))
    return Sources(tmp_path, tmp_path)


def test_parts_of_the_look_are_those_that_the_pages_speak_of(looked, tmp_path):
    said = look.patches(looked, tmp_path / "patches.png")
    assert said == "layer4 unit 9, layer3.1 unit 7"
    assert colours_of(tmp_path / "patches.png", [5, 16, 25]) == ["red", "white", "green"]

    said = look.visualisation(looked, tmp_path / "visualisation.png")
    assert said == "no_entry, pedestrian_crossing, stop"
    assert colours_of(tmp_path / "visualisation.png", [5, 25, 45]) == ["red", "green", "blue"]

    said = look.dissection(looked, tmp_path / "dissection.png")
    assert said.startswith("no_entry layer4 unit 3, IoU 0.25 of at most 0.50, speed_30 layer4 unit 4,")
    assert colours_of(tmp_path / "dissection.png", [5, 25]) == ["red", "green"]


def test_a_look_at_other_classes_is_refused(looked, tmp_path):
    record = tmp_path / "look" / "look.json"
    record.write_text(record.read_text().replace('"no_entry"', '"cat"'))

    for make in (look.visualisation, look.dissection):
        with pytest.raises(DataError, match=r"look: knows nothing of no_entry; give the demo of drawn images"):
            make(looked, tmp_path / "picture.png")


def search(folder: Path, *lines: Line) -> Sources:
    folder.mkdir()
    table.write(folder, lines, "top-1 accuracy")
    rows = [line.as_json() for line in lines]
    (folder / "auto.json").write_text(json.dumps({"rows": rows, "chosen": {"name": "good"}}))
    return Sources(folder, folder, folder)


def test_the_picture_of_a_search_is_drawn_from_its_record(tmp_path):
    one = Line("good", "none", "5 of 5", Estimate(0.9, 0.8, 0.95), 100, 5.0, 1.0, 10.0, "")
    fast = Line("fast", "none", "5 of 5", Estimate(0.7, 0.6, 0.8), 100, 1.0, 1.0, 10.0, "")
    late = Line("late", "none", "", None, 0, 7.0, 1.0, 0.0, "no time")

    said = auto.make(search(tmp_path / "run", one, fast, late), tmp_path / "auto.png")

    assert said == "2 points, front: fast, good; chosen: good"
    assert pixels_of(tmp_path / "auto.png").std() > 0
    with pytest.raises(DataError, match="none of its networks has answered"):
        auto.make(search(tmp_path / "late", late), tmp_path / "late.png")


def test_what_cannot_be_made_is_said_and_the_others_are_made(looked, tmp_path, capsys):
    given = ["--demo", str(tmp_path), "--loop", str(tmp_path / "nowhere"), "--output", str(tmp_path / "docs")]

    code = main(["comparison", "look_patches", "auto", *given])

    said = capsys.readouterr()
    assert code == EXIT_BAD_INPUT
    assert f"comparison: not made: {tmp_path}/nowhere/compared/comparison.html: is not there; `make loop`" in said.err
    assert "auto: not made: it is of a search: give --auto RUN" in said.err
    assert said.err.splitlines()[-1] == "error: comparison, auto: not made, and left as before; why stands above"
    assert re.fullmatch(r".*docs/look_patches\.jpg \(\d+ kB\): layer4 unit 9, layer3\.1 unit 7\n", said.out)
    assert main(["look_patches", *given]) == EXIT_OK


def test_a_name_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["overlays"])

    assert ended.value.code == EXIT_BAD_INPUT
    assert "overlays: is no picture; give some of overlay, look_patches" in capsys.readouterr().err


def test_a_screen_without_chromium_is_said_in_one_line(tmp_path, monkeypatch, capsys):
    pytest.importorskip("playwright", reason="playwright is not installed")
    (tmp_path / "compared").mkdir()
    (tmp_path / "compared" / "comparison.html").write_text("<h1>Better</h1>")
    monkeypatch.setattr(shutil, "which", lambda _: None)

    code = main(["comparison", "--loop", str(tmp_path), "--output", str(tmp_path)])

    assert code == EXIT_BAD_INPUT
    assert "comparison: not made: no Chromium is installed; apt install chromium\n" in capsys.readouterr().err
    assert not (tmp_path / "comparison.jpg").exists()


def test_the_page_of_labels_is_shown_in_the_midst_of_the_work(tmp_path):
    pytest.importorskip("playwright", reason="playwright is not installed")
    if not shutil.which("chromium") and not shutil.which("google-chrome"):
        pytest.skip("no Chromium is installed")
    rows = rows_of(8)
    names = {row["path"]: "stop" if number == 5 else "clear_road" for number, row in enumerate(rows)}
    set_of_images = write_set(tmp_path / "set", rows, ["clear_road", "stop"])

    said = label.screen(set_of_images, names.__getitem__, tmp_path / "label.png", 3)

    # Three were wanted, and two more show no sign.
    assert said == "stop, after 5 of 8"
    assert list(read_cells(set_of_images, "class").values()) == ["clear_road"] * 5 + [""] * 3
    assert pixels_of(tmp_path / "label.png").shape == (680, 1120, 3)
