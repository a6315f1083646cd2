"""Owns: what is said against the mean, the deviation and the order of colours that the user gives.

The oracle is a graph that undoes one known preparation before it looks for the nearest of five colours.
Leaves to others: the answers (test_foreign_layouts), what else labelled images say (test_measured).
"""

from __future__ import annotations

import foreign_graphs
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from training.adopt.command import main

SIDE = 16
COLOURS = {
    "black": (0.1, 0.1, 0.1),
    "blue": (0.2, 0.2, 0.8),
    "grey": (0.5, 0.5, 0.5),
    "red": (0.8, 0.2, 0.2),
    "white": (0.9, 0.9, 0.9),
}
BYTE = (1 / 255,) * 3
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CAFFE = ((123.68 / 255, 116.779 / 255, 103.939 / 255), BYTE)
USUAL = {
    "0 to 1": ((0.0,) * 3, (1.0,) * 3),
    "-1 to 1": ((0.5,) * 3, (0.5,) * 3),
    "ImageNet": IMAGENET,
    "0 to 255": ((0.0,) * 3, BYTE),
    "Caffe": CAFFE,
}
REMARK = "right behind its input the graph"


def words(mean, std, order="rgb"):
    return ["--mean", ",".join(map(repr, mean)), "--std", ",".join(map(repr, std)), "--channel-order", order]


