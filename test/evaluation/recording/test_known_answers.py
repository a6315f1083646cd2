"""Owns: labels of topics whose stamps are not of the images' clock, and labels that belong to no frame, in the same
words by a model and of recorded answers. Oracle: a drive whose colours are known, by hand.

Leaves to others: tables (test_labels, test_measurements), the figures (test_evaluate, test_recorded).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_bag
from evaluating import SECOND, run
from tiny_bag import BLUE, GREEN, RED, START_NS, flat
from tiny_model import regression_spec, write_tiny_model

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from cnn_perception.evaluation import cli

COLOURS = {"red": RED, "green": GREEN, "blue": BLUE}
TRUTH = ["red"] * 10 + ["green"] * 5 + ["blue"] * 5
BOOT = 5 * SECOND - START_NS
"""From the time of day to seconds since the machine was started."""
CHANGES = {0: "red", 10: "green", 15: "blue"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


def drive(path: Path, shift_ns: int = 0, images_ns: int = 0, changes: dict[int, str] = CHANGES, period_s: float = 0.1):
    """20 red, green and blue images, each answered as it is; stamps of labels and images are wrong by so much."""
    messages = []
    for index, name in enumerate(TRUTH):
        time_ns = START_NS + round(index * period_s * SECOND)
        image_ns = time_ns + images_ns
        if index in changes:
            stamp_ns = time_ns + shift_ns
            messages.append(("/label", time_ns, tiny_bag.classification(stamp_ns, {changes[index]: 1.0})))
        messages.append(("/camera", time_ns, tiny_bag.raw(flat(COLOURS[name]), image_ns)))
        messages.append(("/answers", time_ns, tiny_bag.classification(image_ns, {name: 1.0})))
    return tiny_bag.write_bag(path, messages)


def both(tmp_path: Path, model: Path, bag: Path, *arguments: object) -> list[tuple[int, dict]]:
    """The exit codes and reports of the model on a bag, and of what was answered in it, without and with the model."""
    code, report, _ = run(tmp_path, model, "--bag", bag, "--labels", "/label", "--no-video", *arguments)
    found = [(code, report)]
    for name, extra in (("alone", []), ("beside", ["--model", model])):
        words = ["--bag", bag, "--labels", "/label", "--answers", "/answers", "--output", tmp_path / name, *extra]
        code = cli.main(list(map(str, [*words, *arguments])))
        found.append((code, json.loads((tmp_path / name / "answers.json").read_text())))
    return found


def scored(report: dict) -> float:
    found = report["stream"]["scores"]["accuracy"] if "stream" in report else None
    return found["value"] if found else report.get("top1")


@pytest.mark.parametrize("shift_ns", [BOOT, -3600 * SECOND], ids=["since boot", "an hour behind"])
@pytest.mark.parametrize("required", [True, False])
def test_different_labels_that_are_all_before_the_first_frame_fail_what_is_required(
    tmp_path, model, capsys, shift_ns, required
):
    arguments = ("--min-accuracy", 0.2) if required else ()

    for code, report in both(tmp_path, model, drive(tmp_path / "bag", shift_ns), *arguments):
        said = report["remarks" if required else "warnings"]
        assert code == (EXIT_BAD_INPUT if required else EXIT_OK)
        assert sum("/label: all 3 labels are stamped before the first frame" in line for line in said) == 1
        assert "stamp them as the images are" in said[-1]
    assert f"{'error' if required else 'warning'}: /label: all 3 labels" in capsys.readouterr().err


def test_labels_and_images_of_one_clock_are_as_good_whichever_it_is(tmp_path, model):
    for name, shift_ns in (("day", 0), ("boot", BOOT)):
        bag = drive(tmp_path / name, shift_ns, shift_ns)
        for code, report in both(tmp_path, model, bag, "--min-accuracy", 1.0):
            assert (code, scored(report), report["remarks"], report["warnings"]) == (EXIT_OK, 1.0, [], [])


@pytest.mark.parametrize(
    "changes", [{0: "red"}, {0: "none", 1: "red"}, {0: "red", 5: "red"}], ids=["once", "after none", "twice"]
)
def test_one_label_of_long_before_the_recording_holds_for_all_of_it(tmp_path, model, changes):
    bag = drive(tmp_path / "bag", -600 * SECOND, changes=changes)

    for code, report in both(tmp_path, model, bag, "--min-accuracy", 0.5):
        assert (code, scored(report), report["remarks"]) == (EXIT_OK, 0.5, [])
        assert not any("stamp" in line for line in report["warnings"])


@pytest.mark.parametrize(
    ("shift_s", "said"),
    [
        (18, "18.0 s ahead of those of the images"),
        (-37, "37.0 s behind those of the images"),
        (2.1, "2.1 s ahead"),
        (1.9, ""),
        (-1.9, ""),
    ],
)
def test_labels_of_a_clock_that_is_seconds_apart_are_told_by_how_much(tmp_path, model, shift_s, said):
    bag = drive(tmp_path / "bag", round(shift_s * SECOND), period_s=10.0)

    for code, report in both(tmp_path, model, bag, "--min-accuracy", 0.1):
        assert code == EXIT_OK
        assert [line for line in report["warnings"] if "stamps" in line and said in line] == report["warnings"]
        assert bool(report["warnings"]) is bool(said)


def test_images_without_stamps_are_labelled_by_their_reception(tmp_path, model):
    bag = drive(tmp_path / "bag")
    messages = [("/label", START_NS + 3, tiny_bag.classification(START_NS + 3, {"red": 1.0}))]
    messages += [("/camera", START_NS + n, tiny_bag.raw(flat(RED), 0)) for n in (1, 2, 4, 5)]
    bag = tiny_bag.write_bag(tmp_path / "other", sorted(messages, key=lambda message: message[1]))

    code, report, rows = run(tmp_path, model, "--bag", bag, "--labels", "/label", "--no-video")

    assert (code, report["warnings"]) == (EXIT_OK, [])
    assert [row["truth"] for row in rows] == ["", "", "red", "red"]


def no_time(message, nanosec: int):
    """The message with a stamp whose nanoseconds are more than a second has."""
    message.header.stamp.nanosec = nanosec
    return message


def test_stamps_that_are_no_time_are_told_and_shift_no_label(tmp_path, model, capsys):
    """As of drivers that write the lowest 32 bits of all nanoseconds; labels have true stamps, such as of a map."""
    messages = []
    for index, name in enumerate(TRUTH):
        time_ns = START_NS + index * SECOND // 10
        if index in CHANGES:
            messages.append(("/label", time_ns, tiny_bag.classification(time_ns, {name: 1.0})))
        for topic, message in (
            ("/camera", tiny_bag.raw(flat(COLOURS[name]), time_ns)),
            ("/answers", tiny_bag.classification(time_ns, {name: 1.0})),
        ):
            messages.append((topic, time_ns, no_time(message, time_ns % 2**32)))
    count = sum((START_NS + index * SECOND // 10) % 2**32 >= SECOND for index in range(20))
    bag = tiny_bag.write_bag(tmp_path / "bag", messages)

    for code, report in both(tmp_path, model, bag, "--min-accuracy", 1.0):
        assert (code, scored(report), report["remarks"]) == (EXIT_OK, 1.0, [])
        (line,) = report["warnings"]
        assert f"/camera: stamp_invalid in {count} of 20 messages: nanosec of the stamp is " in line
        assert line.endswith("; their time is that of their reception")
    assert "stamp_invalid" in capsys.readouterr().err
    _, report, _ = run(tmp_path, model, "--bag", bag, "--labels", "", "--no-video")
    assert "stamp_invalid" in report["warnings"][0]


def test_a_stamp_of_before_1970_is_none(tmp_path, model):
    bag = drive(tmp_path / "bag", images_ns=-2 * START_NS)

    for code, report in both(tmp_path, model, bag, "--min-accuracy", 1.0)[:2]:
        assert (code, scored(report)) == (EXIT_OK, 1.0)


@pytest.mark.parametrize("nanosec", [SECOND, 2**32 - 1])
def test_labels_whose_stamps_are_no_time_are_refused_with_the_way_out(tmp_path, model, capsys, nanosec):
    images = [("/camera", START_NS + n, tiny_bag.raw(flat(RED), START_NS + n)) for n in range(5)]
    label = no_time(tiny_bag.classification(START_NS, {"red": 1.0}), nanosec)
    bag = tiny_bag.write_bag(tmp_path / "bag", [("/label", START_NS, label), *images])

    assert run(tmp_path, model, "--bag", bag, "--labels", "/label")[0] == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert f"/label: stamp_invalid in 1 of 1 messages: nanosec of the stamp is {nanosec}, more than a second" in error
    assert "or publish std_msgs/String, which counts from its reception" in error


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, 1])
def test_a_label_whose_score_is_no_number_is_refused_by_its_name(tmp_path, model, capsys, score, place):
    names = ["green", "red"] if place == 0 else ["red", "green"]
    label = tiny_bag.classification(START_NS, {name: {"red": 0.5, "green": score}[name] for name in names})
    images = [("/camera", START_NS + n, tiny_bag.raw(flat(RED), START_NS + n)) for n in range(5)]
    bag = tiny_bag.write_bag(tmp_path / "bag", [("/label", START_NS, label), *images])

    assert run(tmp_path, model, "--bag", bag, "--labels", "/label")[0] == EXIT_BAD_INPUT
    said = f"/label: the label stamped {START_NS} ns gives 'green' the score {score}; mend what published it"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("make", [lambda n, v: tiny_bag.number(v), lambda n, v: tiny_bag.joint_state(n, {"speed": v})])
def test_measured_numbers_that_are_none_are_told_and_label_nothing(tmp_path, make):
    model = write_tiny_model(tmp_path / "one.onnx", spec=regression_spec({"speed": "m/s"}), gain=1.0)
    messages = []
    for index, value in enumerate([1.0, float("nan"), 1.0, float("inf"), 1.0]):
        time_ns = START_NS + index * SECOND
        messages.append(("/speed", time_ns, make(time_ns, value)))
        messages.append(("/camera", time_ns, tiny_bag.raw(flat(RED), time_ns)))
    bag = tiny_bag.write_bag(tmp_path / "bag", messages)

    code, report, rows = run(tmp_path, model, "--bag", bag, "--labels", "/speed", "--no-video")

    said = "/speed: 2 messages hold nan or inf: frames nearest to them are unlabelled"
    assert (code, report["warnings"]) == (EXIT_OK, [said])
    assert [row["true speed"] for row in rows] == ["1", "", "1", "", "1"]


def test_answers_without_images_have_the_clock_of_their_own_stamps(tmp_path):
    messages = []
    for index, name in enumerate(TRUTH):
        time_ns = START_NS + index * SECOND
        if index in CHANGES:
            messages.append(("/label", time_ns, tiny_bag.classification(time_ns - 3600 * SECOND, {name: 1.0})))
        messages.append(("/answers", time_ns, tiny_bag.classification(time_ns, {name: 1.0})))
    bag = tiny_bag.write_bag(tmp_path / "bag", messages)
    words = ["--bag", bag, "--labels", "/label", "--answers", "/answers", "--min-accuracy", 0.1]

    assert cli.main(list(map(str, [*words, "--output", tmp_path / "out"]))) == EXIT_BAD_INPUT
    remarks = json.loads((tmp_path / "out" / "answers.json").read_text())["remarks"]
    assert "all 3 labels are stamped before the first frame" in remarks[0]


def test_a_topic_that_labels_no_frame_is_not_told_of_an_option_of_tables(tmp_path, model):
    for code, report in both(tmp_path, model, drive(tmp_path / "bag", 3600 * SECOND)):
        assert code == EXIT_BAD_INPUT
        assert "frame is labelled; a topic's labels are of the images' time: by stamps" in report["remarks"][0]
        assert "--labels-start" not in report["remarks"][0]


@pytest.mark.parametrize("required", [True, False])
def test_measured_times_without_a_frame_fail_what_is_required(tmp_path, required):
    model = write_tiny_model(tmp_path / "one.onnx", spec=regression_spec({"speed": "m/s"}), gain=1.0)
    table = tmp_path / "speed.csv"
    table.write_text("time_s,speed\n0,1\n1,1\n2.4,1\n50,1\n60,1\n")
    arguments = ["--max-mae", 10.0] if required else []

    bag = drive(tmp_path / "bag")
    code, report, _ = run(tmp_path, model, "--bag", bag, "--labels", table, "--no-video", *arguments)

    said = (
        f"{table}: no frame is within 0.5 s of 2 of 5 measured times, such as 50 s; see --labels-start, or remove them"
    )
    assert (code, said in report["remarks"], said in report["warnings"]) == (
        (EXIT_BAD_INPUT, True, False) if required else (EXIT_OK, False, True)
    )
