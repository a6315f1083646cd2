"""Evaluations of tiny bags whose every figure is known by hand: the model answers the dominant colour channel.

Owned here: labels against frames, the files written, exit codes. Reading bags is tested in test_reader.py.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_bag
from evaluating import SECOND, Page, colour_bag, run
from paths import ROOT, UNWRITABLE, fill_the_disk
from PIL import Image
from tiny_bag import BLUE, GREEN, RED, START_NS, flat
from tiny_model import write_tiny_model

from cnn_perception.bag.reader import Bag
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_BELOW_TARGET, EXIT_INTERRUPTED, EXIT_OK
from cnn_perception.evaluation import evaluation
from cnn_perception.evaluation.cli import main
from cnn_perception.evaluation.recording.video import resized_to_view
from cnn_perception.image.messages import EncodedImage
from cnn_perception.pipeline.pipeline import Pipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


def test_figures_are_those_of_hand_arithmetic(tmp_path, model):
    code, report, rows = run(tmp_path, model, "--bag", colour_bag(tmp_path / "bag"), "--no-video")

    assert code == EXIT_OK
    assert report["frames"] == {"total": 10, "scored": 9, "unlabelled": 1, "bad": {}, "lost": 0}
    assert report["top1"] == pytest.approx(8 / 9)
    assert report["top5"] == 1.0
    assert report["balanced_accuracy"] == pytest.approx((1 + 3 / 4 + 1) / 3)
    assert report["confusion"] == [[3, 0, 0], [0, 3, 1], [0, 0, 2]]
    blue = report["classes"][2]
    assert (blue["name"], blue["precision"], blue["recall"], blue["support"]) == ("blue", pytest.approx(2 / 3), 1.0, 2)
    assert report["complete"] is True
    assert report["passed"] is None
    assert report["model"]["provider"] == "CPUExecutionProvider"
    assert report["model"]["spec"]["class_names"] == ["red", "green", "blue"]
    assert set(report["latency"]) == {"decode", "preprocess", "inference", "postprocess", "total"}
    assert report["worst"][0]["index"] == 6
    assert [row["truth"] for row in rows] == ["red"] * 3 + ["green"] * 4 + ["blue"] * 2 + [""]
    assert [row["predicted"] for row in rows] == ["red"] * 3 + ["green"] * 3 + ["blue"] * 4
    assert [row["stamp_ns"] for row in rows] == [str(START_NS + n * SECOND // 10) for n in range(10)]


def test_scores_are_the_softmax_of_the_known_logits(tmp_path, model):
    _, _, rows = run(tmp_path, model, "--bag", colour_bag(tmp_path / "bag"), "--no-video")

    # RED is (200, 10, 10): the logits are 10 / 255 times that
    others = np.exp(10 * (10 - 200) / 255)
    assert float(rows[0]["score"]) == pytest.approx(1 / (1 + 2 * others), abs=1e-5)
    assert float(rows[0]["margin"]) == pytest.approx((1 - others) / (1 + 2 * others), abs=1e-5)
    assert float(rows[6]["truth_score"]) == pytest.approx(others / (1 + 2 * others), abs=1e-5)


def test_predictions_are_exactly_those_of_the_pipeline(tmp_path, model):
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (30, 40, 3), np.uint8) for _ in range(5)]
    messages = [("/camera", START_NS + i, tiny_bag.raw(p, START_NS + i, "bgr8", 3)) for i, p in enumerate(pictures)]

    _, _, rows = run(
        tmp_path, model, "--bag", tiny_bag.write_bag(tmp_path / "bag", messages), "--labels", "", "--no-video"
    )

    pipeline = Pipeline.load(model)
    for row, picture in zip(rows, pictures, strict=True):
        expected = pipeline.run(EncodedImage(picture.tobytes(), "rgb8", 30, 40, 120, is_bigendian=False)).prediction
        assert (row["predicted"], row["score"]) == (expected.name, f"{expected.score:.6f}")


@pytest.mark.parametrize(
    ("required", "code"), [(8 / 9 - 1e-9, EXIT_OK), (8 / 9, EXIT_OK), (8 / 9 + 1e-9, EXIT_BELOW_TARGET)]
)
def test_min_accuracy_below_at_and_above_what_was_reached(tmp_path, model, required, code, capsys):
    bag = colour_bag(tmp_path / "bag")

    found, report, _ = run(tmp_path, model, "--bag", bag, "--min-accuracy", repr(required), "--no-video")

    assert found == code
    assert report["passed"] is (code == EXIT_OK)
    assert ("reached" if code == EXIT_OK else "MISSED") in capsys.readouterr().out
    assert (tmp_path / "out" / "report.html").is_file()


def test_seconds_count_from_the_bags_first_message_or_from_the_first_image(tmp_path, model):
    early = [("/chatter", START_NS - SECOND, tiny_bag.string("the recorder started before the camera"))]
    bag = colour_bag(tmp_path / "bag", extra=early)

    _, from_bag, rows = run(tmp_path, model, "--bag", bag, "--no-video")
    assert rows[0]["time_s"] == "1.000000"
    assert from_bag["frames"]["scored"] == 0
    code, from_image, rows = run(tmp_path, model, "--bag", bag, "--labels-start", "image", "--no-video")

    assert rows[0]["time_s"] == "0.000000"
    assert (code, from_image["frames"]["scored"]) == (EXIT_OK, 9)


def test_labels_that_meet_no_frame_are_an_error(tmp_path, model, capsys):
    (tmp_path / "late.csv").write_text("start_s,end_s,class\n50,60,red\n")

    bag = colour_bag(tmp_path / "bag")
    code, report, _ = run(tmp_path, model, "--bag", bag, "--labels", tmp_path / "late.csv", "--no-video")

    assert code == EXIT_BAD_INPUT
    assert report["top1"] is None
    assert "no frame lies in a labelled interval" in capsys.readouterr().err


def test_a_text_topic_labels_the_frames_received_after_it(tmp_path, model):
    texts = [(0, "red"), (3, "green"), (6, "none"), (8, "blue")]
    extra = [("/scene", START_NS + n * SECOND // 10, tiny_bag.string(text)) for n, text in texts]

    bag = colour_bag(tmp_path / "bag", extra=extra)
    _, report, rows = run(tmp_path, model, "--bag", bag, "--labels", "/scene", "--no-video")

    assert [row["truth"] for row in rows] == ["red"] * 3 + ["green"] * 3 + ["", ""] + ["blue"] * 2
    assert report["top1"] == 1.0


def test_a_classification_topic_labels_the_frames_by_their_stamps(tmp_path, model):
    truth = [
        ("/truth", START_NS + 5, tiny_bag.classification(START_NS + n * SECOND // 10, {name: 1.0}))
        for n, name in [(0, "red"), (3, "green"), (6, "blue")]
    ]

    bag = colour_bag(tmp_path / "bag", extra=truth, delay_ns=SECOND)  # images arrive a second late
    _, report, rows = run(tmp_path, model, "--bag", bag, "--labels", "/truth", "--no-video")

    assert [row["truth"] for row in rows] == ["red"] * 3 + ["green"] * 3 + ["blue"] * 4
    assert report["top1"] == 1.0


def test_labels_of_another_camera_on_the_topic_are_not_those_of_these_images(tmp_path, model):
    messages = []
    for n in range(10):
        time_ns = START_NS + n * SECOND // 10
        for camera, colour, name in [("front", RED, "red"), ("back", BLUE, "blue")]:
            image, label = tiny_bag.raw(flat(colour), time_ns), tiny_bag.classification(time_ns, {name: 1.0})
            image.header.frame_id = label.header.frame_id = camera
            messages += [(f"/{camera}", time_ns, image), ("/truth", time_ns, label)]
    bag = tiny_bag.write_bag(tmp_path / "bag", messages)

    for camera in ("front", "back"):
        arguments = ("--bag", bag, "--topic", f"/{camera}", "--labels", "/truth", "--no-video")
        code, report, _ = run(tmp_path, model, *arguments)
        assert (code, report["top1"]) == (EXIT_OK, 1.0)


def test_an_unknown_label_names_the_models_classes_before_anything_runs(tmp_path, model, capsys):
    (tmp_path / "odd.csv").write_text("start_s,end_s,class\n0,1,purple\n")

    code, report, _ = run(tmp_path, model, "--bag", colour_bag(tmp_path / "bag"), "--labels", tmp_path / "odd.csv")

    assert (code, report) == (EXIT_BAD_INPUT, {})
    assert "the model has no class 'purple'; its classes are: red, green, blue" in capsys.readouterr().err


def test_bad_frames_are_counted_by_reason_and_the_others_go_on(tmp_path, model):
    messages = [
        ("/camera", START_NS, tiny_bag.raw(flat(RED), START_NS)),
        ("/camera", START_NS + 1, tiny_bag.raw(flat(RED), START_NS, "plaid8")),
        ("/camera", START_NS + 2, tiny_bag.raw(flat(RED), START_NS, "plaid8")),
        ("/camera", START_NS + 3, tiny_bag.raw(flat(RED), START_NS)),
    ]

    bag = tiny_bag.write_bag(tmp_path / "bag", messages)
    code, report, rows = run(tmp_path, model, "--bag", bag, "--no-video")

    assert code == EXIT_OK
    assert report["frames"] == {"total": 4, "scored": 2, "unlabelled": 0, "bad": {"encoding": 2}, "lost": 2}
    assert [row["error"] for row in rows] == ["", "encoding", "encoding", ""]
    assert "plaid8" in rows[1]["message"]


@pytest.mark.parametrize(("required", "code"), [(0.5, EXIT_OK), (0.51, EXIT_BELOW_TARGET)])
def test_labelled_frames_that_cannot_be_used_count_as_wrong(tmp_path, model, capsys, required, code):
    """Two of four are answered, both rightly."""
    bad = [START_NS + 1, START_NS + 2]
    frames = [tiny_bag.raw(flat(RED), START_NS + n, "plaid8" if START_NS + n in bad else "rgb8") for n in range(4)]
    messages = [("/camera", START_NS + n, frame) for n, frame in enumerate(frames)]
    bag = tiny_bag.write_bag(tmp_path / "bag", messages)
    labels = tmp_path / "red.csv"
    labels.write_text("start_s,end_s,class\n0,1,red\n")

    found, report, _ = run(tmp_path, model, "--bag", bag, "--labels", labels, "--min-accuracy", required, "--no-video")

    assert (found, report["complete"]) == (code, True)
    assert report["top1"] == 1.0
    remark = "2 of 4 labelled frames could not be used; they count against the top-1 of at least"
    assert remark in report["remarks"][0]
    assert f"warning: {remark}" in capsys.readouterr().err


def test_message_that_cannot_be_read_is_lost_by_the_time_it_was_received(tmp_path, model):
    """Labels with stamps: the message's own cannot be read."""
    broken = tiny_bag.raw(flat(RED), START_NS + 5)
    broken.data = broken.data[:0]
    labels = [("/truth", START_NS - 1, tiny_bag.classification(START_NS - 1, {"red": 1.0}))]
    frames = [("/camera", START_NS, tiny_bag.raw(flat(RED), START_NS)), ("/camera", START_NS + 5, broken)]
    bag = tiny_bag.write_bag(tmp_path / "bag", [*labels, *frames])

    code, report, _ = run(tmp_path, model, "--bag", bag, "--labels", "/truth", "--min-accuracy", 0.6, "--no-video")

    assert (code, report["frames"]["lost"]) == (EXIT_BELOW_TARGET, 1)


