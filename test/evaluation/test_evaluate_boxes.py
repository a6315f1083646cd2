"""Owns: evaluate_bag --rois: boxes of another detector scored as frames, by ids or by a topic that knows better.

Oracle: images of two colours, hand arithmetic, and the node's own way with boxes (`answer_boxes`). Leaves to others:
which pixels a box shows (test_cropping), the live node (test_node_regions).
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import tiny_bag
from detections import detections
from evaluating import SECOND, Page
from frames import saved
from PIL import Image as Picture
from tiny_bag import BLUE, RED, START_NS
from tiny_model import regression_spec, write_tiny_model

from cnn_perception.evaluation import cli
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.recording.sampling import blocks_of
from cnn_perception.evaluation.regions.known_boxes import Matches, matched
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


def bag(
    path: Path, boxes=(LEFT, RIGHT), truth=(), classes=(), delay_ns: int = 0, frame_id: str = "camera", pixels=None
) -> Path:
    """At 10 Hz images, the boxes in them and, where they are given, the true ones, of this frame_id."""
    messages = []
    for number in range(FRAMES):
        time_ns = START_NS + number * SECOND // 10
        messages.append(("/camera", time_ns, tiny_bag.raw(halves() if pixels is None else pixels, time_ns)))
        messages.append(("/boxes", time_ns + 1, detections(time_ns + delay_ns, boxes)))
        if truth:
            known = detections(time_ns, truth, classes)
            known.header.frame_id = frame_id
            messages.append(("/truth", time_ns + 2, known))
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
    boxes = [Box(*rng.uniform(0, 40, 2), *rng.uniform(2, 30, 2), rng.choice([0.0, 0.4])) for _ in range(8)]
    boxes += [Box(math.nan, 1.0, 1.0, 1.0), Box(500.0, 0.0, 2.0, 2.0)]

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


def test_a_known_box_whose_score_is_no_number_is_refused_by_its_class(tmp_path: Path, model: Path, capsys):
    odd = Box(10, 15, 16, 20, score=float("nan"), id="a")
    made = bag(tmp_path / "bag", truth=(odd, RIGHT), classes=("red", "blue"))

    assert run(tmp_path, model, "--bag", made, "--truth", "/truth")[0] == 2
    said = f"/truth: a box stamped {START_NS} ns gives 'red' the score nan; mend what published it"
    assert said in capsys.readouterr().err


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
    said = "no message of /boxes belongs to an image of /camera (6 messages of boxes with a stamp of no image)"
    assert said in capsys.readouterr().err
    partly = bag(tmp_path / "partly", delay_ns=SECOND // 10)
    _, report, _ = run(tmp_path, model, "--bag", partly)
    assert report["ignored"] == {"messages of boxes with a stamp of no image": 1}
    assert report["frames"]["total"] == 2 * (FRAMES - 1)


def test_label_of_an_id_that_no_box_has_fails_a_gate(tmp_path: Path, model: Path):
    table = labels(tmp_path, "id,class\na,red\nb,blue\ngone,red\n")

    code, report, _ = run(tmp_path, model, "--bag", bag(tmp_path / "bag"), "--labels", table, "--min-accuracy", 0.5)

    assert code == 2
    assert "no box has 1 of the ids, such as 'gone'" in report["remarks"][0]


def test_label_of_an_id_that_no_box_has_is_told_without_a_gate_and_an_empty_class_is_refused(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
):
    table = labels(tmp_path, "id,class\na,red\nb,none\ngone,red\n")
    code, report, _ = run(tmp_path, model, "--bag", bag(tmp_path / "bag"), "--labels", table)
    assert (code, report["frames"]["unlabelled"]) == (0, FRAMES)
    assert f"{table}: no box has 1 of the ids, such as 'gone'" in report["warnings"]

    table = labels(tmp_path, "id,class\na,red\nb,\n")
    assert run(tmp_path, model, "--bag", tmp_path / "bag", "--labels", table)[0] == 2
    said = "line 3, column 'class': is empty; write 'none' for a box that is not to be scored"
    assert said in capsys.readouterr().err


def swapping(path: Path, is_swapped: bool) -> Path:
    """Two things that stay; the first id of every second image is the other one's where ids are given anew."""
    messages = []
    for number in range(FRAMES):
        time_ns = START_NS + number * SECOND // 10
        names = ("b", "a") if is_swapped and number % 2 else ("a", "b")
        boxes = [dataclasses.replace(box, id=name) for box, name in zip((LEFT, RIGHT), names, strict=True)]
        messages.append(("/camera", time_ns, tiny_bag.raw(halves(), time_ns)))
        messages.append(("/boxes", time_ns + 1, detections(time_ns, boxes)))
    return tiny_bag.write_bag(path, messages)


