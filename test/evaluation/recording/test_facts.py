"""Owns: the facts of a recording, and what thresholds and scores would give. Oracle: hand arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from evaluating import SECOND, Page, colour_bag, run
from tiny_bag import BLUE, GREEN, RED, START_NS, flat, raw, string, write_bag
from tiny_model import as_multilabel, tiny_spec, with_unknown, write_tiny_model

from cnn_perception.errors import EXIT_OK
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.recording.curves import calibration, trade_off
from cnn_perception.evaluation.recording.facts import Gap, recording_facts
from cnn_perception.image.appearance import appearance
from cnn_perception.label_text import NONE_OF_THESE
from cnn_perception.tasks.prediction import Prediction

SPEC = tiny_spec()
NAMES = SPEC.class_names


def answered(index: int, truth: str | frozenset[str], scores: tuple[float, ...], spec=SPEC, known: float | None = None):
    values = np.array(scores, np.float32)
    prediction = Prediction(
        spec.class_names,
        values,
        int(values.argmax()),
        None,
        np.empty(0, np.float32),
        task=spec.task,
        thresholds=np.array(spec.thresholds, np.float32),
        unknown=spec.unknown is not None and known is not None and known < spec.unknown.threshold,
        known_score=known,
    )
    return FrameRecord(index, "", 0, 0.1 * index, truth, received_ns=START_NS + index).answered(prediction)


def received(*times_s: float) -> list[FrameRecord]:
    return [
        FrameRecord(n, "", 0, time_s, None, received_ns=START_NS + round(time_s * SECOND))
        for n, time_s in enumerate(times_s)
    ]


def test_a_pause_is_a_gap_and_what_is_missing_is_counted_at_the_cameras_rate():
    times_s = [0.1 * n for n in range(10)] + [2.9, 3.0, 3.1, 3.3, 3.4]

    facts = recording_facts(received(*times_s), ())

    assert facts is not None
    assert (facts.start, facts.images) == ("2023-11-14T22:13:20Z", 15)
    assert facts.length_s == pytest.approx(3.4)
    assert facts.rate_hz == pytest.approx(10.0)
    assert facts.gaps == (Gap(pytest.approx(0.9), pytest.approx(2.0)),)
    assert facts.missing == 19 + 1  # from 0.9 s to 2.9 s, and one at 3.2 s, which is no pause


def test_a_single_image_has_no_rate_and_none_has_no_facts():
    facts = recording_facts(received(0.0), ())

    assert facts is not None
    assert (facts.rate_hz, facts.length_s, facts.missing, facts.gap_count) == (0.0, 0.0, 0, 0)
    assert recording_facts([], ()) is None


def test_scores_that_hold_as_often_as_they_say_are_calibrated():
    scores = (0.75, 0.15, 0.1)
    right = [answered(n, "red", scores) for n in range(6)]
    wrong = [answered(n, "blue", scores) for n in range(6, 8)]

    assert calibration(right + wrong, SPEC).ece == pytest.approx(0.0, abs=1e-6)
    found = calibration(right, SPEC)

    assert found.ece == pytest.approx(0.25, abs=1e-6)
    (filled,) = [one for one in found.bins if one.count]
    assert (filled.count, filled.accuracy, len(found.bins)) == (6, 1.0, 15)


def test_of_several_classes_each_score_counts():
    spec = as_multilabel(SPEC, 0.5, 0.5, 0.5)
    records = [answered(0, frozenset({"red", "blue"}), (0.9, 0.3, 0.9), spec)]

    # red and blue are there at 0.9, green is not at 0.3
    assert calibration(records, spec).ece == pytest.approx((2 * 0.1 + 0.3) / 3, abs=1e-6)


def test_a_stricter_rule_answers_fewer_frames_and_more_of_them_rightly():
    spec = with_unknown(SPEC, 3.0)
    sure, torn = (0.9, 0.05, 0.05), (0.5, 0.4, 0.1)
    records = [
        answered(0, "red", sure, spec, 5.0),
        answered(1, "red", sure, spec, 4.0),
        answered(2, "green", torn, spec, 3.5),  # wrong
        answered(3, "red", torn, spec, 2.0),  # a false alarm of the rule
        answered(4, NONE_OF_THESE, torn, spec, 1.0),
        answered(5, NONE_OF_THESE, torn, spec, 4.5),  # not found
    ]

    found = trade_off(records, spec, 0.0)

    assert found is not None
    assert found.rule == "unknown rule"
    now = found.now
    assert (now.threshold, now.coverage, now.accuracy, now.found) == (3.0, 3 / 4, pytest.approx(2 / 3), 1 / 2)
    by_threshold = {point.threshold: point for point in found.points}
    assert (by_threshold[1.0].coverage, by_threshold[1.0].accuracy, by_threshold[1.0].found) == (1.0, 3 / 4, 0.0)
    assert (by_threshold[4.0].coverage, by_threshold[4.0].accuracy) == (1 / 2, 1.0)
    assert [point.coverage for point in found.points] == sorted((p.coverage for p in found.points), reverse=True)


def test_without_a_rule_it_is_the_score_that_decides():
    records = [answered(0, "red", (0.9, 0.1, 0.0)), answered(1, "green", (0.6, 0.4, 0.0))]

    found = trade_off(records, SPEC, 0.7)

    assert found is not None
    assert (found.rule, found.now.coverage, found.now.accuracy, found.now.found) == ("score", 0.5, 1.0, None)


def test_a_picture_is_bright_and_sharp_as_it_looks():
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (120, 160, 3), np.uint8)
    smooth = np.repeat(np.repeat(noise[::12, ::16], 12, axis=0), 16, axis=1)

    assert appearance(flat((255, 255, 255))).brightness == 1.0
    assert appearance(flat((51, 51, 51), 3, 2000)).brightness == pytest.approx(0.2, abs=0.003)
    assert appearance(flat(RED)).sharpness == 0.0
    assert appearance(noise).sharpness > 2 * appearance(smooth).sharpness > 0


def test_the_report_of_a_recording_says_when_and_how_it_was_made_and_what_it_is_worth(tmp_path, capsys):
    model = write_tiny_model(tmp_path / "tiny.onnx", spec=with_unknown(SPEC, 0.0))
    colours = [RED] * 20 + [GREEN] * 20 + [BLUE] * 20
    (tmp_path / "half.csv").write_text("start_s,end_s,class\n0,1.5,red\n1.5,4,green\n4,9,blue\n")
    extra = [("/chatter", START_NS, string("hello"))]
    bag = colour_bag(tmp_path / "bag", colours, extra)

    code, report, _ = run(tmp_path, model, "--bag", bag, "--labels", tmp_path / "half.csv", "--no-video")

    assert code == EXIT_OK
    assert report["recording"]["rate_hz"] == pytest.approx(10.0)
    assert {topic["name"]: topic["count"] for topic in report["recording"]["topics"]} == {
        "/camera/image_raw": 60, "/chatter": 1
    }  # fmt: skip
    sampling = report["sampling"]
    assert sampling["frames"] == 60
    assert sampling["independent_frames"] < 40  # five frames are wrong one after the other
    assert "say as much as" in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text()
    assert Page(page).open == []
    for text in ("Calibration", "15 bins of equal width", "Unknown or answered", "10.00 Hz", "say as much as"):
        assert text in page


def test_images_of_a_folder_are_independent(tmp_path):
    from PIL import Image

    model = write_tiny_model(tmp_path / "tiny.onnx")
    for index in range(8):
        path = tmp_path / "images" / "red" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(flat(RED)).save(path)

    _, report, _ = run(tmp_path, model, "--images", tmp_path / "images")

    assert (report["sampling"], report["recording"]) == (None, None)
    # Wilson's interval of 8 of 8
    assert report["headline"]["top1"]["low"] == pytest.approx(8 / (8 + 1.959964**2), abs=1e-6)


def test_a_camera_that_repeats_one_picture_is_worth_few_frames(tmp_path):
    model = write_tiny_model(tmp_path / "tiny.onnx")
    frames = [("/camera", START_NS + n * SECOND // 10, raw(flat(RED), START_NS + n)) for n in range(100)]
    (tmp_path / "red.csv").write_text("start_s,end_s,class\n0,99,red\n")

    bag = write_bag(tmp_path / "bag", frames)
    _, report, _ = run(tmp_path, model, "--bag", bag, "--labels", tmp_path / "red.csv", "--no-video")

    assert report["top1"] == 1.0
    assert report["headline"]["top1"]["low"] < 0.5
