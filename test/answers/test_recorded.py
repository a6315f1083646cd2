"""Owns: `evaluate_bag --answers`: recorded answers are scored by hand arithmetic, with and without images and a model.

Leaves to others: matching and time (test_matching, test_over_time), a node that answers now (test_live_replay).
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys

import pytest
from evaluating import Page
from paths import ROOT
from tiny_bag import BLUE, GREEN, RED, START_NS, classification, flat, joint_state, number, raw, string, write_bag
from tiny_model import regression_spec, tiny_spec, with_unknown, write_tiny_model

from cnn_perception.errors import EXIT_INTERRUPTED
from cnn_perception.evaluation import cli
from cnn_perception.pipeline.pipeline import Pipeline

STEP_NS, DELAY_NS = 100_000_000, 30_000_000
COLOURS = {"red": RED, "green": GREEN, "blue": BLUE}
TRUTH = ["red"] * 4 + ["green"] * 4 + ["blue"] * 4
GIVEN = ["red", "red", "blue", "red", "green", "green", None, "green", "unknown", "blue", "blue", "red"]
"""Of 12 frames 11 are answered, 8 of them rightly; one is unknown, frame 6 has none."""


def write(path, given=GIVEN, *, images=True, stamps=True, extra=()):
    messages = list(extra)
    for index, (truth, name) in enumerate(zip(TRUTH, given, strict=True)):
        time_ns = START_NS + index * STEP_NS
        stamp_ns = time_ns if stamps else 0
        messages.append(("/truth", time_ns, string(truth)))
        if images:
            messages.append(("/camera/image_raw", time_ns, raw(flat(COLOURS[truth]), stamp_ns)))
        if name is not None:
            messages.append(("/robot/answers", time_ns + DELAY_NS, classification(stamp_ns, {name: 0.9, "x": 0.1})))
    return write_bag(path, sorted(messages, key=lambda message: message[1]))


def run(tmp_path, bag, *arguments, answers="/robot/answers", labels="/truth"):
    command = ["--bag", str(bag), "--answers", answers, "--output", str(tmp_path / "out"), *map(str, arguments)]
    code = cli.main([*command, *(["--labels", labels] if labels else [])])
    path = tmp_path / "out" / "answers.json"
    return code, json.loads(path.read_text()) if path.is_file() else {}


def test_planted_wrong_answers_give_the_accuracy_by_hand_without_a_model(tmp_path):
    code, report = run(tmp_path, write(tmp_path / "bag"))

    stream = report["stream"]
    assert code == 0
    assert (report["images"], report["unanswered"], stream["answers"], stream["matched"]) == (12, 1, 11, 11)
    assert stream["scores"]["accuracy"]["value"] == pytest.approx(8 / 11)
    assert (stream["scores"]["scored"], stream["scores"]["unanswered"]) == (11, 1)
    assert stream["unknown"] == pytest.approx(0)  # two results: the class, and another one
    assert report["delay_ms"]["p50_ms"] == pytest.approx(30.0)
    assert report["delay_ms"]["count"] == 11
    assert report["model"] is None
    Page((tmp_path / "out" / "answers.html").read_text())


def test_a_table_has_a_line_for_each_frame(tmp_path):
    run(tmp_path, write(tmp_path / "bag"))

    with (tmp_path / "out" / "answers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["truth"] for row in rows] == TRUTH
    assert [row["answer"] or None for row in rows] == GIVEN
    assert {row["answer delay_ms"] for row in rows} == {"30.000", ""}


def test_a_share_of_unknown_answers_is_told_and_counts_as_wrong(tmp_path):
    extra = [("/r", START_NS + n * STEP_NS, classification(START_NS + n * STEP_NS, {"unknown": 1.0})) for n in range(3)]
    extra.append(("/r", START_NS + 3 * STEP_NS, classification(START_NS + 3 * STEP_NS, {"red": 1.0})))

    _, report = run(tmp_path, write(tmp_path / "bag", extra=extra), answers="/r")

    assert report["stream"]["unknown"] == pytest.approx(0.75)
    assert report["stream"]["scores"]["accuracy"]["value"] == pytest.approx(0.25)


def test_without_images_each_answer_is_a_frame_of_when_it_came(tmp_path):
    code, report = run(tmp_path, write(tmp_path / "bag", images=False))

    assert code == 0
    assert report["stream"]["scores"]["accuracy"]["value"] == pytest.approx(8 / 11)
    assert report["delay_ms"] is None
    assert "no images" in report["warnings"][0]


def test_answers_and_images_that_do_not_belong_together_are_counted_both_ways(tmp_path):
    extra = [("/robot/answers", START_NS + 1, classification(START_NS + 1, {"red": 1.0})) for _ in range(2)]

    _, report = run(tmp_path, write(tmp_path / "bag", extra=extra))

    assert (report["stream"]["strangers"], report["unanswered"]) == (2, 1)
    assert "2 answers have a stamp that no frame has" in report["warnings"][0]


def test_answers_of_another_camera_are_an_error_and_exit_2(tmp_path):
    bag = write(tmp_path / "bag", [None] * 12, extra=[("/robot/answers", START_NS, classification(5, {"red": 1.0}))])

    code, report = run(tmp_path, bag)

    assert code == 2
    assert not report["complete"]
    assert "name its images with --topic" in report["remarks"][0]


def test_answers_and_labels_of_another_camera_on_the_same_topics_are_not_those_of_these_images(tmp_path):
    messages = []
    for index in range(4):
        time_ns = START_NS + index * STEP_NS
        for camera, name in [("front", "red"), ("back", "blue")]:  # whose stamps are equal
            for topic, made in [
                (f"/{camera}", raw(flat(COLOURS[name]), time_ns)),
                ("/labels", classification(time_ns, {name: 1.0})),
                ("/robot/answers", classification(time_ns, {name: 0.9, "x": 0.1})),
            ]:
                made.header.frame_id = camera
                messages.append((topic, time_ns, made))
    bag = write_bag(tmp_path / "bag", messages)

    for camera in ("front", "back"):
        code, report = run(tmp_path, bag, "--topic", f"/{camera}", labels="/labels")
        assert (code, report["warnings"], report["stream"]["matched"]) == (0, [], 4)
        assert report["stream"]["scores"]["accuracy"]["value"] == 1.0


def test_frames_without_stamps_are_told_and_scored_only_if_their_order_says_whose_answers_these_are(tmp_path):
    whole = [name or "green" for name in GIVEN]
    _, report = run(tmp_path, write(tmp_path / "bag", whole, stamps=False))
    assert report["stream"]["scores"]["accuracy"]["value"] == pytest.approx(9 / 12)
    assert "12 of 12 frames have no stamp" in report["warnings"][0]

    code, report = run(tmp_path, write(tmp_path / "other", stamps=False))
    assert code == 2
    assert report["stream"]["ambiguous"] == 12
    assert report["remarks"] == ["/robot/answers: nobody can tell whose answers these are: 12 images share a stamp"]
    assert report["stream"]["scores"]["scored"] == 0


def test_labels_from_a_file_are_those_of_the_bags_time(tmp_path):
    (tmp_path / "labels.csv").write_text("start_s,end_s,class\n0,0.35,red\n0.35,0.75,none\n0.75,9,blue\n")

    _, report = run(tmp_path, write(tmp_path / "bag"), labels=str(tmp_path / "labels.csv"))

    # 4 red of which 3 are right, 4 unlabelled, 4 blue of which 2 are right
    assert report["stream"]["scores"]["scored"] == 8
    assert report["stream"]["scores"]["accuracy"]["value"] == pytest.approx(5 / 8)


@pytest.mark.parametrize("column", ["bag", "Bag"])
def test_rows_of_other_bags_score_nothing_here(tmp_path, column):
    rows = ("bag,0,0.35,green", "other,0,0.35,red", "other,0.2,9,red")  # those of others overlap, too
    (tmp_path / "labels.csv").write_text("\n".join([f"{column},start_s,end_s,class", *rows]))

    code, report = run(tmp_path, write(tmp_path / "bag"), "--min-accuracy", 0.1, labels=str(tmp_path / "labels.csv"))

    assert code == 3
    assert report["stream"]["scores"]["scored"] == 4
    assert report["stream"]["scores"]["accuracy"]["value"] == 0.0


def test_numbers_of_other_bags_and_the_column_that_tells_them_are_no_numbers_of_this_one(tmp_path):
    messages = []
    for index in range(2):
        time_ns = START_NS + index * 10**9
        messages += [("/camera/image_raw", time_ns, raw(flat(RED), time_ns))]
        messages += [("/steer", time_ns, joint_state(time_ns, {"x": 1.0}))]
    (tmp_path / "labels.csv").write_text("Bag,time_s,angle\nbag,0,1.5\nother,0,9\nbag,1,1.5\n")

    bag = write_bag(tmp_path / "bag", messages)
    code, report = run(tmp_path, bag, answers="/steer", labels=str(tmp_path / "labels.csv"))

    assert code == 0
    assert report["stream"]["scores"]["errors"] == [{"name": "angle", "mae": 0.5}]


@pytest.mark.parametrize("with_model", [False, True])
@pytest.mark.parametrize("required", [True, False])
def test_intervals_without_a_frame_fail_what_is_required_of_the_answers(tmp_path, capsys, required, with_model):
    labels = tmp_path / "labels.csv"
    labels.write_text("start_s,end_s,class\n0,0.15,red\n50,60,blue\n")
    arguments = ["--min-accuracy", 0.1] if required else []
    arguments += ["--model", write_tiny_model(tmp_path / "model.onnx")] if with_model else []

    code, report = run(tmp_path, write(tmp_path / "bag"), *arguments, labels=str(labels))

    said = (
        f"{labels}: no frame lies in 1 of 2 labelled intervals, such as 50 to 60 s; see --labels-start, or remove them"
    )
    assert (code, said in report["remarks"], said in report["warnings"]) == (
        (2, True, False) if required else (0, False, True)
    )
    assert f"{'error' if required else 'warning'}: {said}" in capsys.readouterr().err


@pytest.mark.parametrize(("answered", "code"), [(6, 0), (5, 3)])
def test_a_few_right_answers_are_not_enough_where_most_labelled_frames_have_none(tmp_path, capsys, answered, code):
    given = TRUTH[:answered] + [None] * (12 - answered)

    found, report = run(tmp_path, write(tmp_path / "bag", given), "--min-accuracy", 0.9)

    said = f"7 of 12 labelled frames have no answer, more than the 5 scored: the {report['required']} counts as missed"
    assert found == code
    assert report["passed"] is (code == 0)
    assert report["stream"]["scores"]["accuracy"]["value"] == 1.0
    assert (said in report["remarks"]) is (code == 3)
    assert (f"warning: {said}" in capsys.readouterr().err) is (code == 3)


def test_a_label_that_no_answer_ever_names_is_told_beside_what_the_answers_name(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("start_s,end_s,class\n0,0.35,Red\n0.35,0.75,green\n0.75,1,none of these\n1,2,none\n")

    code, report = run(tmp_path, write(tmp_path / "bag"), labels=str(labels))

    assert code == 0
    assert report["warnings"] == [
        "no answer ever names 'Red', as labels do; the answers name 'blue', 'green', 'red', 'unknown', 'x': are they "
        "called alike?"
    ]


def test_a_file_that_is_no_table_by_its_name_is_no_topic_of_the_answers_either(tmp_path, capsys):
    (tmp_path / "labels.xlsx").write_bytes(b"PK")

    assert run(tmp_path, write(tmp_path / "bag"), labels=str(tmp_path / "labels.xlsx"))[0] == 2
    assert "labels.xlsx: is no table by its name, and no topic of the bag; save it as CSV" in capsys.readouterr().err


def test_a_model_is_compared_with_and_differences_are_listed(tmp_path):
    model = write_tiny_model(tmp_path / "model.onnx")

    code, report = run(tmp_path, write(tmp_path / "bag"), "--model", model, "--providers", "CPUExecutionProvider")

    agreement = report["agreement"]
    assert code == 0
    assert (agreement["compared"], agreement["same_answer"]) == (11, 8)
    wrong = [one for one in agreement["differences"] if one["answered"] != one["offline"]]
    assert [(one["index"], one["answered"], one["offline"]) for one in wrong] == [
        (2, "blue", "red"),
        (8, "unknown", "blue"),
        (11, "red", "blue"),
    ]
    assert report["offline"]["value"] == 1.0


def test_ctrl_c_while_the_model_answers_offline_leaves_the_report_of_the_answers(tmp_path, monkeypatch, capsys):
    """As `--live` does, whose replay takes as long as the recording."""
    model = write_tiny_model(tmp_path / "model.onnx")
    really = Pipeline.run

    def interrupted(pipeline, image, **named):
        if tuple(bytes(image.data[:3])) == BLUE:  # of frames 8 to 11
            raise KeyboardInterrupt
        return really(pipeline, image, **named)

    monkeypatch.setattr(Pipeline, "run", interrupted)
    code, report = run(tmp_path, write(tmp_path / "bag"), "--model", model)

    assert code == EXIT_INTERRUPTED
    assert (report["complete"], report["agreement"]["interrupted"], report["offline"]) == (False, True, None)
    assert report["remarks"] == ["interrupted after 7 answers were compared with those of the model offline"]
    assert report["stream"]["scores"]["accuracy"]["value"] == pytest.approx(8 / 11)
    with (tmp_path / "out" / "answers.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["offline"] for row in rows] == [*TRUTH[:8], "", "", "", ""]
    assert [row["answer"] for row in rows] == [name or "" for name in GIVEN]
    assert "error: interrupted after" in capsys.readouterr().err


def test_numbers_have_their_mean_absolute_error_by_hand(tmp_path):
    messages = []
    for index in range(4):
        time_ns = START_NS + index * STEP_NS
        messages += [
            ("/wheel", time_ns, number(float(index))),
            ("/camera/image_raw", time_ns, raw(flat(RED), time_ns)),
            ("/steer", time_ns + DELAY_NS, joint_state(time_ns, {"steer": index + 0.5 * (index % 2)})),
        ]
    code, report = run(tmp_path, write_bag(tmp_path / "bag", messages), answers="/steer", labels="/wheel")

    assert code == 0
    (error,) = report["stream"]["scores"]["errors"]
    assert error["mae"] == pytest.approx(0.25)
    assert report["stream"]["scores"]["accuracy"] is None


@pytest.mark.parametrize(("limit", "code"), [("0.72", 0), ("0.73", 3)])
def test_a_required_accuracy_decides_the_exit_code(tmp_path, limit, code):
    assert run(tmp_path, write(tmp_path / "bag"), "--min-accuracy", limit)[0] == code


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--answers", "/nowhere"], "there is no topic /nowhere"),
        (["--answers", "/truth"], "/truth is std_msgs/msg/String"),
        (["--answers", "/robot/answers", "--live"], "choose one"),
        (["--answers", "/robot/answers", "--rate", "2"], "belong to --live"),
        (["--answers", "/robot/answers", "--min-accuracy", "0.5"], "needs --labels"),
        (["--answers", "/robot/answers", "--min-map", "0.5"], "leave it out"),
        (["--answers", "/robot/answers", "--max-mae", "1", "--labels", "/truth"], "is for numbers"),
        (["--rate", "2", "--model", "m.onnx"], "belong to --live"),
        (["--start-limit", "2", "--model", "m.onnx"], "belong to --live"),
        (["--answers", "", "--live"], "choose one"),
        (["--live", "--baseline", "b.onnx", "--jobs", "2"], "leave --baseline, --jobs out: --live"),
        (["--answers", "/robot/answers", "--threshold", "0.5"], "leave --threshold out: --answers"),
        (["--answers", "/robot/answers", "--results-bag", "copy"], "leave --results-bag out: --answers"),
        (["--answers", "/robot/answers", "--min-accuracy-each", "0.5"], "leave --min-accuracy-each out"),
        (["--answers", "/robot/answers", "--bag", "another"], "takes one bag at a time, these are 2"),
        ([], "--model"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(tmp_path, capsys, arguments, text):
    bag = write(tmp_path / "bag")

    assert cli.main(["--bag", str(bag), "--output", str(tmp_path / "out"), *arguments]) == 2

    said = capsys.readouterr().err
    assert re.fullmatch(r"error: .*\n", said)
    assert text in said


def test_without_ros_recorded_answers_are_scored_and_a_live_replay_says_what_is_missing(tmp_path):
    bag = write(tmp_path / "bag")
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('rclpy', 'vision_msgs')))\n"
        "from cnn_perception.evaluation.cli import main; sys.exit(main())"
    )
    words = [sys.executable, "-c", code, "--bag", str(bag), "--output", str(tmp_path / "out")]

    scored = subprocess.run([*words, "--answers", "/robot/answers"], cwd=ROOT, capture_output=True, text=True)
    live = subprocess.run([*words, "--live", "--model", "m.onnx"], cwd=ROOT, capture_output=True, text=True)

    assert (scored.returncode, live.returncode) == (0, 2)
    assert re.fullmatch(r"error: --live needs ROS 2, of which rclpy is missing; source its setup file\n", live.stderr)


def test_answers_of_another_task_than_the_models_are_refused(tmp_path, capsys):
    model = write_tiny_model(tmp_path / "model.onnx", spec=regression_spec({"a": "", "b": "", "c": ""}))

    assert run(tmp_path, write(tmp_path / "bag"), "--model", model, labels="")[0] == 2
    assert "holds classes, the model is regression" in capsys.readouterr().err


def test_a_file_of_somebody_else_is_not_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "answers.csv").write_text("mine")

    assert run(tmp_path, write(tmp_path / "bag"))[0] == 2
    assert (tmp_path / "out" / "answers.csv").read_text() == "mine"


def test_an_unknown_answer_of_a_model_with_a_rule_is_the_same_offline(tmp_path):
    spec = with_unknown(tiny_spec(), 1e9)  # calls everything unknown
    model = write_tiny_model(tmp_path / "model.onnx", spec=spec)
    extra = [("/r", START_NS + 1, classification(START_NS, {"unknown": 1.0}))]

    _, report = run(tmp_path, write(tmp_path / "bag", extra=extra), "--model", model, answers="/r")

    assert (report["agreement"]["compared"], report["agreement"]["same"]) == (1, 1)
