"""Owns: evaluate_bag --rois: boxes of another detector scored as frames, by ids or by a topic that knows better.

Oracle: images of two colours, hand arithmetic, and the node's own way with boxes (`answer_boxes`). Leaves to others:
which pixels a box shows (test_cropping), the live node (test_node_regions).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import tiny_bag
from detections import detections
from evaluating import SECOND, Page
from tiny_bag import BLUE, RED, START_NS
from tiny_model import regression_spec, write_tiny_model

from cnn_perception.evaluation import cli
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.recording.sampling import blocks_of
from cnn_perception.evaluation.regions.known_boxes import matched
from cnn_perception.image.messages import RgbImage
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.regions.answering import RegionSettings, answer_boxes
from cnn_perception.regions.box import Box
from cnn_perception.regions.cropping import CropSettings

LEFT, RIGHT = Box(10, 15, 16, 20, score=0.9, id="a"), Box(30, 15, 16, 20, score=0.8, id="b")
FRAMES = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


def halves() -> RgbImage:
    """Red on the left, blue on the right."""
    image = tiny_bag.flat(RED)
    image[:, 20:] = BLUE
    return RgbImage(image)


def bag(path: Path, boxes=(LEFT, RIGHT), truth=(), classes=(), delay_ns: int = 0) -> Path:
    """At 10 Hz images, the boxes in them and, where they are given, the true ones."""
    messages = []
    for number in range(FRAMES):
        time_ns = START_NS + number * SECOND // 10
        messages.append(("/camera", time_ns, tiny_bag.raw(halves(), time_ns)))
        messages.append(("/boxes", time_ns + 1, detections(time_ns + delay_ns, boxes)))
        if truth:
            messages.append(("/truth", time_ns + 2, detections(time_ns, truth, classes)))
    return tiny_bag.write_bag(path, messages)


def run(folder: Path, model: Path, *arguments: object) -> tuple[int, dict, list[dict[str, str]]]:
    import csv
    import json

    output = folder / "out"
    given = [
        "--model",
        model,
        "--output",
        output,
        "--providers",
        "CPUExecutionProvider",
        "--rois",
        "/boxes",
        *arguments,
    ]
    code = cli.main([str(one) for one in given])
    if not (output / "report.json").is_file():
        return code, {}, []
    with (output / "predictions.csv").open() as rows:
        return code, json.loads((output / "report.json").read_text()), list(csv.DictReader(rows))


def labels(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text)
    return folder / "labels.csv"


def test_boxes_are_scored_by_the_classes_of_their_ids_and_the_worst_are_shown(tmp_path: Path, model: Path):
    table = labels(tmp_path, "id,class\na,red\nb,green\n")

    code, report, rows = run(tmp_path, model, "--bag", bag(tmp_path / "bag"), "--labels", table)

    assert code == 0
    assert report["frames"] == {"total": 12, "scored": 12, "unlabelled": 0, "bad": {}, "lost": 0}
    assert report["top1"] == 0.5
    assert report["confusion"] == [[6, 0, 0], [0, 0, 6], [0, 0, 0]]
    assert [(row["file"], row["predicted"]) for row in rows[:2]] == [
        ("image 0, box a", "red"),
        ("image 0, box b", "blue"),
    ]
    assert report["worst"][0]["name"].endswith("box b")
    assert report["recording"]["images"] == FRAMES
    page = (tmp_path / "out" / "report.html").read_text()
    assert "box b" in page
    assert Page(page).sources
    assert not list((tmp_path / "out").glob("overlay.*"))


def test_answers_are_those_of_the_node_to_the_same_boxes(tmp_path: Path, model: Path):
    rng = np.random.default_rng(0)
    boxes = [Box(*rng.uniform(0, 40, 2), *rng.uniform(1, 30, 2), rng.choice([0.0, 0.4])) for _ in range(8)]
    boxes += [Box(math.nan, 1.0, 1.0, 1.0), Box(500.0, 0.0, 1.0, 1.0)]

    _, report, rows = run(tmp_path, model, "--bag", bag(tmp_path / "bag", boxes), "--rois-padding", 0.25)

    settings = RegionSettings(CropSettings(padding=0.25), batch_size=4)
    expected = answer_boxes(Pipeline.load(model), halves(), boxes, settings)
    assert report["frames"]["bad"] == {"box_not_finite": FRAMES, "box_outside": FRAMES}
    for row, answer in zip(rows[: len(boxes)], expected, strict=True):
        if row["error"]:
            assert row["error"] == answer.reason
        else:
            assert row["predicted"] == answer.name
            assert float(row["score"]) == pytest.approx(answer.score, abs=1e-5)


def test_truth_is_the_box_of_the_same_id_or_of_the_same_place(tmp_path: Path, model: Path):
    near = Box(31, 15, 16, 20, id="other")
    missed = Box(20, 5, 4, 4, id="missed")
    made = bag(tmp_path / "bag", truth=(LEFT, near, missed), classes=("red", "blue", "green"))

    code, report, rows = run(tmp_path, model, "--bag", made, "--truth", "/truth", "--min-accuracy", 1.0)

    assert code == 0
    assert [row["truth"] for row in rows[:2]] == ["red", "blue"]
    assert report["top1"] == 1.0
    assert report["labels"] == "/truth"
    assert report["ignored"] == {"known boxes that the detector has not found": FRAMES}


def test_truth_of_another_camera_at_the_same_moment_is_none_of_these_boxes(tmp_path: Path, model: Path):
    messages = []
    for number in range(FRAMES):
        time_ns = START_NS + number * SECOND // 10
        image, boxes = tiny_bag.raw(halves(), time_ns), detections(time_ns, (LEFT, RIGHT))
        others, ours = (detections(time_ns, (LEFT, RIGHT), classes) for classes in (["green", "red"], ["red", "blue"]))
        image.header.frame_id = boxes.header.frame_id = ours.header.frame_id = "front"
        others.header.frame_id = "rear"
        named = [("/camera", image), ("/boxes", boxes), ("/truth", others), ("/truth", ours)]
        messages += [(topic, time_ns + place, message) for place, (topic, message) in enumerate(named)]
    made = tiny_bag.write_bag(tmp_path / "bag", messages)

    _, report, rows = run(tmp_path, model, "--bag", made, "--truth", "/truth")

    assert [row["truth"] for row in rows[:2]] == ["red", "blue"]
    assert report["top1"] == 1.0


def test_boxes_of_the_bag_that_no_image_has_are_counted_and_without_any_the_bag_is_refused(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
):
    code, _, _ = run(tmp_path, model, "--bag", bag(tmp_path / "bag", delay_ns=5))

    assert code == 2
    assert "no message of /boxes has the stamp of an image of /camera" in capsys.readouterr().err
    partly = bag(tmp_path / "partly", delay_ns=SECOND // 10)
    _, report, _ = run(tmp_path, model, "--bag", partly)
    assert report["ignored"] == {"messages of boxes with a stamp of no image": 1}
    assert report["frames"]["total"] == 2 * (FRAMES - 1)


def test_label_of_an_id_that_no_box_has_fails_a_gate(tmp_path: Path, model: Path):
    table = labels(tmp_path, "id,class\na,red\nb,blue\ngone,red\n")

    code, report, _ = run(tmp_path, model, "--bag", bag(tmp_path / "bag"), "--labels", table, "--min-accuracy", 0.5)

    assert code == 2
    assert "no box has 1 of the ids, such as 'gone'" in report["remarks"][0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--labels", "/topic"], "name a CSV file with id and class"),
        (["--labels", "x.csv", "--truth", "/truth"], "choose one"),
        (["--results-bag", "copy"], "leave --results-bag out"),
        (["--rois-padding", "-1"], "padding is -1"),
        (["--rois-max", "0"], "0 boxes"),
        (["--live"], "--rois"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, model: Path, capsys, given: list[str], said: str):
    code, _, _ = run(tmp_path, model, "--bag", bag(tmp_path / "bag"), *given)

    assert code == 2
    assert said in capsys.readouterr().err


def test_model_of_numbers_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    numbers = write_tiny_model(tmp_path / "numbers.onnx", spec=regression_spec({"x": "m", "y": "m", "z": "m"}))

    assert run(tmp_path, numbers, "--bag", bag(tmp_path / "bag"))[0] == 2
    assert "--rois answers boxes with classes" in capsys.readouterr().err


def test_truth_of_a_box_is_taken_once_and_ids_that_several_boxes_have_say_nothing():
    twice = Box(0.0, 0.0, 10.0, 10.0, id="x")
    aside = Box(2.0, 0.0, 10.0, 10.0, id="x")

    assert matched([twice, aside], [twice]) == {0: 0}
    assert matched([Box(0, 0, 10, 10, id="y")], [Box(500, 0, 10, 10, id="y"), twice]) == {0: 0}
    assert matched([Box(0, 0, 10, 10)], [Box(6, 0, 10, 10)]) == {}
    assert matched([Box(math.nan, 0, 10, 10)], [twice]) == {}


def test_boxes_of_one_image_stay_together_in_the_blocks_of_intervals(model: Path):
    """Ten boxes an image, all right or all wrong, image by image at random: worth as much as the images."""
    pipeline = Pipeline.load(model)
    red, blue = (pipeline.recognise(RgbImage(tiny_bag.flat(colour))) for colour in (RED, BLUE))
    rng = np.random.default_rng(0)
    records = []
    for number, is_right in enumerate(rng.random(100) < 0.5):
        for box in range(10):
            record = FrameRecord(len(records), f"box {box}", 0, number / 10, "red", received_ns=(number + 1) * SECOND)
            records.append(record.answered(red if is_right else blue))

    blocks = blocks_of([records])

    assert blocks is not None
    assert blocks.count == 1000
    assert blocks.blocks == 100
    assert 80 <= blocks.independent(np.array([record.is_right for record in records])) <= 120
