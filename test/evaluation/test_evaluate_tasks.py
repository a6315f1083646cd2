"""Owns: what an evaluation says of multilabel and regression models, and of the unknown rule.

Oracles: hand arithmetic on tiny bags, scikit-learn, and a real drive. What all tasks share is in test_evaluate.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_bag
from evaluating import Page, colour_bag, run
from paths import SHARED_DATA
from PIL import Image
from rosbags.rosbag2 import Reader
from tiny_bag import BLUE, GREEN, RED, START_NS, flat
from tiny_model import GAIN, as_multilabel, regression_spec, tiny_spec, with_unknown, write_tiny_model

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_BELOW_TARGET, EXIT_OK

SECOND = 10**9
NAMES = ("red", "green", "blue")


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


# ---- regression: of gain 1 the numbers are the colour's parts over 255


@pytest.fixture(scope="module")
def speedometer(tmp_path_factory) -> Path:
    """Two numbers: the red part of the picture in m/s, the green part without unit."""
    spec = regression_spec({"speed": "m/s", "steering": ""})
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx", spec=spec, gain=1.0)


COLOURS = [(51 * red, 51 * green, 0) for red, green in ((0, 5), (1, 4), (2, 3), (3, 3), (4, 1), (5, 0))]
TRUTH = [(0.0, 1.0), (0.3, 0.8), (0.4, 0.6), (0.6, 0.2), (0.8, 0.2), (0.5, 0.0)]
NUMBERS = ["time_s,steering,speed", *(f"{i / 10},{green},{red}" for i, (red, green) in enumerate(TRUTH))]


def test_errors_are_those_of_hand_arithmetic_and_scikit_learn(tmp_path, speedometer):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    labels = written(tmp_path / "numbers.csv", *NUMBERS)
    bag = colour_bag(tmp_path / "bag", [*COLOURS, *[RED] * 6])  # beyond half a second after the last: unlabelled

    code, report, rows = run(tmp_path, speedometer, "--bag", bag, "--labels", labels)

    assert (code, report["task"], report["passed"]) == (EXIT_OK, "regression", None)
    assert report["frames"] == {"total": 12, "scored": 11, "unlabelled": 1, "bad": {}, "lost": 0}
    truth = np.array([*TRUTH, *[TRUTH[-1]] * 5])
    found = np.array([np.array(colour[:2]) / 255 for colour in [*COLOURS, *[RED] * 5]])
    speed, steering = report["numbers"]
    assert (speed["name"], speed["unit"], steering["unit"]) == ("speed", "m/s", "")
    for index, number in enumerate((speed, steering)):
        true = truth[:, index]
        predicted = found[:, index]
        assert number["mae"] == pytest.approx(sklearn_metrics.mean_absolute_error(true, predicted), abs=1e-6)
        assert number["rmse"] == pytest.approx(sklearn_metrics.root_mean_squared_error(true, predicted), abs=1e-6)
        assert number["r2"] == pytest.approx(sklearn_metrics.r2_score(true, predicted), abs=1e-5)
        assert number["mae_of_mean"] == pytest.approx(np.abs(true - true.mean()).mean())
    assert [(row["true speed"], row["predicted speed"], row["true steering"]) for row in rows[:2]] == [
        ("0", "0", "1"),
        ("0.3", "0.2", "0.8"),
    ]
    assert rows[-1]["true speed"] == ""
    assert (report["worst"][0]["index"], report["worst"][0]["deviation"]) == (5, pytest.approx(0.5))
    assert report["worst"][0]["score"] is None
    assert list((tmp_path / "out").glob("overlay.*"))


@pytest.mark.parametrize(("limit", "code"), [(0.399, EXIT_BELOW_TARGET), (0.401, EXIT_OK)])
def test_every_number_must_reach_the_largest_mae(tmp_path, speedometer, limit, code):
    # speed is exact, steering is answered as 1
    labels = written(tmp_path / "numbers.csv", "time_s,steering,speed", "0,0.6,0")

    bag = colour_bag(tmp_path / "bag", COLOURS[:1])
    found, report, _ = run(tmp_path, speedometer, "--bag", bag, "--labels", labels, "--max-mae", limit, "--no-video")

    assert (found, report["passed"]) == (code, code == EXIT_OK)
    assert report["target"] == {"metric": "MAE", "limit": limit}


def test_the_page_draws_each_number_over_time_and_against_the_truth(tmp_path):
    names = ("<b>speed</b>", "steering & more")
    spec = regression_spec(dict(zip(names, ("<m>", ""), strict=True)))
    model = write_tiny_model(tmp_path / "tiny.onnx", spec=spec, gain=1.0)
    labels = written(tmp_path / "numbers.csv", f"time_s,{names[0]},{names[1]}", *(f"{i / 10},0,1" for i in range(6)))

    run(tmp_path, model, "--bag", colour_bag(tmp_path / "bag", COLOURS), "--labels", labels, "--no-video")

    text = (tmp_path / "out" / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert text.count("<polyline") == 4  # truth and prediction of two numbers
    assert text.count("<circle") == 12
    assert "<b>speed</b>:" not in text
    assert "&lt;m&gt;" in text


def test_joint_states_are_compared_by_their_stamps_and_names(tmp_path, speedometer):
    truth = [
        (
            "/truth",
            START_NS,
            tiny_bag.joint_state(START_NS + i * SECOND // 10, {"steering": green, "other": 9, "speed": red}),
        )
        for i, (red, green) in enumerate(TRUTH)
    ]
    bag = colour_bag(tmp_path / "bag", COLOURS, extra=truth, delay_ns=20 * SECOND)

    _, report, rows = run(tmp_path, speedometer, "--bag", bag, "--labels", "/truth", "--no-video")

    assert report["frames"]["scored"] == 6
    assert [float(row["true steering"]) for row in rows] == [green for _, green in TRUTH]


@pytest.mark.parametrize("bits", [32, 64])
def test_a_plain_number_is_compared_by_its_reception(tmp_path, bits):
    model = write_tiny_model(tmp_path / "one.onnx", spec=regression_spec({"speed": "m/s"}), gain=1.0)
    truth = [("/speed", START_NS + i * SECOND // 10 + 1, tiny_bag.number(i / 4, bits)) for i in range(6)]

    bag = colour_bag(tmp_path / "bag", COLOURS, extra=truth)
    _, report, rows = run(tmp_path, model, "--bag", bag, "--labels", "speed", "--no-video")

    assert [float(row["true speed"]) for row in rows] == [i / 4 for i in range(6)]
    assert report["numbers"][0]["mae"] == pytest.approx(np.mean([abs(i / 4 - i / 5) for i in range(6)]), abs=1e-6)


def test_a_real_drive_is_scored_against_its_steering(tmp_path):
    """The model answers 0.25 whatever it sees; the truth is read here without the code under test."""
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    drive = SHARED_DATA / "derived_donkeycar_300"
    if not drive.is_dir():
        pytest.skip(f"{drive} is missing")
    with Reader(drive) as reader:
        wanted = [connection for connection in reader.connections if connection.topic == "/steering"]
        steering = np.array(
            [tiny_bag.TYPES.deserialize_cdr(data, c.msgtype).data for c, _, data in reader.messages(wanted)]
        )
    model = write_tiny_model(
        tmp_path / "tiny.onnx", spec=regression_spec({"angle": "of full lock"}), gain=0.0, bias=[0.25]
    )

    code, report, rows = run(tmp_path, model, "--bag", drive, "--labels", "/steering", "--max-mae", 0.1, "--no-video")

    constant = np.full_like(steering, 0.25)
    (angle,) = report["numbers"]
    assert code == EXIT_BELOW_TARGET
    assert report["frames"] == {"total": 300, "scored": 300, "unlabelled": 0, "bad": {}, "lost": 0}
    np.testing.assert_allclose([float(row["true angle"]) for row in rows], steering, rtol=1e-5)
    assert angle["mae"] == pytest.approx(sklearn_metrics.mean_absolute_error(steering, constant))
    assert angle["rmse"] == pytest.approx(sklearn_metrics.root_mean_squared_error(steering, constant))
    assert angle["r2"] == pytest.approx(sklearn_metrics.r2_score(steering, constant))


# ---- multilabel: of gain 10 and bias -5 a class is seen from half of full brightness


@pytest.fixture(scope="module")
def lights(tmp_path_factory) -> Path:
    spec = as_multilabel(tiny_spec(NAMES), 0.5, 0.5, 0.9)
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx", spec=spec, bias=[-5.0] * 3)


YELLOW, BLACK = (200, 200, 10), (0, 0, 0)
LIT = [RED, YELLOW, (10, 10, 160), BLACK]
"""The scores of brightness 200 and 160 are 0.945 and 0.782: the blue one is below its threshold of 0.9."""


def test_figures_of_several_classes_are_those_of_hand_arithmetic(tmp_path, lights):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    labels = written(
        tmp_path / "labels.csv",
        "start_s,end_s,class",
        "0,0.1,red",
        "0.1,0.2,red;green",
        "0.2,0.3,blue ; green",
        "0.3,0.4,;",
    )

    bag = colour_bag(tmp_path / "bag", [*LIT, RED])
    code, report, rows = run(tmp_path, lights, "--bag", bag, "--labels", labels)

    assert (code, report["task"]) == (EXIT_OK, "multilabel")
    assert report["frames"] == {"total": 5, "scored": 4, "unlabelled": 1, "bad": {}, "lost": 0}
    assert [(row["truth"], row["predicted"]) for row in rows] == [
        ("red", "red"), ("green;red", "green;red"), ("blue;green", ";"), (";", ";"), ("", "red"),
    ]  # fmt: skip
    assert report["exact"] == 3 / 4
    red, green, blue = report["classes"]
    assert (red["precision"], red["recall"], red["f1"], red["support"]) == (1.0, 1.0, 1.0, 2)
    assert (green["precision"], green["recall"], green["f1"]) == (1.0, 0.5, pytest.approx(2 / 3))
    assert (blue["recall"], blue["threshold"], blue["average_precision"]) == (0.0, 0.9, 1.0)
    assert report["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    truth = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 0]])
    scores = 1 / (1 + np.exp(5 - GAIN * np.array(LIT) / 255))
    assert report["mean_average_precision"] == pytest.approx(
        sklearn_metrics.average_precision_score(truth, scores, average="macro")
    )
    assert float(rows[2]["score blue"]) == pytest.approx(scores[2, 2], abs=1e-5)
    assert report["worst"][0]["index"] == 2
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert page.open == []


@pytest.mark.parametrize(("red_until_s", "code"), [("0.2", EXIT_OK), ("0.3", EXIT_BELOW_TARGET)])
def test_min_map_is_reached_or_missed(tmp_path, lights, red_until_s, code):
    # red shines in the frames 0 and 1 only: a third one lies behind them in the ranking
    labels = written(tmp_path / "labels.csv", "start_s,end_s,class", f"0,{red_until_s},red", f"{red_until_s},0.5,;")

    bag = colour_bag(tmp_path / "bag", [*LIT, (60, 10, 10)])
    arguments = ("--bag", bag, "--labels", labels, "--min-map", "1.0", "--no-video")
    found, report, _ = run(tmp_path, lights, *arguments)

    assert (found, report["passed"]) == (code, code == EXIT_OK)


def test_every_result_of_a_classification_topic_is_a_label(tmp_path, lights):
    truth = [
        ("/truth", START_NS, tiny_bag.classification(START_NS, {"green": 0.6, "red": 1.0})),
        ("/truth", START_NS, tiny_bag.classification(START_NS + SECOND // 10, {})),
    ]

    bag = colour_bag(tmp_path / "bag", [YELLOW, BLACK], extra=truth)
    _, report, rows = run(tmp_path, lights, "--bag", bag, "--labels", "/truth", "--no-video")

    assert [row["truth"] for row in rows] == ["green;red", ";"]
    assert report["exact"] == 1.0


# ---- the unknown rule


def test_unknown_frames_are_wrong_and_counted_apart(tmp_path):
    # logits of (v, 10, 10) are 10 v / 255, 0.39, 0.39: energy 3 lies between those of 40 and 200
    model = write_tiny_model(tmp_path / "tiny.onnx", spec=with_unknown(tiny_spec(NAMES), 3.0))
    dark_red = (40, 10, 10)
    labels = written(tmp_path / "labels.csv", "start_s,end_s,class", "0,0.5,red", "0.5,0.6,green")

    bag = colour_bag(tmp_path / "bag", [RED, dark_red, RED, dark_red, GREEN, BLUE, dark_red])
    code, report, rows = run(tmp_path, model, "--bag", bag, "--labels", labels, "--no-video")

    assert code == EXIT_OK
    assert [row["predicted"] for row in rows] == ["red", "unknown", "red", "unknown", "green", "blue", "unknown"]
    assert report["unknown"] == pytest.approx(2 / 6)
    assert report["top1"] == pytest.approx(2 / 6)
    assert report["top1_answered"] == pytest.approx(2 / 4)
    assert report["coverage"] == pytest.approx(4 / 6)
    assert report["confusion"] == [[2, 1, 0, 2], [0, 0, 1, 0], [0, 0, 0, 0]]
    red = report["classes"][0]
    assert (red["precision"], red["recall"]) == (1.0, pytest.approx(2 / 5))
    assert report["balanced_accuracy"] == pytest.approx((2 / 5 + 0) / 2)
    assert report["macro_f1"] == pytest.approx((2 * 2 / (5 + 2) + 0 + 0) / 3)
    text = (tmp_path / "out" / "report.html").read_text()
    assert Page(text).open == []
    assert "of frames called unknown" in text
    assert report["model"]["spec"]["unknown"]["centres"] == 0


def test_a_model_without_rule_has_no_unknown_frames(tmp_path):
    model = write_tiny_model(tmp_path / "tiny.onnx", classes=("red", "green", "unknown"))

    _, report, rows = run(tmp_path, model, "--bag", colour_bag(tmp_path / "bag", [BLUE]), "--labels", "", "--no-video")

    assert rows[0]["predicted"] == "unknown"  # a class like any other
    assert report["unknown"] is None


# ---- folders of images


def test_images_of_a_folder_are_labelled_by_a_file(tmp_path, lights, speedometer):
    images = tmp_path / "images"
    images.mkdir()
    for index, colour in enumerate(LIT):
        Image.fromarray(flat(colour)).save(images / f"{index}.png")
    classes = written(
        tmp_path / "classes.csv", "path,class", "0.png,red", "1.png,green;red", "3.png,;", "9.png,red", "2.png,none"
    )
    numbers = written(tmp_path / "numbers.csv", "path,speed,steering", "0.png,0.5,0", "1.png,1,1")

    code, report, rows = run(tmp_path, lights, "--images", images, "--labels", classes)
    assert (code, report["exact"]) == (EXIT_OK, 1.0)
    assert report["frames"] == {"total": 5, "scored": 3, "unlabelled": 1, "bad": {"unreadable": 1}, "lost": 1}
    assert [row["file"] for row in rows] == ["0.png", "1.png", "3.png", "9.png", "2.png"]
    for text in (
        "path,classes\n0.png,red\n1.png,red | green\n3.png,\n",
        "path,red,green,blue\n1.png,1,1,0\n3.png,0,0,0\n",
    ):
        _, report, _ = run(tmp_path, lights, "--images", images, "--labels", written(tmp_path / "as_trained.csv", text))
        assert report["exact"] == 1.0
        assert report["frames"]["scored"] == text.count(".png")
    code, report, rows = run(tmp_path, speedometer, "--images", images, "--labels", numbers)
    assert code == EXIT_OK
    assert report["numbers"][0]["mae"] == pytest.approx((200 / 255 - 0.5 + 1 - 200 / 255) / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments", "complaint"),
    [
        ("speedometer", ["--images", "{folder}"], "needs --labels, a CSV file with the columns path,speed,steering"),
        ("lights", ["--images", "{folder}"], "needs --labels, a CSV file with the columns path,classes"),
        ("lights", ["--images", "{folder}", "--labels", "/scene"], "--labels /scene: for --images name a CSV file"),
        ("lights", ["--images", "{folder}", "--labels", "{empty}"], "empty.csv: lists no image"),
        ("lights", ["--bag", "{bag}", "--labels", "{odd}"], "odd.csv: the model has no class 'purple'"),
        (
            "speedometer",
            ["--bag", "{bag}", "--labels", "/speed"],
            "/speed: has no 'speed', 'steering'; it has no names",
        ),
        ("speedometer", ["--bag", "{bag}", "--labels", "/camera/image_raw"], "topics of numbers in it: /speed"),
        ("speedometer", ["--bag", "{bag}", "--min-accuracy", "0.5", "--labels", "/speed"], "is regression: --max-mae"),
        ("lights", ["--bag", "{bag}", "--labels", "", "--min-map", "0.5"], "--min-map needs --labels"),
        ("lights", ["--bag", "{bag}", "--min-map", "2"], "--min-map is 2.0; choose 0 to 1"),
        ("speedometer", ["--bag", "{bag}", "--max-mae", "nan"], "--max-mae is nan; choose 0 or more"),
    ],
)
def test_what_does_not_fit_the_task_is_one_line(tmp_path, request, capsys, name, arguments, complaint):
    (tmp_path / "images").mkdir()
    places = {
        "folder": tmp_path / "images",
        "bag": colour_bag(tmp_path / "bag", extra=[("/speed", START_NS, tiny_bag.number(1.0))]),
        "empty": written(tmp_path / "empty.csv", "path,class"),
        "odd": written(tmp_path / "odd.csv", "start_s,end_s,class", "0,1,red;purple"),
    }

    model = request.getfixturevalue(name)
    code, _, _ = run(tmp_path, model, *[argument.format(**places) for argument in arguments])

    error = capsys.readouterr().err
    assert code == EXIT_BAD_INPUT
    assert (error.startswith("error: "), error.count("\n")) == (True, 1)
    assert complaint in error


@pytest.fixture
def listed(tmp_path) -> Path:
    """A folder of images below that of the table, as training reads them; here tmp_path/data/images."""
    folder = tmp_path / "data" / "images"
    (folder / "lit").mkdir(parents=True)
    for index, colour in enumerate(LIT[:2]):
        Image.fromarray(flat(colour)).save(folder / "lit" / f"{index}.png")
    return folder


@pytest.mark.parametrize(
    "first", ["lit/0.png", "images/lit/0.png", r"lit\0.png", r"images\lit\0.png", "{here}/lit/0.png"]
)
def test_paths_are_relative_to_the_folder_or_to_the_table_with_either_slash(first, tmp_path, lights, listed):
    table = listed.parent / "classes.csv"
    table.write_text(f"path,class\n{first.replace('{here}', str(listed))},red\nlit/1.png,green;red\n")

    code, report, _ = run(tmp_path, lights, "--images", listed, "--labels", table)

    assert (code, report["frames"]["scored"], report["exact"]) == (EXIT_OK, 2, 1.0)


@pytest.mark.parametrize("second", ["lit/0.png", "lit/../lit/0.png", "images/lit/0.png", r"lit\0.png", "link.png"])
def test_an_image_that_is_listed_twice_is_refused_with_both_lines(second, tmp_path, lights, listed, capsys):
    (listed / "link.png").symlink_to(listed / "lit" / "0.png")
    table = listed.parent / "classes.csv"
    table.write_text(f"path,class\nlit/0.png,red\n{second},red\n")

    code, _, _ = run(tmp_path, lights, "--images", listed, "--labels", table)

    assert code == EXIT_BAD_INPUT
    assert "line 3, column 'path'" in (said := capsys.readouterr().err)
    assert "is the image of line 2 already" in said


@pytest.mark.parametrize("missing", ["gone.png", "lit", "x" * 5000])
def test_listed_images_that_are_missing_fail_what_is_required(missing, tmp_path, lights, speedometer, listed):
    classes = listed.parent / "classes.csv"
    classes.write_text(f"path,class\nlit/0.png,red\n{missing},red\n")
    numbers = listed.parent / "numbers.csv"
    numbers.write_text(f"path,speed,steering\nlit/0.png,0.5,0\n{missing},1,1\n")

    code, report, rows = run(tmp_path, lights, "--images", listed, "--labels", classes, "--min-map", 0)
    assert (code, report["frames"]["lost"], rows[1]["error"]) == (EXIT_BELOW_TARGET, 1, "unreadable")
    code, report, _ = run(tmp_path, speedometer, "--images", listed, "--labels", numbers, "--max-mae", 99)
    assert (code, report["frames"]["lost"]) == (EXIT_BELOW_TARGET, 1)