def test_ids_of_a_table_that_are_other_things_in_each_image_are_suspected(tmp_path: Path, model: Path):
    table = labels(tmp_path, "id,class\na,red\nb,blue\n")

    _, report, _ = run(tmp_path, model, "--bag", swapping(tmp_path / "bag", is_swapped=True), "--labels", table)

    (warning,) = report["warnings"]
    assert "10 of 10 boxes lie wholly apart from the box of their id in the image just before" in warning
    sound = swapping(tmp_path / "sound", is_swapped=False)
    assert run(tmp_path, model, "--bag", sound, "--labels", table)[1]["warnings"] == []
    rows = [
        f"{START_NS + n * SECOND // 10},{name},{('red', 'blue')[(n + k) % 2]}"
        for n in range(FRAMES)
        for k, name in enumerate("ab")
    ]
    stamped = labels(tmp_path, "\n".join(["stamp_ns,id,class", *rows, ""]))
    _, report, _ = run(tmp_path, model, "--bag", swapping(tmp_path / "again", is_swapped=True), "--labels", stamped)
    assert report["warnings"] == []
    assert report["top1"] == 1.0


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


def moved(box: Box, x: float, **fields: object) -> Box:
    return dataclasses.replace(box, x=box.x + x, **fields)


def test_boxes_in_images_that_exif_turns_are_refused(tmp_path: Path, model: Path):
    exif = Picture.Exif()
    exif[0x0112] = 3
    messages = []
    for number in range(FRAMES):
        time_ns = START_NS + number * SECOND // 10
        message = tiny_bag.compressed(halves(), time_ns)
        if number:
            message.data = np.frombuffer(saved(Picture.fromarray(halves()), "JPEG", exif=exif), np.uint8)
        messages.append(("/camera/compressed", time_ns, message))
        messages.append(("/boxes", time_ns + 1, detections(time_ns, (LEFT, RIGHT))))

    _, report, rows = run(tmp_path, model, "--bag", tiny_bag.write_bag(tmp_path / "bag", messages))

    assert report["frames"]["bad"] == {"rois_image_turned": 2 * (FRAMES - 1)}
    assert [row["predicted"] for row in rows[:2]] == ["red", "blue"]


def test_what_is_odd_about_the_recording_and_its_pictures_is_told_beside_what_is_odd_about_boxes(
    tmp_path: Path, model: Path
):
    messages = []
    for number in range(20):
        stamp_ns = START_NS + number * SECOND // 100  # of a faster clock than that of the log times
        message = tiny_bag.compressed(halves(), stamp_ns)
        code = message.data.tobytes()
        message.data = np.frombuffer(code[:-2] + b"\x5a" * 100 + code[-2:], np.uint8)  # stray before the end
        time_ns = START_NS + number * SECOND
        messages.append(("/camera/compressed", time_ns, message))
        messages.append(("/boxes", time_ns + 1, detections(stamp_ns, (LEFT, RIGHT))))

    code, report, _ = run(tmp_path, model, "--bag", tiny_bag.write_bag(tmp_path / "bag", messages))

    assert code == 0
    assert report["frames"]["bad"] == {}
    assert any("its 20 images take" in line for line in report["warnings"])
    assert any(line.startswith("20 images: ") for line in report["warnings"])


def test_boxes_in_shares_of_the_image_are_refused_and_the_reason_is_told(tmp_path: Path, model: Path, capsys):
    shares = [Box(0.25, 0.5, 0.4, 0.6, score=0.9), Box(0.75, 0.5, 0.4, 0.6, score=0.8)]
    why = "a box is 0.4 x 0.6 pixels; boxes are in pixels of the image, not in shares of it"

    code, report, rows = run(tmp_path, model, "--bag", bag(tmp_path / "bag", shares))

    assert code == 2
    assert report["frames"]["bad"] == {"box_too_small": 2 * FRAMES}
    assert {row["error"] for row in rows} == {"box_too_small"}
    assert why in report["remarks"][0]
    assert f"warning: 12 boxes: box_too_small: {why}" in capsys.readouterr().err
    code, report, _ = run(tmp_path, model, "--bag", bag(tmp_path / "partly", [LEFT, *shares]))
    assert code == 0
    assert report["warnings"] == [f"12 boxes: box_too_small: {why}, and at least 2 pixels a side"]
    assert "12 boxes: box_too_small" in (tmp_path / "out" / "report.html").read_text()


