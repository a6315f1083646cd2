"""Owns: `evaluate_bag --baseline` as a command: what it compares, leaves and ends with. Oracle: hand arithmetic.

Leaves to others: figures (test_comparison), matching (test_baseline), the files' contents (test_report_files).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree as Xml

import cv2
import numpy as np
import pytest
import tiny_bag
from evaluating import SECOND
from tiny_bag import BLUE, GREEN, RED, START_NS, flat
from tiny_model import as_multilabel, regression_spec, tiny_spec, with_unknown, write_tiny_model

from cnn_perception.comparison.baseline import Observer
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_BELOW_TARGET, EXIT_INTERRUPTED, EXIT_OK, EXIT_WORSE
from cnn_perception.evaluation.cli import main

FILES = ("comparison.html", "comparison.json", "comparison.md", "comparison.xml")
COLOURS = [RED, RED, GREEN, GREEN, BLUE, BLUE]
LABELS = "start_s,end_s,class\n" + "".join(
    f"{3 * n},{3 * n + 1},red\n{3 * n + 1},{3 * n + 2},green\n{3 * n + 2},{3 * n + 3},blue\n" for n in range(10)
)


@pytest.fixture(scope="module")
def drive(tmp_path_factory) -> Path:
    """Sixty frames at 2 Hz: two of each colour, ten times. The bad model takes green for blue."""
    folder = tmp_path_factory.mktemp("drive")
    frames = []
    for index in range(60):
        time_ns = START_NS + index * SECOND // 2
        frames.append(("/camera", time_ns, tiny_bag.raw(flat(COLOURS[index % 6]), time_ns)))
    tiny_bag.write_bag(folder / "bag", frames)
    (folder / "labels.csv").write_text(LABELS)
    write_tiny_model(folder / "good.onnx")
    write_tiny_model(folder / "bad.onnx", bias=(0, -9, 0))
    assert evaluated(folder, "good.onnx", folder / "before")[0] == EXIT_OK
    return folder


def evaluated(folder: Path, model: str, output: Path, *more: object, labels: str = "labels.csv") -> tuple[int, dict]:
    """The exit code, and comparison.json; empty where there is none."""
    given = ["--bag", folder / "bag", "--labels", folder / labels, "--model", folder / model, "--output", output]
    code = main([str(one) for one in (*given, "--providers", "CPUExecutionProvider", "--no-video", *more)])
    record = output / "comparison.json"
    return code, json.loads(record.read_text()) if record.is_file() else {}


@pytest.mark.parametrize("baseline", ["before", "before/report.json", "good.onnx"])
def test_a_loss_is_proven_with_a_report_its_folder_or_a_model(drive, tmp_path, capsys, baseline):
    code, found = evaluated(drive, "bad.onnx", tmp_path / "out", "--baseline", drive / baseline)

    assert code == EXIT_WORSE
    assert (found["frames"], found["lost_frames"], found["gained_frames"]) == (60, 20, 0)
    assert (found["headline"]["theirs"], found["headline"]["ours"]) == (1.0, pytest.approx(2 / 3))
    assert (found["passed"], found["verdict"]["is_loss_proven"]) == (False, True)
    assert {one["truth"] for one in found["lost"]} == {"green"}
    assert [one["index"] for one in found["lost"][:4]] == [2, 3, 8, 9]
    assert all((tmp_path / "out" / name).is_file() for name in (*FILES, "report.json", "report.html"))
    out = capsys.readouterr().out
    assert "baseline   worse: 33.3 points (95 %: " in out
    assert "could show a loss of " in out
    assert str(tmp_path / "out" / "comparison.html") in out


def test_pictures_are_of_the_frames_that_changed(drive, tmp_path):
    evaluated(drive, "bad.onnx", tmp_path / "out", "--baseline", drive / "before")

    page = (tmp_path / "out" / "comparison.html").read_text()
    assert page.count("data:image/jpeg") == 10  # of each two neighbours one
    assert "20 frames newly wrong" in page


def test_a_better_model_and_the_same_one_pass(drive, tmp_path):
    evaluated(drive, "bad.onnx", tmp_path / "bad")

    code, better = evaluated(drive, "good.onnx", tmp_path / "out", "--baseline", tmp_path / "bad", "--on-doubt", "fail")
    assert (code, better["verdict"]["change"]) == (EXIT_OK, "better")
    code, same = evaluated(
        drive, "good.onnx", tmp_path / "out", "--baseline", drive / "good.onnx", "--on-doubt", "fail"
    )
    assert (code, same["verdict"]["text"]) == (EXIT_OK, "no difference: both are the same model file")
    assert same["slices"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--max-loss", 60), EXIT_OK),
        (("--max-loss", 60, "--on-doubt", "fail"), EXIT_OK),
        (("--max-loss", 33), EXIT_OK),
        (("--max-loss", 33, "--on-doubt", "fail"), EXIT_WORSE),
        (("--max-loss", 5), EXIT_WORSE),
    ],
)
def test_an_allowed_loss_and_doubt_decide(drive, tmp_path, options, code):
    found, record = evaluated(drive, "bad.onnx", tmp_path / "out", "--baseline", drive / "before", *options)

    assert found == code
    assert record["max_loss"] == options[1] / 100
    suite = Xml.parse(tmp_path / "out" / "comparison.xml").getroot()[0]
    whole = suite.find("testcase")
    assert whole is not None
    assert (whole.find("failure") is not None) is (code == EXIT_WORSE)


def test_a_target_that_is_missed_is_said_before_a_loss(drive, tmp_path):
    code, found = evaluated(drive, "bad.onnx", tmp_path / "out", "--baseline", drive / "before", "--min-accuracy", 0.9)

    assert (code, found["passed"]) == (EXIT_BELOW_TARGET, False)


def test_a_run_that_is_refused_leaves_no_earlier_verdict_for_a_ci_server(drive, tmp_path):
    evaluated(drive, "good.onnx", tmp_path / "out", "--baseline", drive / "before")

    code, _ = evaluated(drive, "missing.onnx", tmp_path / "out", "--baseline", drive / "before")

    suite = Xml.parse(tmp_path / "out" / "comparison.xml").getroot()[0]
    assert (code, suite.get("tests"), suite.get("errors")) == (EXIT_BAD_INPUT, "1", "1")
    error = suite.find("testcase/error")
    assert error is not None
    assert "missing.onnx" in error.get("message", "")


# ---- what is refused


def refused(drive, output, capsys, *more, model="bad.onnx", labels="labels.csv") -> str:
    code, _ = evaluated(drive, model, output, *more, labels=labels)
    assert code == EXIT_BAD_INPUT
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_another_bag_is_refused_by_its_name(drive, tmp_path, capsys):
    other = tmp_path / "other"
    frames = [("/camera", START_NS + 7 + n, tiny_bag.raw(flat(RED), START_NS + 7 + n)) for n in range(3)]
    tiny_bag.write_bag(other / "bag", frames)
    for name in ("labels.csv", "bad.onnx"):
        shutil.copy(drive / name, other / name)

    line = refused(other, tmp_path / "out", capsys, "--baseline", drive / "before")

    assert f"is of another recording, {drive / 'bag'}: none of its 60 frames is here" in line
    assert (tmp_path / "out" / "report.json").is_file()


def test_the_same_frames_in_another_place_and_format_are_the_same_bag(drive, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(drive, moved)
    shutil.rmtree(moved / "bag")
    frames = []
    for index in range(60):
        time_ns = START_NS + index * SECOND // 2
        frames.append(("/camera", time_ns, tiny_bag.raw(flat(COLOURS[index % 6]), time_ns)))
    tiny_bag.write_bag(moved / "bag", frames, storage=tiny_bag.SQLITE)

    code, found = evaluated(moved, "bad.onnx", tmp_path / "out", "--baseline", drive / "before")

    assert (code, found["frames"], found["remarks"]) == (EXIT_WORSE, 60, [])


def test_other_labels_are_refused_by_the_frame(drive, tmp_path, capsys):
    (drive / "other.csv").write_text(LABELS.replace("3,4,red", "3,4,blue"))

    line = refused(drive, tmp_path / "out", capsys, "--baseline", drive / "before", labels="other.csv")

    assert f"was scored with other labels ({drive / 'labels.csv'}): frame 6 of" in line
    assert "was red, and is now blue" in line


def test_labels_of_fewer_frames_are_other_labels(drive, tmp_path, capsys):
    (drive / "fewer.csv").write_text("start_s,end_s,class\n0,1,red\n")

    line = refused(drive, tmp_path / "out", capsys, "--baseline", drive / "before", labels="fewer.csv")

    assert "was green, and is now unlabelled" in line


@pytest.mark.parametrize("now", [False, True])
@pytest.mark.parametrize("flags", [("--encoding", "bgr8"), ("--significant-bits", "12")])
def test_an_evaluation_that_made_other_pixels_of_the_same_bytes_is_refused(drive, tmp_path, capsys, flags, now):
    then = () if now else flags
    assert evaluated(drive, "good.onnx", tmp_path / "then", *then)[0] == EXIT_OK
    capsys.readouterr()

    line = refused(drive, tmp_path / "out", capsys, "--baseline", tmp_path / "then", *(flags if now else ()))

    words = ["neither --encoding nor --significant-bits", " ".join(flags)]
    assert f"was evaluated with {words[not now]}, this is with {words[now]}: " in line
    code, found = evaluated(drive, "good.onnx", tmp_path / "same", "--baseline", tmp_path / "then", *then)
    assert (code, found["frames"], found["lost_frames"]) == (EXIT_OK, 60, 0)


def test_the_report_that_is_compared_with_is_not_overwritten(drive, tmp_path, capsys):
    shutil.copytree(drive / "before", tmp_path / "out")
    before = (tmp_path / "out" / "report.json").read_bytes()

    line = refused(drive, tmp_path / "out", capsys, "--baseline", tmp_path / "out")

    assert "report.json: is read, and would be overwritten; choose another output" in line
    assert (tmp_path / "out" / "report.json").read_bytes() == before


def test_a_comparison_needs_labels(drive, tmp_path, capsys):
    given = [
        "--bag",
        drive / "bag",
        "--model",
        drive / "bad.onnx",
        "--output",
        tmp_path,
        "--baseline",
        drive / "before",
    ]

    assert main([str(one) for one in given]) == EXIT_BAD_INPUT
    assert "error: --baseline needs --labels" in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--max-loss", 1), ("--on-doubt", "fail")])
def test_options_of_a_comparison_need_one(drive, tmp_path, capsys, option):
    assert "belong to --baseline" in refused(drive, tmp_path / "out", capsys, *option)


def test_an_interrupted_evaluation_is_not_compared(drive, tmp_path, monkeypatch):
    def interrupted(self, index, image):
        if index == 20:
            raise KeyboardInterrupt

    monkeypatch.setattr(Observer, "observe", interrupted)
    code, found = evaluated(drive, "bad.onnx", tmp_path / "out", "--baseline", drive / "before")

    assert (code, found) == (EXIT_INTERRUPTED, {})
    assert (tmp_path / "out" / "report.json").is_file()


@pytest.mark.parametrize("points", ["-1", "101", "nan", "inf"])
def test_points_that_make_no_sense_are_refused(drive, tmp_path, capsys, points):
    line = refused(drive, tmp_path / "out", capsys, "--baseline", drive / "before", f"--max-loss={points}")

    assert "choose 0 to 100 points" in line


def test_a_model_that_is_none_is_refused_before_anything_runs(drive, tmp_path, capsys):
    refused(drive, tmp_path / "out", capsys, "--baseline", drive / "labels.csv")

    assert not (tmp_path / "out").exists()


def test_files_of_others_are_not_overwritten(drive, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "comparison.md").write_text("mine")

    line = refused(drive, tmp_path / "out", capsys, "--baseline", drive / "before")

    assert "comparison.md: is there already, and not of an earlier run" in line
    assert evaluated(drive, "good.onnx", tmp_path / "out")[0] == EXIT_OK
    assert (tmp_path / "out" / "comparison.md").read_text() == "mine"


def test_a_comparison_of_an_earlier_run_does_not_stay_beside_a_new_report(drive, tmp_path):
    evaluated(drive, "bad.onnx", tmp_path / "out", "--baseline", drive / "before")

    evaluated(drive, "bad.onnx", tmp_path / "out")

    assert not any((tmp_path / "out" / name).exists() for name in FILES)


# ---- models of other kinds


def test_a_model_of_other_classes_is_compared_by_the_common_ones(drive, tmp_path):
    write_tiny_model(drive / "others.onnx", classes=("red", "violet", "blue"))

    code, found = evaluated(drive, "good.onnx", tmp_path / "out", "--baseline", drive / "others.onnx")

    assert (code, found["frames"]) == (EXIT_OK, 40)
    assert "compared by the 2 common classes; the model alone has green" in found["remarks"]
    assert "left out: 20 frames of classes that only one of the models has" in found["remarks"]


@pytest.mark.parametrize("is_report", [False, True])
def test_a_rule_for_unknown_images_counts_in_the_headline(drive, tmp_path, is_report):
    """The rule calls all unknown: right without it, wrong with it."""
    write_tiny_model(drive / "rule.onnx", spec=with_unknown(tiny_spec(), 1e6))
    baseline = drive / "rule.onnx"
    if is_report:
        evaluated(drive, "rule.onnx", tmp_path / "rule")
        baseline = tmp_path / "rule"

    code, found = evaluated(drive, "good.onnx", tmp_path / "out", "--baseline", baseline)

    assert (code, found["headline"]["theirs"], found["headline"]["ours"]) == (EXIT_OK, 0.0, 1.0)
    assert (found["measures"][0]["theirs"], found["measures"][0]["ours"]) == (1.0, 1.0)
    assert any(line.startswith("only the baseline has an unknown rule") for line in found["remarks"])


@pytest.mark.parametrize("is_report", [False, True])
def test_several_classes_an_image_are_compared(drive, tmp_path, is_report):
    spec = as_multilabel(tiny_spec(), 0.9, 0.9, 0.9)
    write_tiny_model(drive / "labels_good.onnx", spec=spec)
    write_tiny_model(drive / "labels_bad.onnx", spec=spec, bias=(0, -20, 0))
    baseline = drive / "labels_good.onnx"
    if is_report:
        evaluated(drive, "labels_good.onnx", tmp_path / "good")
        baseline = tmp_path / "good"

    code, found = evaluated(drive, "labels_bad.onnx", tmp_path / "out", "--baseline", baseline)

    assert code == EXIT_WORSE
    assert (found["headline"]["theirs"], found["headline"]["ours"]) == (1.0, pytest.approx(2 / 3))
    figures = {one["name"]: one["ours"] for one in found["measures"]}
    assert figures == {"right about red": 1, "right about green": pytest.approx(2 / 3), "right about blue": 1}


@pytest.mark.parametrize("is_report", [False, True])
def test_numbers_are_compared(drive, tmp_path, is_report):
    """The model answers the colours' brightness; the truth is 1 below; the bad one adds 1 to x."""
    spec = regression_spec({"x": "m", "y": "m", "z": "m"})
    write_tiny_model(drive / "numbers_good.onnx", spec=spec, gain=1.0)
    write_tiny_model(drive / "numbers_bad.onnx", spec=spec, gain=1.0, bias=(1, 0, 0))
    rows = [f"{index / 2},{COLOURS[index % 6][0] / 255 - 1},{-1},{-1}" for index in range(60)]
    (drive / "numbers.csv").write_text("\n".join(["time_s,x,y,z", *rows]) + "\n")
    baseline = drive / "numbers_good.onnx"
    if is_report:
        evaluated(drive, "numbers_good.onnx", tmp_path / "good", labels="numbers.csv")
        baseline = tmp_path / "good"

    code, found = evaluated(drive, "numbers_bad.onnx", tmp_path / "out", "--baseline", baseline, labels="numbers.csv")

    assert code == EXIT_WORSE
    x = found["measures"][0]
    assert (x["name"], x["unit"], x["theirs"], x["ours"]) == ("error of x", "m", pytest.approx(1), pytest.approx(2))
    assert found["headline"]["difference"]["value"] == pytest.approx(-1 / 3, abs=1e-4)


@pytest.mark.parametrize("is_report", [False, True])
def test_folders_of_images_are_compared_by_mcnemars_test(drive, tmp_path, is_report):
    for name, colour in (("red", RED), ("green", GREEN), ("blue", BLUE)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            pixels = np.clip(flat(colour, 24, 32).astype(int) + number, 0, 255).astype(np.uint8)
            cv2.imwrite(str(tmp_path / "photos" / name / f"{number}.png"), pixels[..., ::-1])

    def run(model: str, output: str, *more: object) -> int:
        given = ["--images", tmp_path / "photos", "--model", drive / model, "--output", tmp_path / output, *more]
        return main([str(one) for one in given])

    assert run("good.onnx", "good") == EXIT_OK
    code = run("bad.onnx", "out", "--baseline", tmp_path / "good" if is_report else drive / "good.onnx")

    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    difference = found["headline"]["difference"]
    assert (code, found["lost_frames"], difference["unit"]) == (EXIT_WORSE, 8, "frame")
    assert difference["chance"] == pytest.approx(0.5**8)  # mid-p of none against eight
    assert found["lost"][0]["file"] == "green/0.png"