@pytest.mark.parametrize("required", [True, False])
def test_intervals_without_a_frame_fail_what_is_required(tmp_path, model, capsys, required):
    labels = tmp_path / "long.csv"
    labels.write_text("start_s,end_s,class\n0,0.3,red\n50,60,blue\n70,80,blue\n")
    arguments = ("--min-accuracy", 0.1) if required else ()

    bag = colour_bag(tmp_path / "bag")
    code, report, _ = run(tmp_path, model, "--bag", bag, "--labels", labels, *arguments, "--no-video")

    said = "no frame lies in 2 of 3 labelled intervals, such as 50 to 60 s"
    assert (code, report["complete"]) == ((EXIT_BAD_INPUT, False) if required else (EXIT_OK, True))
    word, lines = ("error", "remarks") if required else ("warning", "warnings")
    assert f"{word}: {labels}: {said}" in capsys.readouterr().err
    assert said in report[lines][0]


@pytest.mark.parametrize("name", ["labels.xlsx", "labels"])
def test_a_file_that_is_no_table_by_its_name_is_no_topic_either(tmp_path, model, capsys, name):
    (tmp_path / name).write_text("start_s,end_s,class\n0,1,red\n")

    code, _, _ = run(tmp_path, model, "--bag", colour_bag(tmp_path / "bag"), "--labels", tmp_path / name)

    assert code == EXIT_BAD_INPUT
    said = f"{tmp_path / name}: is no table by its name, and no topic of the bag; save it as CSV under a name that ends"
    assert f"{said} in .csv, .tsv or .txt" in capsys.readouterr().err


