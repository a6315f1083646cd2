"""Owns: what a model says of the frames: guess, doubt and the frames that are chosen for it, for every task.

The models' answers are known by hand: the class is the dominant colour channel, see `tiny_model`.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import tiny_bag
import torch
import torchvision
from paths import ROOT
from scenes import scene, scenes, stamps
from tiny_bag import START_NS, flat, write_bag
from tiny_model import (
    as_multilabel,
    regression_spec,
    tiny_spec,
    with_unknown,
    write_tiny_model,
)

from training.collect.network_features import of_backbone

SURE = [(250 - n, 5 * n, 3) for n in range(12)]
CLOSE = [(120, 118, 3), (4, 130, 127)]


def colours(path: Path, rgb) -> Path:
    """A bag of plain colours with a mark on each, so that no two look alike, a tenth of a second apart."""
    messages = []
    for number, colour in enumerate(rgb):
        time_ns = START_NS + number * 10**8
        messages.append(("/front/image_raw", time_ns, tiny_bag.raw(flat(colour), time_ns)))
    return write_bag(path, messages)


def softmax(colour) -> list[float]:
    weights = [math.exp(10 * channel / 255) for channel in colour]
    return [weight / sum(weights) for weight in weights]


def test_model_guesses_and_doubts_by_its_margin(tmp_path: Path, output: Path, collect) -> None:
    model = write_tiny_model(tmp_path / "m.onnx")
    rgb = [(250, 10, 10), (10, 200, 150)]
    code, rows = collect("--bag", colours(tmp_path / "b", rgb), "--model", model, "--val-fraction", 0)

    assert code == 0
    assert [row["guess"] for row in rows] == ["red", "green"]
    for row, colour in zip(rows, rgb, strict=True):
        best, second, _ = sorted(softmax(colour), reverse=True)
        assert float(row["doubt"]) == pytest.approx(1 - (best - second), abs=1e-4)
        assert row["model"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert (output / "classes.txt").read_text() == "red\ngreen\nblue\n"


def test_planted_doubtful_frames_are_chosen(tmp_path: Path, collect) -> None:
    model = write_tiny_model(tmp_path / "m.onnx")
    rgb = [*SURE[:6], CLOSE[0], *SURE[6:], CLOSE[1]]
    bag = colours(tmp_path / "b", rgb)
    _, rows = collect("--bag", bag, "--model", model, "--budget", 4, "--min-distance", 0, "--val-fraction", 0)

    reasons = dict(zip(stamps(rows), (row["reason"] for row in rows), strict=True))
    assert (reasons[6], reasons[13]) == ("margin", "margin")
    assert sorted(reasons.values()) == ["diverse", "margin", "margin", "typical"]


def test_what_is_unknown_to_the_model_is_in_most_doubt_and_guessed_to_be_none_of_its_classes(
    tmp_path: Path, collect
) -> None:
    model = write_tiny_model(tmp_path / "m.onnx", spec=with_unknown(tiny_spec(), 7.0))
    bag = colours(tmp_path / "b", [*SURE, (20, 30, 25)])
    _, rows = collect("--bag", bag, "--model", model, "--budget", 1, "--doubt-share", 1, "--min-distance", 0)

    (row,) = rows
    assert (stamps(rows), row["guess"], row["doubt"], row["reason"]) == ([12], "none of these", "1.000000", "unknown")


def test_frames_on_which_a_shadow_disagrees_are_in_most_doubt(tmp_path: Path, collect) -> None:
    model = write_tiny_model(tmp_path / "m.onnx")
    shadow = write_tiny_model(tmp_path / "s.onnx", bias=(0.0, 0.0, 6.0))  # calls blue what is 154 bluer than it is
    rgb = [*SURE[:4], (200, 10, 120), *SURE[4:8]]
    words = ("--min-distance", 0, "--val-fraction", 0, "--doubt-share", 1)
    _, rows = collect(
        "--bag", colours(tmp_path / "b", rgb), "--model", model, "--shadow", shadow, "--budget", 1, *words
    )

    assert [(row["guess"], row["reason"], row["doubt"]) for row in rows] == [("red", "disagreement", "1.000000")]
    assert stamps(rows) == [4]


def test_several_classes_are_doubted_near_their_thresholds(tmp_path: Path, output: Path, collect) -> None:
    model = write_tiny_model(tmp_path / "m.onnx", spec=as_multilabel(tiny_spec(), 0.9, 0.9, 0.9))
    rgb = [(250, 240, 0), (0, 0, 0)]
    _, rows = collect("--bag", colours(tmp_path / "b", rgb), "--model", model, "--val-fraction", 0)

    assert [row["guess"] for row in rows] == ["green;red", "none of these"]
    assert "classes" in rows[0]
    assert "class" not in rows[0]
    nearest = min(abs(1 / (1 + math.exp(-10 * channel / 255)) - 0.9) for channel in rgb[0])
    assert float(rows[0]["doubt"]) == pytest.approx(1 - nearest, abs=1e-4)


def test_numbers_are_doubted_by_how_far_another_model_is_away(tmp_path: Path, output: Path, collect) -> None:
    spec = regression_spec({"x": "m", "y": "m", "z": "m"})
    model = write_tiny_model(tmp_path / "m.onnx", spec=spec)
    shadow = write_tiny_model(tmp_path / "s.onnx", spec=spec, gain=5.0)  # half of every number
    rgb = [(51, 0, 0), (102, 0, 51), (0, 204, 0)]  # 2; 4 and 2; 8
    bag = colours(tmp_path / "b", rgb)
    _, rows = collect("--bag", bag, "--model", model, "--shadow", shadow, "--val-fraction", 0)

    assert [float(row["doubt"]) for row in rows] == pytest.approx([0.25, 0.5, 1.0], abs=1e-4)
    assert [tuple(map(float, row["guess"].split(";"))) for row in rows] == [(2, 0, 0), (4, 0, 2), (0, 8, 0)]
    assert {"x", "y", "z"} < set(rows[0])
    assert (output / "classes.txt").read_text() == "x\ny\nz\n"


def test_numbers_without_another_model_are_in_no_known_doubt(tmp_path: Path, collect) -> None:
    model = write_tiny_model(tmp_path / "m.onnx", spec=regression_spec({"x": "m", "y": "m", "z": "m"}))
    _, rows = collect("--bag", colours(tmp_path / "b", SURE[:4]), "--model", model, "--budget", 2, "--min-distance", 0)

    assert sorted((row["doubt"], row["reason"]) for row in rows) == [("", "diverse"), ("", "typical")]


def test_look_alikes_of_one_guess_have_a_group(tmp_path: Path, collect) -> None:
    model = write_tiny_model(tmp_path / "m.onnx")
    rgb = [(250, 10, 10), (240, 12, 10), (10, 250, 10), (12, 240, 10), (10, 10, 250)]
    bag = colours(tmp_path / "b", rgb)
    _, rows = collect("--bag", bag, "--model", model, "--min-distance", 0, "--val-fraction", 0)

    assert [row["cluster"] for row in rows] == ["1", "1", "2", "2", ""]


@pytest.mark.parametrize("spec", [as_multilabel(tiny_spec(), 0.5, 0.5, 0.5), regression_spec({"x": "", "y": ""})])
def test_data_set_of_another_task_is_refused_before_a_frame_is_read(tmp_path: Path, collect, capsys, spec) -> None:
    bag = colours(tmp_path / "b", SURE[:3])
    _, rows = collect("--bag", bag, "--model", write_tiny_model(tmp_path / "m.onnx"))
    capsys.readouterr()
    other = write_tiny_model(tmp_path / "o.onnx", spec=spec)

    assert collect("--bag", bag, "--model", other) == (2, rows)
    output = capsys.readouterr()
    assert "for the labels of a" in output.err
    assert "reading" not in output.out


def test_data_set_of_other_classes_is_refused_and_one_with_more_is_not(
    tmp_path: Path, output: Path, collect, capsys
) -> None:
    bag = colours(tmp_path / "b", SURE[:3])
    model = write_tiny_model(tmp_path / "m.onnx")
    _, rows = collect("--bag", bag, "--model", model)
    (output / "classes.txt").write_text("violet\nblue\ngreen\nred\n")  # by a person
    assert collect("--bag", bag, "--model", model) == (0, rows)

    other = write_tiny_model(tmp_path / "o.onnx", classes=("red", "green", "cyan"))
    assert collect("--bag", bag, "--model", other) == (2, rows)
    assert "'cyan'" in capsys.readouterr().err
    assert (output / "classes.txt").read_text() == "violet\nblue\ngreen\nred\n"


def test_names_come_from_a_file_where_no_model_has_them(tmp_path: Path, output: Path, collect) -> None:
    (tmp_path / "names.txt").write_text("ant\nbee\n")
    bag = scenes(tmp_path / "b", range(3))
    code, rows = collect("--bag", bag, "--classes", tmp_path / "names.txt", "--task", "multilabel")

    assert (code, (output / "classes.txt").read_text()) == (0, "ant\nbee\n")
    assert list(rows[0])[:2] == ["path", "classes"]
    assert collect("--bag", bag)[0] == 0  # the data set says it now


@pytest.mark.parametrize(
    "words",
    [
        ("--backbone", "squeezenet1_1", "--weights", "none", "--weight-classes", "2"),
        ("--checkpoint", str(ROOT / "test/support/made_at_7e3d333/multiclass/best.pt")),
    ],
)
def test_features_of_a_network_say_what_differs(tmp_path: Path, collect, words) -> None:
    code, rows = collect("--bag", scenes(tmp_path / "b", range(6)), *words, "--budget", 3)

    assert (code, len(rows)) == (0, 3)


def test_features_of_a_network_are_those_that_a_probe_learns_from(tmp_path: Path) -> None:
    """Oracle: torchvision's own network, without its last layer."""
    path = tmp_path / "w.pt"
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=2).eval()
    torch.save(network.state_dict(), path)
    found = of_backbone("resnet18", str(path), "2")(scene(1, 256, 256))

    network.fc = torch.nn.Identity()
    centre = torch.from_numpy(scene(1, 256, 256)[16:240, 16:240] / 255).permute(2, 0, 1).float()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        expected = network(((centre - mean[:, None, None]) / std[:, None, None])[None])[0]
    torch.testing.assert_close(torch.from_numpy(found), expected / expected.norm(), atol=1e-4, rtol=0)


def test_shadow_of_another_task_is_refused(tmp_path: Path, collect, capsys) -> None:
    model = write_tiny_model(tmp_path / "m.onnx")
    shadow = write_tiny_model(tmp_path / "s.onnx", spec=regression_spec({"red": "m"}))

    assert collect("--bag", scenes(tmp_path / "b", [1]), "--model", model, "--shadow", shadow) == (2, [])
    assert "--shadow" in capsys.readouterr().err


def test_embedding_of_the_model_says_what_is_diverse(tmp_path: Path, collect) -> None:
    """The tiny model sees colours alone, so that of many stripes of red and one of blue it takes both colours."""
    model = write_tiny_model(tmp_path / "m.onnx")
    frames = []
    for number in range(8):
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[number * 4 : number * 4 + 8] = (255, 0, 0) if number != 5 else (0, 0, 255)
        frames.append(("/image", START_NS + number * 10**8, tiny_bag.raw(pixels, START_NS + number * 10**8)))
    bag = write_bag(tmp_path / "b", frames)
    words = ("--budget", 2, "--doubt-share", 0, "--min-distance", 0, "--val-fraction", 0)
    _, rows = collect("--bag", bag, "--model", model, *words)

    assert 5 in stamps(rows)