def test_boxes_in_pixels_of_the_input_of_the_detector_are_suspected_once_all_were_read(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("cnn_perception.regions.box_scale.LEAST_BOXES", 40 * FRAMES)
    pixels = tiny_bag.flat(RED, 400, 480)
    boxes = [Box(20 + 7 * n, 300 - 7 * n, 20, 20) for n in range(40)]
    said = "all boxes so far lie in the upper left 320x320 pixels of images of 480x400: perhaps"

    code, report, _ = run(tmp_path, model, "--bag", bag(tmp_path / "bag", boxes, pixels=pixels))

    assert code == 0
    (warning,) = report["warnings"]
    assert said in warning
    others = [*boxes, Box(440, 100, 40, 40)]
    assert run(tmp_path, model, "--bag", bag(tmp_path / "others", others, pixels=pixels))[1]["warnings"] == []


def test_ids_that_contradict_the_places_are_not_followed_and_told(tmp_path: Path, model: Path, capsys):
    """A detector numbers the boxes of an image anew, annotators number tracks: 0 and 1 are other things."""
    boxes = [dataclasses.replace(LEFT, id="0"), dataclasses.replace(RIGHT, id="1")]
    truth = [dataclasses.replace(RIGHT, id="0"), dataclasses.replace(LEFT, id="1")]
    made = bag(tmp_path / "bag", boxes, truth, ["blue", "red"])

    code, report, rows = run(tmp_path, model, "--bag", made, "--truth", "/truth", "--min-accuracy", 1.0)

    said = "/truth: 12 of 12 boxes lie elsewhere than the known box of their id and were matched by place alone"
    assert code == 0
    assert report["complete"] is True
    assert [row["truth"] for row in rows[:2]] == ["red", "blue"]
    assert report["top1"] == 1.0
    assert any(said in warning for warning in report["warnings"])
    assert f"warning: {said}" in capsys.readouterr().err
    assert said in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(("lost", "code"), [(1, 0), (2, 0), (3, 2)])
def test_boxes_that_neither_id_nor_place_matches_are_bad_input_where_they_are_more_than_half(
    tmp_path: Path, model: Path, lost: int, code: int
):
    boxes = [Box(5 + 10 * n, 15, 6, 6, score=0.9, id=str(n)) for n in range(4)]
    truth = [moved(box, 0, y=26.0) if n < lost else moved(box, 1) for n, box in enumerate(boxes)]
    names = ["red", "red", "blue", "blue"]

    found, report, rows = run(tmp_path, model, "--bag", bag(tmp_path / "bag", boxes, truth, names), "--truth", "/truth")

    assert found == code
    assert [row["truth"] for row in rows[:4]] == ["" if n < lost else names[n] for n in range(4)]
    lines = report["remarks"] if code else report["warnings"]
    assert [line for line in lines if f"{lost * FRAMES} of {4 * FRAMES} boxes lie elsewhere" in line]
    assert report["ignored"] == {"known boxes that the detector has not found": lost * FRAMES}


def test_known_boxes_that_have_no_place_are_counted_with_the_reason(tmp_path: Path, model: Path, capsys):
    shares = [Box(0.25, 0.5, 0.4, 0.6, id="a"), Box(math.nan, 0.5, 0.4, 0.6, id="b")]
    made = bag(tmp_path / "bag", (LEFT, RIGHT), shares, ["blue", "red"])

    code, report, rows = run(tmp_path, model, "--bag", made, "--truth", "/truth")

    assert code == 2
    assert {row["truth"] for row in rows} == {""}
    said = "/truth: 12 of 12 known boxes cannot be used (box_not_finite, box_too_small): a box "
    assert said in capsys.readouterr().err
    mixed = bag(tmp_path / "mixed", (LEFT, RIGHT), (LEFT, *shares, RIGHT), ["red", "blue", "red", "blue"])
    code, report, rows = run(tmp_path, model, "--bag", mixed, "--truth", "/truth")
    assert code == 0
    assert [row["truth"] for row in rows[:2]] == ["red", "blue"]
    assert any("12 of 24 known boxes cannot be used" in warning for warning in report["warnings"])


def test_known_boxes_of_another_frame_are_counted(tmp_path: Path, model: Path, capsys):
    made = bag(tmp_path / "bag", truth=(LEFT, RIGHT), classes=("red", "blue"), frame_id="rear")

    code, report, _ = run(tmp_path, model, "--bag", made, "--truth", "/truth")

    assert code == 2
    assert report["ignored"] == {"messages of known boxes of another frame_id": FRAMES}
    assert "nothing is known of a box" in capsys.readouterr().err


def test_boxes_of_another_frame_alone_are_refused_for_that_reason(tmp_path: Path, model: Path, capsys):
    messages = []
    for number in range(FRAMES):
        time_ns = START_NS + number * SECOND // 10
        boxes = detections(time_ns, (LEFT, RIGHT))
        boxes.header.frame_id = "rear"
        messages += [("/camera", time_ns, tiny_bag.raw(halves(), time_ns)), ("/boxes", time_ns + 1, boxes)]

    assert run(tmp_path, model, "--bag", tiny_bag.write_bag(tmp_path / "bag", messages))[0] == 2
    assert "(6 messages of boxes of another frame_id)" in capsys.readouterr().err


def test_box_of_no_place_keeps_the_truth_of_its_id_and_counts_against_a_gate(tmp_path: Path, model: Path):
    spoilt = dataclasses.replace(RIGHT, width=math.nan)
    made = bag(tmp_path / "bag", (LEFT, spoilt), (LEFT, RIGHT), ("red", "blue"))

    code, report, _ = run(tmp_path, model, "--bag", made, "--truth", "/truth", "--min-accuracy", 0.9)

    assert code == 3
    assert report["frames"]["lost"] == FRAMES
    assert not [line for line in (*report["remarks"], *report["warnings"]) if "elsewhere" in line]


def test_turned_boxes_are_matched_by_what_they_cover():
    """A long thing on the diagonal, and an upright one that covers its bounding rectangle."""
    diagonal = Box(50, 50, 60, 4, math.pi / 4)
    upright = Box(50, 50, 60, 4)
    standing = Box(50, 50, 4, 60, math.pi / 2)

    assert matched([diagonal], [upright]).places == {}
    assert matched([standing], [upright]).places == {0: 0}
    assert matched([diagonal], [upright, dataclasses.replace(diagonal, theta=5 * math.pi / 4)]).places == {0: 1}


def test_truth_of_a_box_is_taken_once_and_ids_that_several_boxes_have_say_nothing():
    twice = Box(0.0, 0.0, 10.0, 10.0, id="x")
    aside = Box(2.0, 0.0, 10.0, 10.0, id="x")

    assert matched([twice, aside], [twice]) == Matches({0: 0}, same_id=0, contradicted=0, lost=0)
    assert matched([Box(0, 0, 10, 10)], [Box(6, 0, 10, 10)]).places == {}
    assert matched([Box(math.nan, 0, 10, 10)], [twice]).places == {}
    assert matched([twice], [Box(math.nan, 0, 10, 10)]).places == {}


def test_id_decides_where_the_boxes_overlap_unless_the_place_says_another():
    here, there = Box(0, 0, 10, 10, id="y"), Box(300, 0, 10, 10, id="y")
    beside, like = Box(9, 0, 10, 10, id="y"), Box(1, 0, 10, 10, id="z")
    touching = Box(10, 0, 10, 10, id="y")

    assert matched([here], [beside]) == Matches({0: 0}, same_id=1, contradicted=0, lost=0)
    assert matched([here], [beside, like]) == Matches({0: 1}, same_id=1, contradicted=1, lost=0)
    assert matched([here], [there, like]) == Matches({0: 1}, same_id=1, contradicted=1, lost=0)
    assert matched([here], [there]) == Matches({}, same_id=1, contradicted=1, lost=1)
    assert matched([here], [touching]) == Matches({}, same_id=1, contradicted=1, lost=1)
    # Side by side with the ids exchanged: they overlap a little with the wrong one, and wholly with the right one.
    left, right = Box(0, 0, 10, 10, id="0"), Box(9, 0, 10, 10, id="1")
    exchanged = [dataclasses.replace(left, id="1"), dataclasses.replace(right, id="0")]
    assert matched([left, right], exchanged) == Matches({0: 0, 1: 1}, same_id=2, contradicted=2, lost=0)
    # What the id does not take is there for another box of its place.
    assert matched([here, Box(300, 0, 10, 10)], [there]) == Matches({1: 0}, same_id=1, contradicted=1, lost=1)


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