def test_a_topic_is_taken_for_one_though_a_file_has_its_name(tmp_path, model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("scene").touch()
    bag = colour_bag(tmp_path / "bag", extra=[("/scene", START_NS, tiny_bag.string("red"))])

    code, report, _ = run(tmp_path, model, "--bag", bag, "--labels", "scene", "--no-video")

    assert (code, report["frames"]["scored"]) == (EXIT_OK, 10)


def test_an_image_of_which_a_table_says_nothing_is_refused_unless_its_state_says_so(tmp_path, model, capsys):
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        Image.fromarray(flat(RED)).save(tmp_path / "images" / f"{name}.png")
    table = tmp_path / "labels.csv"
    arguments = ("--images", tmp_path / "images", "--labels", table)

    for text in ("path,class\na.png,red\nb.png,\n", "path,class,state\na.png,red,labelled\nb.png,,labelled\n"):
        table.write_text(text)
        assert run(tmp_path, model, *arguments)[0] == EXIT_BAD_INPUT
        said = f"{table}, line 3, column 'class': is empty; write 'none' for an image that is not to be scored"
        assert said in capsys.readouterr().err

    for text in ("path,class\na.png,red\nb.png,none\n", "path,class,state\na.png,red,labelled\nb.png,,skipped\n"):
        table.write_text(text)
        code, report, _ = run(tmp_path, model, *arguments)
        assert (code, report["frames"]["scored"], report["frames"]["unlabelled"]) == (EXIT_OK, 1, 1)

    table.write_text("path,class\na.png,none\nb.png,none\n")
    assert run(tmp_path, model, *arguments)[0] == EXIT_BAD_INPUT
    assert f"{table}: not one image that can be used is labelled" in capsys.readouterr().err


def test_only_bad_frames_is_an_error(tmp_path, model, capsys):
    messages = [("/camera", START_NS, tiny_bag.raw(flat(RED), START_NS, "plaid8"))]

    bag = tiny_bag.write_bag(tmp_path / "bag", messages)
    code, report, _ = run(tmp_path, model, "--bag", bag, "--min-accuracy", 0)

    assert (code, report["complete"]) == (EXIT_BAD_INPUT, False)
    assert "not one of 1 frames could be used" in capsys.readouterr().err


def test_bag_that_is_given_twice_is_refused(tmp_path, model, capsys):
    bag = colour_bag(tmp_path / "bag")

    code, _, _ = run(tmp_path, model, "--bag", bag, "--bag", bag)

    assert code == EXIT_BAD_INPUT
    assert f"--bag {bag} is given twice" in capsys.readouterr().err


def test_a_truncated_bag_is_evaluated_as_far_as_it_goes_and_fails(tmp_path, model, capsys):
    rng = np.random.default_rng(0)
    frames = [tiny_bag.raw(rng.integers(0, 256, (120, 160, 3), np.uint8), START_NS + n) for n in range(60)]
    bag = tiny_bag.write_bag(tmp_path / "bag", [("/camera", START_NS + n, frame) for n, frame in enumerate(frames)])
    os.truncate(bag / "bag.mcap", (bag / "bag.mcap").stat().st_size * 2 // 3)

    code, report, rows = run(tmp_path, model, "--bag", bag, "--labels", "", "--no-video")

    assert code == EXIT_BAD_INPUT
    assert report["complete"] is False
    assert 15 <= len(rows) < 60
    assert any("is truncated" in remark for remark in report["remarks"])
    assert f"mcap recover {bag / 'bag.mcap'}" in capsys.readouterr().err


def test_the_threshold_splits_off_the_unsure_frames(tmp_path, model):
    unsure = (130, 128, 126)
    bag = colour_bag(tmp_path / "bag", [RED, RED, RED, unsure, GREEN, GREEN, GREEN])

    _, report, _ = run(tmp_path, model, "--bag", bag, "--threshold", "0.9", "--no-video")

    assert report["coverage"] == pytest.approx(6 / 7)
    assert report["top1"] == pytest.approx(6 / 7)
    assert report["top1_above_threshold"] == 1.0


def test_a_folder_of_class_folders_is_scored(tmp_path, model, capsys):
    for name, colour in {"red/a.png": RED, "red/ä b.jpg": RED, "green/deep/c.png": BLUE}.items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(flat(colour)).save(tmp_path / "data" / name)
    (tmp_path / "data" / "green" / "broken.png").write_bytes(b"<html>")
    (tmp_path / "data" / "green" / "notes.txt").write_text("not an image")
    (tmp_path / "data" / "green" / "._c.png").write_bytes(b"macOS")

    code, report, rows = run(tmp_path, model, "--images", tmp_path / "data")

    assert code == EXIT_OK
    assert [row["file"] for row in rows] == ["green/broken.png", "green/deep/c.png", "red/a.png", "red/ä b.jpg"]
    assert report["confusion"] == [[2, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert sum(report["frames"]["bad"].values()) == 1
    assert report["ignored"] == {"hidden files": 1, "not an image (.txt)": 1}
    assert "ignored    1 hidden files, 1 not an image (.txt)" in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<td>not among them: hidden files</td><td>1</td>" in page
    assert not list((tmp_path / "out").glob("overlay.*"))


def test_frames_that_are_one_pixel_wide_or_high_are_drawn_small(tmp_path, model):
    frames = [(1, 30_000), (30_000, 1), (1, 1)]
    messages = [
        ("/camera", START_NS + number * SECOND, tiny_bag.raw(np.full((*shape, 3), RED, np.uint8), number + 1))
        for number, shape in enumerate(frames)
    ]
    bag = tiny_bag.write_bag(tmp_path / "narrow", messages)

    code, report, _ = run(tmp_path, model, "--bag", bag, "--labels", "")

    assert code == EXIT_OK
    assert report["frames"]["total"] == 3
    for height, width in frames:
        view = resized_to_view(np.zeros((height, width, 3), np.uint8))
        assert max(view.shape) <= 2000


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--bag", "absent"], "absent: there is no such bag"),
        (["--images", "absent"], "absent: there is no such folder"),
        (["--images", "{empty}"], "there is no image in a class folder"),
        (["--bag", "{bag}", "--topic", "/rear"], "no topic /rear; image topics in it: /camera/image_raw"),
        (["--bag", "{bag}", "--labels", "/scene"], "no topic /scene; label topics in it: none"),
        (["--bag", "{bag}", "--labels", "absent.csv"], "absent.csv: cannot be read"),
        (["--bag", "{bag}", "--labels", "", "--min-accuracy", "0.5"], "--min-accuracy needs --labels"),
        (["--bag", "{bag}", "--min-accuracy", "50"], "--min-accuracy is 50.0; choose 0 to 1"),
        (
            ["--bag", "{bag}", "--max-mae", "0.1"],
            "--max-mae is for regression models; {model} is multiclass: --min-accuracy",
        ),
        (
            ["--bag", "{bag}", "--min-map", "0.1"],
            "--min-map is for multilabel models; {model} is multiclass: --min-accuracy",
        ),
        (["--bag", "{bag}", "--threshold", "nan"], "--threshold is nan; choose 0 to 1"),
        (["--bag", "{bag}", "--top-k", "0"], "--top-k is 0; choose 1 to 5"),
        (["--images", "{empty}", "--topic", "/camera"], "--topic belongs to --bag"),
        (
            ["--bag", "{bag}", "--labels", "/labels", "--labels-start", "image"],
            "--labels-start belongs to tables: the labels of the topic /labels have times of their own",
        ),
        (["--bag", "{bag}", "--model", "absent.onnx"], "absent.onnx: there is no such model file"),
        (["--bag", "{bag}", "--output", "{file}"], "cannot be made"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, model, capsys, arguments, complaint):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    places = {"bag": colour_bag(tmp_path / "bag"), "empty": tmp_path / "empty", "file": tmp_path / "file"}

    code, _, _ = run(tmp_path, model, *[argument.format(**places) for argument in arguments])

    error = capsys.readouterr().err
    assert code == EXIT_BAD_INPUT
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert complaint.replace("{model}", str(model)) in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["--bag", "{bag}", "--model", "{model}"],
        ["--bag", "{bag}", "{other}", "--model", "{model}"],
        ["--images", "{images}", "--model", "{model}"],
        ["--bag", "{bag}", "--answers", "/answers"],
    ],
    ids=["bag", "bags", "images", "answers"],
)
@pytest.mark.parametrize("is_full", [True, False])
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_read(
    tmp_path, model, capsys, monkeypatch, arguments, is_full
):
    def read(*_: object) -> None:
        raise AssertionError("it was read")

    bags = {name: colour_bag(tmp_path / name) for name in ("bag", "other")}
    monkeypatch.setattr(Pipeline, "load", read)
    monkeypatch.setattr(Bag, "__init__", read)
    output = tmp_path / "out" if is_full else UNWRITABLE
    if is_full:
        fill_the_disk(monkeypatch, "trial")

    words = [argument.format(model=model, images=tmp_path, **bags) for argument in arguments]
    assert main([*words, "--output", str(output)]) == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    reason = os.strerror(28 if is_full else 2)
    assert error == f"error: {output}: cannot be written ({reason}); free or choose another --output\n"
    assert not (tmp_path / "out").exists()


def test_the_page_is_self_contained_well_formed_and_escaped(tmp_path):
    names = ("<b>red</b>", 'green & "blue"', "bläu")
    model = write_tiny_model(tmp_path / "tiny.onnx", classes=names)
    (tmp_path / "labels.csv").write_text('start_s,end_s,class\n0,0.3,<b>red</b>\n0.3,0.9,"green & ""blue"""\n')

    bag = colour_bag(tmp_path / "bag")
    code, _, _ = run(tmp_path, model, "--bag", bag, "--labels", tmp_path / "labels.csv", "--no-video")

    text = (tmp_path / "out" / "report.html").read_text()
    page = Page(text)
    assert code == EXIT_OK
    assert page.open == []
    assert page.sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert "<b>red" not in text
    assert "&lt;b&gt;red&lt;/b&gt;" in text
    assert not re.search(r"https?://", text)


def test_the_video_shows_every_frame_at_the_recordings_rate(tmp_path, model, capfd):
    bag = colour_bag(tmp_path / "bag")

    code, _, _ = run(tmp_path, model, "--bag", bag)

    (file,) = (tmp_path / "out").glob("overlay.*")
    video = cv2.VideoCapture(str(file))
    shown = 0
    while video.read()[0]:
        shown += 1
    assert code == EXIT_OK
    assert shown == 10
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10, abs=0.1)
    assert f'src="{file.name}"' in (tmp_path / "out" / "report.html").read_text() or file.suffix != ".webm"
    assert "FFMPEG" not in capfd.readouterr().err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        [file.name, "predictions.csv", "report.html", "report.json"]
    )


