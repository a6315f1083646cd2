"""Owns: frames labelled as none of the classes: in intervals, on topics, in tables and folders of images, in the page.

Leaves to others: the figures (test_multiclass), what the label means elsewhere (test_labels).
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tiny_bag
from evaluating import Page, colour_bag, run
from PIL import Image
from tiny_bag import BLUE, GREEN, RED, START_NS, flat
from tiny_model import tiny_spec, with_unknown, write_tiny_model

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_BELOW_TARGET, EXIT_OK
from cnn_perception.label_text import NONE_OF_THESE

# logits of (v, 10, 10) are 10 v / 255, 0.39, 0.39: energy 3 lies between those of 40 and 200
DARK = (40, 10, 10)
COLOURS = [RED, DARK, DARK, GREEN, BLUE]
TRUTH = ("red", NONE_OF_THESE, "red", NONE_OF_THESE, "blue")
LABELS = "start_s,end_s,class\n" + "".join(f"0.{k},0.{k + 1},{name}\n" for k, name in enumerate(TRUTH))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    return write_tiny_model(path, spec=with_unknown(tiny_spec(), 3.0))


def labels(folder: Path) -> Path:
    (folder / "labels.csv").write_text(LABELS)
    return folder / "labels.csv"


def test_frames_of_no_class_are_right_where_they_are_unknown_and_shown_so(tmp_path, model):
    bag = colour_bag(tmp_path / "bag", COLOURS)

    code, report, rows = run(
        tmp_path, model, "--bag", bag, "--labels", labels(tmp_path), "--no-video", "--min-accuracy", "0.61"
    )

    assert code == EXIT_BELOW_TARGET
    assert [row["truth"] for row in rows] == [*TRUTH]
    assert [row["predicted"] for row in rows] == ["red", "unknown", "unknown", "green", "blue"]
    assert report["top1"] == pytest.approx(3 / 5)
    assert report["confusion"] == [[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 1]]
    assert report["remarks"] == []
    text = (tmp_path / "out" / "report.html").read_text()
    assert Page(text).open == []
    (matrix,) = re.findall(r'<table class="confusion.*?</table>', text, re.DOTALL)
    assert re.sub(r"<[^>]*>|\s+", " ", matrix).count(NONE_OF_THESE) == 1
    assert f"is {NONE_OF_THESE}" in text


def test_the_topic_of_labels_may_say_it(tmp_path, model):
    said = ["red", NONE_OF_THESE, NONE_OF_THESE, NONE_OF_THESE, "blue"]
    extra = [("/truth", START_NS + k * 10**8 - 1, tiny_bag.string(text)) for k, text in enumerate(said)]
    bag = colour_bag(tmp_path / "bag", COLOURS, extra)

    code, report, _ = run(tmp_path, model, "--bag", bag, "--labels", "/truth", "--no-video")

    assert code == EXIT_OK
    assert report["top1"] == pytest.approx(4 / 5)


def test_a_table_and_a_folder_of_images_may_say_it_and_what_waits_for_a_label_is_not_scored(tmp_path, model):
    images = tmp_path / "images"
    for index, (name, colour) in enumerate(
        (("red", RED), (NONE_OF_THESE, DARK), (NONE_OF_THESE, GREEN), ("blue", RED))
    ):
        (images / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(flat(colour)).save(images / name / f"{index}.png")
    (images / "labels.csv").write_text(
        f"path,class,state\nred/0.png,red,labelled\n{NONE_OF_THESE}/1.png,{NONE_OF_THESE},labelled\n"
        f"{NONE_OF_THESE}/2.png,green,skipped\nblue/3.png,,\n"
    )

    code, of_folder, _ = run(tmp_path, model, "--images", images)
    assert (code, of_folder["top1"], of_folder["frames"]["scored"]) == (EXIT_OK, 0.5, 4)
    code, of_table, _ = run(tmp_path, model, "--images", images, "--labels", images / "labels.csv")
    assert (code, of_table["top1"]) == (EXIT_OK, 1.0)
    assert (of_table["frames"]["scored"], of_table["frames"]["unlabelled"]) == (2, 2)


def test_a_model_without_a_rule_is_told_that_it_can_never_be_right(tmp_path, capsys):
    model = write_tiny_model(tmp_path / "tiny.onnx")

    code, report, _ = run(
        tmp_path, model, "--bag", colour_bag(tmp_path / "bag", COLOURS), "--labels", labels(tmp_path), "--no-video"
    )

    assert code == EXIT_OK
    (remark,) = report["remarks"]
    assert remark.startswith("2 frames are labelled 'none of these', and the model has no unknown rule")
    assert remark in "".join(capsys.readouterr())
    assert report["confusion"][3] == [1, 1, 0]
    assert Page((tmp_path / "out" / "report.html").read_text()).open == []


def test_a_model_with_a_class_of_that_name_is_refused_with_the_cure(tmp_path, capsys):
    model = write_tiny_model(tmp_path / "tiny.onnx", classes=("red", "green", NONE_OF_THESE))

    code, _, _ = run(tmp_path, model, "--bag", colour_bag(tmp_path / "bag", COLOURS), "--labels", labels(tmp_path))

    assert code == EXIT_BAD_INPUT
    assert "rename the class and export the model again" in capsys.readouterr().err


def test_rows_that_are_listed_to_be_decided_again_are_no_labels_until_they_are(tmp_path, model):
    images = tmp_path / "images"
    images.mkdir()
    for index in range(3):
        Image.fromarray(flat(RED)).save(images / f"{index}.png")
    table = tmp_path / "suspects.csv"
    table.write_text("path,class,state,was\n0.png,red,,red\n1.png,blue,labelled,red\n2.png,red,skipped,red\n")

    code, report, rows = run(tmp_path, model, "--images", images, "--labels", table, "--no-video")

    assert (code, [row["truth"] for row in rows]) == (EXIT_OK, ["", "blue", ""])
    assert report["top1"] == 0.0
