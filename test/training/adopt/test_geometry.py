"""Owns: that the usual ways of resizing and cropping are tried on labelled images, and a better one is named.

The oracle is a graph that looks at one place of its input, and pictures that show their class only where this place
lies in the picture by one geometry, computed by hand; elsewhere they show another class.
Leaves to others: colours (test_doubts).
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from cnn_perception.model.onnx_file import read_onnx_file
from cnn_perception.model.spec import METADATA_KEY, ModelSpec
from training.adopt import usual_preparations
from training.adopt.command import main

SIDE = 16
HEIGHT, WIDTH = 64, 128
COLOURS = {"blue": (30, 30, 220), "green": (30, 200, 30), "red": (220, 30, 30)}
PLACES = {
    # place in the input: rows, columns; where that is in the picture: rows, columns
    ("crop", 0.875): ((0, 2), (0, 2), (4, 11), (36, 43)),  # 18 rows cover it, one row and ten columns are cut off
    ("crop", 1.0): ((0, 2), (0, 2), (0, 8), (32, 40)),
    ("squash", 1.0): ((0, 2), (0, 2), (0, 8), (0, 16)),
    ("letterbox", 1.0): ((4, 6), (0, 2), (0, 16), (0, 16)),  # rows 4 to 12 of the input are the picture
}
SAID = {
    ("crop", 0.875): "--resize-mode crop --crop-fraction 0.875",
    ("crop", 1.0): "--resize-mode crop --crop-fraction 1",
    ("squash", 1.0): "--resize-mode squash --crop-fraction 1",
    ("letterbox", 1.0): "--resize-mode letterbox --crop-fraction 1",
}
BETTER = "answers significantly better"


def graph(rows, columns, colours=None, scale=1.0, offset=0.0, of_bytes=False):
    """The colour nearest to the mean of a place of the input, of which `scale * input + offset` is RGB in [0, 1]."""
    shares = np.array(colours or list(COLOURS.values()), np.float32) / 255
    weights = {
        "starts": np.array([rows[0], columns[0]], np.int64),
        "ends": np.array([rows[1], columns[1]], np.int64),
        "axes": np.array([2, 3], np.int64),
        "scale": np.float32(scale),
        "offset": np.float32(offset),
        "w": 20 * shares,
        "b": -10 * (shares**2).sum(axis=1),
    }
    cast = [helper.make_node("Cast", ["input"], ["numbers"], to=TensorProto.FLOAT)]
    nodes = [
        *cast,
        helper.make_node("Mul", ["numbers", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["pixels"]),
        helper.make_node("Slice", ["pixels", "starts", "ends", "axes"], ["place"]),
        helper.make_node("GlobalAveragePool", ["place"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["colour"]),
        helper.make_node("Gemm", ["colour", "w", "b"], ["logits"], transB=1),
    ]
    made = helper.make_graph(
        nodes,
        "place",
        [
            helper.make_tensor_value_info(
                "input", TensorProto.UINT8 if of_bytes else TensorProto.FLOAT, ["N", 3, SIDE, SIDE]
            )
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(made, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def write(root, picture_of, names=tuple(COLOURS), val=22):
    """A data set of pictures, the bottom row of each with noise, so that no two are alike."""
    random = np.random.default_rng(0)
    for part, count in (("train", 4), ("val", val)):
        for number, name in enumerate(names):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = picture_of(number)
                pixels[-1] = random.integers(0, 256, pixels[-1].shape)
                Image.fromarray(pixels).save(root / part / name / f"{index:02}.png")
    return root


def shown_at(rows, columns):
    """Pictures of the next class, but for one place."""
    colours = list(COLOURS.values())

    def picture(number):
        pixels = np.empty((HEIGHT, WIDTH, 3), np.uint8)
        pixels[:] = colours[(number + 1) % len(colours)]
        pixels[slice(*rows), slice(*columns)] = colours[number]
        return pixels

    return picture


@pytest.fixture
def told(tmp_path, capsys):
    """Adopts a graph; returns what is printed."""

    def adopt(proto, photos, *options, names=tuple(COLOURS)):
        (tmp_path / "labels.txt").write_text("\n".join(names))
        onnx.save(proto, tmp_path / "foreign.onnx")
        words = ["--model", tmp_path / "foreign.onnx", "--output", tmp_path / "ours.onnx", "--classes"]
        words += [tmp_path / "labels.txt", "--data", photos, *options]
        assert main([str(word) for word in words]) == 0
        return capsys.readouterr().out

    return adopt


def accuracy(tmp_path):
    spec = ModelSpec.from_json(read_onnx_file(tmp_path / "ours.onnx").metadata[METADATA_KEY])
    return round(spec.training.metrics["val_top1"] * spec.training.val_images), spec.training.val_images


def better(said):
    return [line for line in said.splitlines() if BETTER in line]


PLAIN = ("--mean", "0", "--std", "1")


@pytest.mark.parametrize("geometry", PLACES)
def test_the_usual_geometry_that_labelled_images_tell_is_named_with_its_options(told, tmp_path, geometry):
    rows, columns, *place = PLACES[geometry]
    photos = write(tmp_path / "photos", shown_at(*place))
    other = "--resize-mode squash" if geometry[0] == "crop" else "--resize-mode crop"

    said = told(graph(rows, columns), photos, *PLAIN, *other.split())

    (line,) = better(said)
    assert f": {SAID[geometry]}) it" in line
    assert "64 of 64 labelled images right, 0 as it is said" in line
    options = line.split(": ")[2].split(")")[0].split()
    again = told(graph(rows, columns), photos, *PLAIN, *options)
    assert not better(again)
    assert accuracy(tmp_path) == (66, 66)


def test_of_a_graph_that_takes_bytes_geometry_is_tried_too(told, tmp_path):
    rows, columns, *place = PLACES["squash", 1.0]
    photos = write(tmp_path / "photos", shown_at(*place))

    said = told(graph(rows, columns, scale=1 / 255, of_bytes=True), photos)

    (line,) = better(said)
    assert f": {SAID['squash', 1.0]}) it" in line


def test_the_interpolation_is_tried_alone(told, tmp_path):
    """A band of white or black four pixels beside the place: bilinear weighs it by 0, bicubic by less than 0."""

    def picture(number):
        pixels = np.full((HEIGHT, HEIGHT, 3), 128, np.uint8)
        pixels[:, 34:38] = (255, 0)[number]
        return pixels

    seen = {
        kind: [int(np.asarray(Image.fromarray(picture(k)).resize((SIDE, SIDE), kind))[4, 10, 0]) for k in (0, 1)]
        for kind in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
    }
    assert seen[Image.Resampling.BILINEAR] == [128, 128]
    assert seen[Image.Resampling.BICUBIC][0] < 125
    assert seen[Image.Resampling.BICUBIC][1] > 131
    photos = write(tmp_path / "photos", picture, names=("dark", "light"), val=32)
    proto = graph((2, 12), (10, 11), colours=[(123,) * 3, (133,) * 3])

    said = told(proto, photos, *PLAIN, "--crop-fraction", "1", names=("dark", "light"))

    (line,) = better(said)
    assert "(bicubic interpolation: --interpolation bicubic) it" in line
    assert "64 of 64 labelled images right, 32 as it is said" in line


def test_colours_behind_a_letterbox_are_tried_with_its_padding(told, tmp_path):
    """Three quarters of the input are padding: 0 behind any normalisation, which is grey to this network."""
    levels = {"dark": 30, "light": 225, "middle": 128}
    wide = (HEIGHT, 4 * HEIGHT, 3)
    photos = write(tmp_path / "photos", lambda k: np.full(wide, list(levels.values())[k], np.uint8), names=levels)
    seen = [(0.25 * level + 0.75 * 127.5,) * 3 for level in levels.values()]
    proto = graph((0, SIDE), (0, SIDE), colours=seen, scale=0.5, offset=0.5)
    letterbox = ("--resize-mode", "letterbox")

    said = told(proto, photos, "--mean", "0", "--std", "0.00392157", *letterbox, names=levels)

    (line,) = better(said)
    assert ": --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --channel-order rgb) it" in line
    assert "64 of 64 labelled images right" in line
    told(proto, photos, "--mean", "0.5", "--std", "0.5", *letterbox, names=levels)
    assert accuracy(tmp_path) == (66, 66)


def test_what_a_letterbox_pads_with_is_left_open_once(told, tmp_path):
    rows, columns, *place = PLACES["letterbox", 1.0]
    photos = write(tmp_path / "photos", shown_at(*place))
    proto = graph(rows, columns)

    said = told(proto, photos, *PLAIN, "--resize-mode", "letterbox")
    assert [line.partition(":")[0] for line in said.splitlines() if "many programs pad with" in line] == ["not proven"]
    assert "many programs pad with" not in told(proto, photos, *PLAIN, "--resize-mode", "squash")


def test_each_image_is_prepared_once_for_each_geometry(told, tmp_path, monkeypatch):
    rows, columns, *place = PLACES["crop", 1.0]
    photos = write(tmp_path / "photos", shown_at(*place))
    whole = usual_preparations.preprocess
    made = []

    def counted(picture, size):
        made.append((picture.tobytes(), size.resize_mode, size.crop_fraction, size.interpolation))
        return whole(picture, size)

    monkeypatch.setattr(usual_preparations, "preprocess", counted)

    told(graph(rows, columns), photos, *PLAIN, "--resize-mode", "crop", "--crop-fraction", "1")

    assert len(made) == len(set(made)) == 64 * 5