def test_a_later_run_without_video_leaves_no_video_of_the_earlier_one(tmp_path, model):
    bag = colour_bag(tmp_path / "bag")

    run(tmp_path, model, "--bag", bag)
    run(tmp_path, model, "--bag", bag, "--no-video")

    assert not list((tmp_path / "out").glob("overlay.*"))


def test_ctrl_c_writes_what_was_done_and_exits_130(tmp_path, model):
    bag = colour_bag(tmp_path / "bag", [RED] * 400)
    slow = (  # stands in for a model that takes 50 ms
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "from cnn_perception.evaluation import cli\n"
        "from cnn_perception.model.onnx_model import OnnxModel\n"
        "run = OnnxModel.run\n"
        "def slow(*arguments, **names):\n"
        "    time.sleep(0.05)\n"
        "    sys.stdout.write('frame\\n')\n"
        "    sys.stdout.flush()\n"
        "    return run(*arguments, **names)\n"
        "OnnxModel.run = slow\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    arguments = ["--bag", bag, "--model", model, "--output", tmp_path / "out", "--providers", "CPUExecutionProvider"]
    command = [sys.executable, "-c", slow, *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(10):
            assert process.stdout.readline() == "frame\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)

    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert process.returncode == EXIT_INTERRUPTED
    assert 1 <= report["frames"]["total"] < 100
    assert report["complete"] is False
    assert "interrupted after" in errors
    assert "Traceback" not in errors
    assert (tmp_path / "out" / "report.html").is_file()


def test_ctrl_c_while_latencies_are_measured_leaves_the_report_of_all_frames(tmp_path, model, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cnn_perception.evaluation.evaluation.measure_latency", interrupted)
    code, report, rows = run(tmp_path, model, "--bag", colour_bag(tmp_path / "bag"), "--no-video")

    assert code == EXIT_INTERRUPTED
    assert (report["complete"], report["latency"], len(rows)) == (False, {}, 10)


@pytest.mark.parametrize(
    "stage",
    ["score", "recording_facts", "write_text", "predictions_csv", "draw_record", "render_html", "write_video"],
)
def test_ctrl_c_whenever_it_comes_after_the_last_frame_leaves_all_that_was_measured(
    tmp_path, model, monkeypatch, capsys, stage
):
    bag = colour_bag(tmp_path / "bag")
    really = getattr(evaluation, stage)
    calls: list[str] = []

    def once(*arguments: object, **named: object) -> object:
        calls.append(stage)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return really(*arguments, **named)

    monkeypatch.setattr(evaluation, stage, once)
    code, report, rows = run(tmp_path, model, "--bag", bag)

    assert (code, len(calls) >= 1) == (EXIT_INTERRUPTED, True)
    assert report["top1"] == pytest.approx(8 / 9)
    assert [row["predicted"] for row in rows] == ["red"] * 3 + ["green"] * 3 + ["blue"] * 4
    assert (tmp_path / "out" / "report.html").is_file()
    assert not list((tmp_path / "out").glob("overlay.*"))
    assert "interrupted" in capsys.readouterr().err


def test_ctrl_c_a_second_time_ends_the_evaluation_at_once(tmp_path, model, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "score", interrupted)
    code, report, _ = run(tmp_path, model, "--bag", colour_bag(tmp_path / "bag"))

    assert (code, report) == (EXIT_INTERRUPTED, {})


def test_a_disk_that_fills_up_leaves_no_answers_of_an_earlier_model_beside_the_record(tmp_path, model, monkeypatch):
    bag = colour_bag(tmp_path / "bag")
    run(tmp_path, model, "--bag", bag, "--no-video")
    fill_the_disk(monkeypatch, "predictions.csv")

    arguments = ("--labels", tmp_path / "labels.csv", "--output", tmp_path / "out", "--no-video")
    code = main(["--bag", str(bag), "--model", str(model), *map(str, arguments)])

    assert code == EXIT_BAD_INPUT
    assert not {"predictions.csv", "report.html"} & {path.name for path in (tmp_path / "out").iterdir()}


def test_a_full_disk_is_one_line(tmp_path, model, capsys, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)

    code, _, _ = run(tmp_path, model, "--bag", colour_bag(tmp_path / "bag"), "--no-video")

    assert code == EXIT_BAD_INPUT
    assert "No space left on device" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_worst_frames_are_confident_mistakes_first_with_room_for_every_kind(tmp_path, model):
    colours = [GREEN] * 60 + [(150, 10, 160)] * 10 + [(10, 10, 250)] * 10
    (tmp_path / "red.csv").write_text("start_s,end_s,class\n0,99,red\n")

    bag = colour_bag(tmp_path / "bag", colours)
    _, report, _ = run(tmp_path, model, "--bag", bag, "--labels", tmp_path / "red.csv", "--no-video")

    worst = report["worst"]
    assert worst[0]["index"] == 70
    assert [frame["predicted"] for frame in worst].count("green") == 3
    assert 60 <= worst[-1]["index"] < 70
    assert [frame["score"] for frame in worst] == sorted((frame["score"] for frame in worst), reverse=True)


def test_no_two_of_the_worst_frames_of_a_recording_are_of_one_second(tmp_path, model):
    greens = [(60, 200 - index % 37, 10) for index in range(95)]
    (tmp_path / "red.csv").write_text("start_s,end_s,class\n0,99,red\n")

    bag = colour_bag(tmp_path / "bag", greens)
    _, report, rows = run(tmp_path, model, "--bag", bag, "--labels", tmp_path / "red.csv", "--no-video")

    times_s = sorted(frame["time_s"] for frame in report["worst"])
    assert len(times_s) == 3
    assert min(np.diff(times_s)) >= 1.0
    assert report["worst"][0]["score"] == pytest.approx(max(float(row["score"]) for row in rows), abs=1e-6)


def test_files_of_others_in_the_output_folder_are_not_overwritten(tmp_path, model, capsys):
    (tmp_path / "out").mkdir()
    page = tmp_path / "out" / "report.html"  # of a training run
    page.write_text("mine")
    code, _, _ = run_here(tmp_path, model, colour_bag(tmp_path / "bag"))
    assert code == EXIT_BAD_INPUT
    assert f"{page}: is there already, and not of an earlier run; choose another --output" in capsys.readouterr().err
    assert list(page.parent.iterdir()) == [page]
    assert page.read_text() == "mine"


def test_an_earlier_evaluation_is_replaced_but_not_what_is_read(tmp_path, model, capsys):
    bag = colour_bag(tmp_path / "bag")
    assert run_here(tmp_path, model, bag)[0] == EXIT_OK
    assert run_here(tmp_path, model, bag)[0] == EXIT_OK
    table = (tmp_path / "out" / "predictions.csv").read_text()
    code, _, _ = run_here(tmp_path, model, bag, "--labels", tmp_path / "out" / "predictions.csv")
    assert code == EXIT_BAD_INPUT
    assert "would be overwritten" in capsys.readouterr().err
    assert (tmp_path / "out" / "predictions.csv").read_text() == table


@pytest.mark.parametrize("where", [".", "report", "deep/er", "link"])
@pytest.mark.parametrize("option", ["--bag", "--images"])
def test_an_output_inside_of_what_is_read_is_refused_in_one_line(tmp_path, model, capsys, option, where):
    source = colour_bag(tmp_path / "bag")
    if where == "link":
        (source / "below").mkdir()
        (tmp_path / "link").symlink_to(source / "below")
    output = tmp_path / "link" / "report" if where == "link" else source / where
    before = sorted(source.rglob("*"))
    code = main([option, str(source), "--model", str(model), "--output", str(output)])
    assert code == EXIT_BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{output}: lies in {source}, which is read" in line
    assert sorted(source.rglob("*")) == before


@pytest.mark.parametrize("option", ["--bag", "--images", "--model", "--labels", "--masks", "--baseline", "--output"])
@pytest.mark.parametrize("name", ["loop", "a" * 300 + ".csv"], ids=["loop", "long"])
def test_a_path_that_no_file_can_have_is_one_line_wherever_it_stands(tmp_path, model, capsys, option, name):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "red.csv").write_text("start_s,end_s,class\n0,99,red\n")
    (tmp_path / "bag").mkdir()
    words = {
        "--bag": tmp_path / "bag",
        "--model": model,
        "--labels": tmp_path / "red.csv",
        "--output": tmp_path / "out",
    }
    words[option] = tmp_path / name
    if option == "--images":
        del words["--bag"], words["--labels"]
    if option not in ("--bag", "--images"):
        words["--bag"] = colour_bag(tmp_path / "drive")

    assert main([text for pair in words.items() for text in map(str, pair)]) == EXIT_BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert name[:20] in line


def run_here(tmp_path, model, bag, *arguments):
    return run(tmp_path, model, "--bag", bag, "--no-video", *arguments)


@pytest.mark.parametrize(
    ("slower", "code", "words"),
    [
        (1, EXIT_OK, ""),
        (10, EXIT_OK, "take 1.9 s by their stamps and 19 s by their log times"),
        (0, EXIT_BAD_INPUT, "all 20 images of /camera have the log time 1700000000.000 s: the bag has no time axis"),
    ],
)
def test_seconds_of_labels_on_a_time_axis_that_is_not_that_of_the_stamps_are_said(
    tmp_path, model, slower, code, words, capsys
):
    stamps = [START_NS + n * SECOND // 10 for n in range(20)]
    images = [("/camera", START_NS + slower * (t - START_NS), tiny_bag.raw(flat(RED), t)) for t in stamps]
    labels = tmp_path / "labels.csv"
    labels.write_text("start_s,end_s,class\n0,30,red\n")
    bag = tiny_bag.write_bag(tmp_path / "bag", images)

    found, report, _ = run(tmp_path, model, "--bag", bag, "--labels", labels, "--no-video")

    assert found == code
    assert report["top1"] == 1.0
    assert any(words in line for line in [*report["remarks"], *report["warnings"]]) == bool(words)
    assert words in capsys.readouterr().err