def graph(before, constants, entering, layout=(TensorProto.FLOAT, [3, SIDE, SIDE])):
    """Nodes from `input` to `entering`, RGB in [0, 1], then the nearest colour by a convolution of one pixel."""
    colours = np.array(list(COLOURS.values()), np.float32)
    weights = {
        "w": 20 * colours[:, :, np.newaxis, np.newaxis],
        "b": -10 * (colours**2).sum(axis=1),
        "blue_first": np.array([2, 1, 0], np.int64),
    }
    nodes = [
        *before,
        # the convolution mixes channels, and so is no part of what is before
        helper.make_node("Relu", [entering], ["pixels"]),
        helper.make_node("Conv", ["pixels", "w", "b"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
    ]
    kind, size = layout
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights | constants).items()]
    made = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("input", kind, ["N", *size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        tensors,
    )
    return helper.make_model(made, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def undoing(mean, std, order):
    """A graph that takes images prepared so."""
    flip = [helper.make_node("Gather", ["input", "blue_first"], ["rgb"], axis=1)] if order == "bgr" else []
    before = [
        *flip,
        helper.make_node("Mul", ["rgb" if flip else "input", "std"], ["scaled"]),
        helper.make_node("Add", ["scaled", "mean"], ["undone"]),
    ]
    constants = {name: np.array(value, np.float32).reshape(3, 1, 1) for name, value in (("mean", mean), ("std", std))}
    return graph(before, constants, "undone")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """13 validation images of each colour, a little different each."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for part, count in (("train", 4), ("val", 13)):
        for name, colour in COLOURS.items():
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = np.array(colour) * 255 + random.integers(-8, 9, 3) + random.integers(-3, 4, (SIDE, SIDE, 3))
                Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{index:02}.png")
    return root


@pytest.fixture
def told(tmp_path, capsys):
    """Adopts a graph; returns what is printed."""

    def adopt(proto, *options, names=tuple(COLOURS)):
        (tmp_path / "labels.txt").write_text("\n".join(names))
        onnx.save(proto, tmp_path / "foreign.onnx")
        given = ["--model", tmp_path / "foreign.onnx", "--output", tmp_path / "ours.onnx", "--classes"]
        given += [tmp_path / "labels.txt", "--resize-mode", "squash", *options]
        assert main([str(word) for word in given]) == 0
        return capsys.readouterr().out

    return adopt


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("name", USUAL)
def test_the_usual_preparation_that_labelled_images_tell_is_named(told, photos, name, order):
    mean, std = USUAL[name]
    given = USUAL["0 to 1" if name == "0 to 255" else "0 to 255"]

    said = told(undoing(mean, std, order), *words(*given), "--data", photos)

    (line,) = [line for line in said.splitlines() if "answers significantly better" in line]
    numbers = [
        float(number) for option in ("--mean", "--std") for number in line.split(option)[1].split()[0].split(",")
    ]
    assert numbers == pytest.approx([*mean, *std], abs=1e-5)
    assert f"--channel-order {order})" in line
    assert "64 of 64 labelled images right" in line


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("name", USUAL)
def test_nothing_is_said_against_the_right_preparation(told, photos, name, order):
    said = told(undoing(*USUAL[name], order), *words(*USUAL[name], order), "--data", photos)

    assert "significantly better" not in said
    assert "warning" not in said


def test_colours_that_are_exchanged_are_told_of_a_preparation_of_ones_own_and_of_bytes(told, photos):
    own = ((0.3, 0.35, 0.4), (0.2, 0.25, 0.3))
    said = told(undoing(*own, "bgr"), *words(*own), "--data", photos)
    assert "as it is said, red and blue exchanged" in said
    assert "--channel-order bgr)" in said

    before = [
        helper.make_node("Cast", ["input"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "white"], ["scaled"]),
        helper.make_node("Gather", ["scaled", "blue_first"], ["rgb"], axis=1),
    ]
    proto = graph(before, {"white": np.float32(255)}, "rgb", (TensorProto.UINT8, [3, SIDE, SIDE]))
    said = told(proto, "--data", photos)
    assert "as it is said, red and blue exchanged" in said
    assert REMARK not in said


def test_of_several_labels_an_answer_is_right_where_all_are(told, photos, tmp_path):
    """Red from half of red on, blue likewise; red and blue are exchanged in 26 of 52 images."""
    proto = undoing(*USUAL["0 to 1"], "bgr")
    for tensor, values in (("w", 20 * np.eye(3)[[0, 2], :, None, None]), ("b", np.full(2, -10))):
        found = next(one for one in proto.graph.initializer if one.name == tensor)
        found.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor))
    proto.graph.node.append(helper.make_node("Sigmoid", ["logits"], ["tags"]))
    proto.graph.output[0].name = "tags"
    shown = {"black": "", "blue": "b", "red": "r", "white": "b;r"}
    rows = [
        f"{path},{labels},{part}"
        for part in ("train", "val")
        for name, labels in shown.items()
        for path in sorted((photos / part / name).iterdir())
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["path,classes,part", *rows]) + "\n")
    given = (*words(*USUAL["0 to 1"]), "--data", tmp_path / "labels.csv")

    said = told(proto, *given, names=("r", "b"))

    assert "as it is said, red and blue exchanged" in said
    assert "52 of 52 labelled images right, 26 as it is said" in said


def test_grey_images_have_no_red_and_blue_to_exchange(told, photos):
    """A graph that takes 0 to 255 in one channel: black below 77, grey below 191, white above."""
    weights = {"w": np.array([0, 20, 40, -99, -99], np.float32), "b": np.array([0, -6, -21, -9, -9], np.float32)}
    nodes = [
        helper.make_node("Mul", ["input", "byte"], ["scaled"]),
        helper.make_node("GlobalAveragePool", ["scaled"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["one"]),
        helper.make_node("Mul", ["one", "w"], ["weighed"]),
        helper.make_node("Add", ["weighed", "b"], ["logits"]),
    ]
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in (weights | {"byte": np.float32(1 / 255)}).items()]
    made = helper.make_graph(
        nodes,
        "grey",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        tensors,
    )
    proto = helper.make_model(made, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    names = ("black", "grey", "white", "blue", "red")

    (line,) = [
        line
        for line in told(proto, "--mean", "0", "--std", "1", "--data", photos, names=names).splitlines()
        if "answers significantly better" in line
    ]

    assert "(0 to 255: --mean 0,0,0 --std 0.00392157,0.00392157,0.00392157 --channel-order rgb)" in line


def test_too_few_images_tell_nothing(told, photos, tmp_path):
    few = tmp_path / "few"
    for part, count in (("train", 4), ("val", 1)):
        for name in COLOURS:
            (few / part / name).mkdir(parents=True)
            for index in range(count):
                picture = photos / part / name / f"{index:02}.png"
                (few / part / name / picture.name).write_bytes(picture.read_bytes())

    assert "significantly better" not in told(undoing(*IMAGENET, "rgb"), *words(*USUAL["0 to 255"]), "--data", few)


def test_answers_as_by_chance_are_a_warning_that_names_what_may_be_wrong(told, photos):
    names = (*tuple(COLOURS)[1:], "black")

    said = told(undoing(*IMAGENET, "rgb"), *words(*IMAGENET), "--data", photos, names=names)

    (line,) = [line for line in said.splitlines() if line.startswith("warning: ")]
    assert "balanced accuracy 0.0%, by chance 20.0%" in line
    assert "--mean, --std, --channel-order, and the order of the names in --classes" in line


def node(step, *others, **attributes):
    return helper.make_node(step, ["input", *others], ["rgb"], **attributes)


ONES, ZEROS = np.ones(3, np.float32), np.zeros(3, np.float32)
NORMALISING = {
    "a subtraction": ([node("Sub", "c")], {"c": np.float32(0.25)}, "subtracts 0.25:"),
    "of each channel": (
        [node("Sub", "c")],
        {"c": np.array(CAFFE[0], np.float32).reshape(1, 3, 1, 1)},
        "subtracts 0.48502, 0.457957, 0.407604:",
    ),
    "of each pixel": ([node("Sub", "c")], {"c": np.full((3, SIDE, SIDE), 0.25, np.float32)}, "subtracts 0.25:"),
    "from a constant": ([helper.make_node("Sub", ["c", "input"], ["rgb"])], {"c": np.float32(1)}, "subtracts from 1:"),
    "a division": ([node("Div", "c")], {"c": np.float32(2)}, "divides by 2:"),
    "a factor": ([node("Mul", "c")], {"c": np.float32(0.5)}, "multiplies by 0.5:"),
    "a sum": ([node("Add", "c")], {"c": np.float32(0.5)}, "adds 0.5:"),
    "a batch normalisation": (
        [node("BatchNormalization", "one", "zero", "half", "one", epsilon=0.0)],
        {"one": ONES, "zero": ZEROS, "half": ONES / 2},
        "multiplies by 1 and adds -0.5 (BatchNormalization):",
    ),
    "a convolution of each channel": (
        [node("Conv", "f", "half", group=3)],
        {"f": np.array([2, 3, 4], np.float32).reshape(3, 1, 1, 1), "half": -ONES / 2},
        "multiplies by 2, 3, 4 and adds -0.5 (Conv):",
    ),
    "by constants of nodes": (
        [
            helper.make_node("Constant", [], ["c"], value_float=2.0),
            helper.make_node("Constant", [], ["means"], value_floats=[0.25]),
            helper.make_node("Mul", ["input", "c"], ["scaled"]),
            helper.make_node("Sub", ["scaled", "means"], ["rgb"]),
        ],
        {},
        "multiplies by 2, then subtracts 0.25:",
    ),
    "two behind a turn": (
        [
            helper.make_node("Gather", ["input", "blue_first"], ["bgr"], axis=1),
            helper.make_node("Mul", ["bgr", "c"], ["scaled"]),
            helper.make_node("Sub", ["scaled", "one"], ["rgb"]),
        ],
        {"c": np.float32(2), "one": np.float32(1)},
        "multiplies by 2, then subtracts 1:",
    ),
}


@pytest.mark.parametrize("name", NORMALISING)
def test_a_graph_that_normalises_pixels_itself_is_told_with_its_constants(told, name):
    before, constants, steps = NORMALISING[name]

    proto = graph(before, constants, "rgb")

    assert f"{REMARK} {steps} it seems to normalise pixels itself" in told(proto, *words(*IMAGENET))
    assert REMARK not in told(proto, *words(*USUAL["0 to 1"]))


@pytest.mark.parametrize(
    "before",
    [[node("Relu")], [node("Mul", "one")], [node("Conv", "mixing", group=1)]],
    ids=["none", "that does nothing", "of several channels"],
)
def test_a_graph_that_does_not_is_not(told, before):
    mixing = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], np.float32).reshape(3, 3, 1, 1)

    assert REMARK not in told(graph(before, {"one": np.float32(1), "mixing": mixing}, "rgb"), *words(*IMAGENET))


def test_keras_with_rescaling_inside_is_told_of_a_mean_and_of_pixels_in_another_range(told):
    """As its own example does it: 0 to 255 goes in."""
    keras = foreign_graphs.keras().proto
    of = {"names": foreign_graphs.CLASSES}
    assert "multiplies by 0.00784314, then subtracts 1: it seems to normalise" in told(keras, *words(*IMAGENET), **of)
    assert "black and white then differ by 0.0078; see --std 0.00392157" in told(keras, *words(*USUAL["0 to 1"]), **of)
    assert REMARK not in told(keras, *words(*USUAL["0 to 255"]), **of)


def test_pixels_of_0_to_255_before_a_deviation_of_0_to_1_are_told(told):
    before = [helper.make_node("Div", ["input", "c"], ["rgb"])]
    proto = graph(before, {"c": np.array(IMAGENET[1], np.float32).reshape(3, 1, 1)}, "rgb")

    assert "differ by 1114; see --std 1" in told(proto, *words(*USUAL["0 to 255"]))


@pytest.mark.parametrize(
    ("mean", "is_told"),
    [(CAFFE[0][::-1], True), (IMAGENET[0][::-1], True), (CAFFE[0], False), ((0.5,) * 3, False)],
    ids=["Caffe's", "ImageNet's", "red first", "grey"],
)
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_a_mean_with_blue_first_is_told(told, mean, is_told, order):
    said = told(undoing(*CAFFE, "bgr"), *words(mean, BYTE, order))

    assert ("order red, green, blue, whatever --channel-order says" in said) is is_told
