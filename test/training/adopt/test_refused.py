"""Owns: which foreign files are refused, by one line that says what to do, and that nothing is written then.

Leaves to others: what is adopted (test_foreign_layouts).
"""

from __future__ import annotations

import os
import re

import foreign_graphs
import numpy as np
import onnx
import pytest
from foreign_graphs import CLASSES, NORMALISED, SIDE
from onnx import TensorProto, helper, numpy_helper
from tiny_model import write_tiny_model

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from training.adopt.command import main

PLAIN = foreign_graphs.as_nodes(foreign_graphs.network())


def changed(change, plain=PLAIN):
    """The plain graph after a change, which may return another one."""
    proto = onnx.ModelProto()
    proto.CopyFrom(plain)
    return change(proto) or proto


def refusal(folder, capsys, proto=PLAIN, names=CLASSES, options=NORMALISED):
    """The one line on stderr; `proto` may be the bytes of a file, or its path."""
    model = folder / "foreign.onnx"
    if isinstance(proto, bytes):
        model.write_bytes(proto)
    elif isinstance(proto, onnx.ModelProto):
        model.write_bytes(proto.SerializeToString())
    else:
        model = proto
    (folder / "labels.txt").write_text("\n".join(names))
    words = ["--model", str(model), "--output", str(folder / "ours.onnx"), *options]
    code = main([*words, "--classes", str(folder / "labels.txt")] if names else words)
    said = capsys.readouterr().err.strip().split("\r")[-1].strip()
    assert code == EXIT_BAD_INPUT
    assert not (folder / "ours.onnx").exists()
    assert said.startswith("error: ")
    assert "\n" not in said
    return said


def with_output(*names_and_shapes, source="output", operator="Identity"):
    """The plain graph with more outputs, each a tensor of it under another name."""

    def change(proto):
        for name, tensor in names_and_shapes:
            proto.graph.node.append(helper.make_node(operator, [tensor], [name]))
            proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))

    return changed(change)


def only_output(name):
    def change(proto):
        del proto.graph.output[:]
        proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))

    return changed(change)


def of_boxes(proto):
    """(N, 84, 20), as detectors give."""
    proto.graph.node.append(helper.make_node("Expand", ["features_of_boxes", "boxes"], ["detections"]))
    proto.graph.node.insert(
        len(proto.graph.node) - 1, helper.make_node("Unsqueeze", ["output", "two"], ["features_of_boxes"])
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 20], np.int64), "boxes"))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), "two"))
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("detections", TensorProto.FLOAT, None))


def second_input(proto):
    proto.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))


def input_of(*dims, kind=TensorProto.FLOAT):
    def change(proto):
        proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("input", kind, dims))

    return changed(change)


def operator(domain, name):
    def change(proto):
        proto.graph.node[1].op_type, proto.graph.node[1].domain = name, domain
        proto.opset_import.append(helper.make_opsetid(domain, 1))

    return changed(change)


def branching(proto):
    inner = helper.make_graph(
        [helper.make_node("Identity", ["scores"], ["y"])], "g", [], [helper.make_tensor_value_info("y", 1, None)]
    )
    proto.graph.node[-1].output[0] = "scores"
    proto.graph.node.append(helper.make_node("If", ["flag"], ["output"], then_branch=inner, else_branch=inner))
    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "flag"))


def external(location):
    """The plain graph with one of its weights in another file."""

    def change(proto):
        tensor = proto.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("length", "4")):
            tensor.external_data.add(key=key, value=value)

    return changed(change)


def behind(*steps, plain=PLAIN, **constants):
    """The plain graph with operators behind its logits, each `(operator, *other inputs)`."""

    def change(proto):
        last = "output"
        for number, (kind, *others) in enumerate(steps):
            proto.graph.node.append(helper.make_node(kind, [last, *others], [f"s{number}"]))
            last = f"s{number}"
        for name, value in constants.items():
            proto.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
        del proto.graph.output[:]
        proto.graph.output.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, None))

    return changed(change, plain)


def in_training(step, *others, outputs=(), opset=17, constants=None, **attributes):
    """The plain graph with an operator behind its features that is another in training."""

    def change(proto):
        found = helper.make_node(step, ["features", *others], ["trained", *outputs], name="layer", **attributes)
        pool = next(row for row, node in enumerate(proto.graph.node) if node.op_type == "GlobalAveragePool")
        proto.graph.node[pool].input[0] = "trained"
        proto.graph.node.insert(pool, found)
        for name, value in ({"one": np.ones(foreign_graphs.CHANNELS, np.float32)} | (constants or {})).items():
            proto.graph.initializer.append(numpy_helper.from_array(value, name))

    return changed(change, foreign_graphs.as_nodes(foreign_graphs.network(), opset=opset))


NORMALISATION = ("BatchNormalization", "one", "one", "one", "one")
DROPOUT = {"ratio": np.array(0.5, np.float32), "training": np.array(True), "evaluation": np.array(False)}
TRAINED = {
    "a normalisation by the batch": (
        in_training(*NORMALISATION, outputs=("mean", "var"), training_mode=1),
        r"BatchNormalization normalises by its batch \('layer'\)",
    ),
    "one before opset 14": (
        in_training(*NORMALISATION, outputs=("mean", "var", "saved_mean", "saved_var"), opset=13),
        r"BatchNormalization normalises by its batch \('layer'\)",
    ),
    "a dropout": (
        in_training("Dropout", "ratio", "training", constants=DROPOUT),
        r"Dropout drops numbers \('layer'\)",
    ),
    "noise": (in_training("Bernoulli"), r"Bernoulli draws random numbers \('layer'\)"),
}


@pytest.mark.parametrize("name", TRAINED)
def test_what_was_exported_in_training_mode_is_refused_by_name(tmp_path, capsys, name):
    proto, words = TRAINED[name]

    said = refusal(tmp_path, capsys, proto)

    assert re.search(f"exported in training mode: {words}.*evaluation mode.*model\\.eval", said)


@pytest.mark.parametrize(
    "proto",
    [
        in_training(*NORMALISATION),
        in_training(*NORMALISATION, training_mode=0),
        in_training("Dropout", "ratio", "evaluation", constants=DROPOUT),
        in_training("Dropout", "ratio", constants=DROPOUT),
    ],
    ids=["a normalisation", "one that says so", "a dropout that says so", "a dropout"],
)
def test_what_was_exported_in_evaluation_mode_is_not(tmp_path, proto):
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES))
    onnx.save(proto, tmp_path / "foreign.onnx")
    words = ["--model", str(tmp_path / "foreign.onnx"), "--output", str(tmp_path / "ours.onnx"), *NORMALISED]

    assert main([*words, "--classes", str(tmp_path / "labels.txt")]) == EXIT_OK


def one_number(*steps, **constants):
    """A network of one number, with operators behind it."""
    proto = foreign_graphs.as_nodes(foreign_graphs.network(classes=1))
    return behind(*steps, plain=proto, **constants)


SIGMOID_WRITTEN_OUT = behind(("Neg",), ("Exp",), ("Add", "one"), ("Reciprocal",), one=1)
DETECTOR = {"author": "Ultralytics", "task": "detect", "names": str(dict(enumerate(CLASSES)))}


def says(texts):
    return changed(lambda proto: helper.set_model_props(proto, texts))


REFUSED = {
    "detections": (changed(of_boxes), r"no classifier.*detections Nx5x20"),
    "a map of classes": (only_output("features"), r"no classifier.*features Nx12x8x8"),
    "two inputs": (changed(second_input), r"2 inputs \(input, mask\)"),
    "an auxiliary head": (with_output(("aux", "output")), r"any of output, aux.*--output-name"),
    "embedding and logits": (with_output(("embedding", "flat")), r"any of output, embedding.*--output-name"),
    "text": (input_of("N", 77, kind=TensorProto.INT64), r"of int64, images are of float or uint8"),
    "integers": (input_of("N", 3, SIDE, SIDE, kind=TensorProto.INT64), r"of int64"),
    "six channels": (input_of("N", 6, SIDE, SIDE), r"Nx?|\?x6x32x32.*3 or 1 channels"),
    "no image": (input_of("N", 768), r"no image of 3 or 1 channels"),
    "an open size": (input_of("N", 3, "h", "w"), r"--input-size"),
    "an operator of nobody": (operator("my.lab", "Mish2"), r"my\.lab::Mish2"),
    "an unknown operator": (operator("", "Relu7"), r"Relu7"),
    "a graph inside": (changed(branching), r"\(If\).*simplify"),
    "a path upwards": (external("../../etc/passwd"), r"'\.\./\.\./etc/passwd'.*not in the folder"),
    "an absolute path": (external("/etc/passwd"), r"'/etc/passwd'.*not in the folder"),
    "a path of Windows": (external("..\\secret"), r"not in the folder"),
    "weights left behind": (external("weights.bin"), r"'weights\.bin', which is not beside it"),
    "a detector of ultralytics": (says(DETECTOR), r"'detect', not 'classify'"),
    "a sigmoid written out": (SIGMOID_WRITTEN_OUT, r"lie between 0 and 1.*--output-name"),
    "a sigmoid that is clipped": (behind(("Sigmoid",), ("Clip", "low"), low=1e-7), r"lie between 0 and 1"),
    "scores in percent": (behind(("Softmax",), ("Mul", "hundred"), hundred=100), r"add up to 100 for every image"),
    "no number": (behind(("Mul", "nan"), nan=np.nan), r"no finite number for random images"),
    "the same for all": (behind(("Mul", "none"), none=0), r"the same for every image"),
    "nothing": (b"", r"no ONNX file"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), r"no ONNX file"),
    "half a file": (PLAIN.SerializeToString()[:1500], r"truncated"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_classifier_of_images_is_refused(tmp_path, capsys, name):
    proto, words = REFUSED[name]

    assert re.search(words, refusal(tmp_path, capsys, proto))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (CLASSES[:3], r"has 5 numbers, but there are 3 class names"),
        (CLASSES[:4], r"5 numbers, but there are 4.*'background' as the first line"),
        (("background", *CLASSES), r"remove this line"),
        ((), r"carries no names of its classes; give --classes"),
    ],
    ids=["other classes", "a background of the graph", "a background of the file", "none"],
)
def test_names_that_are_not_one_for_each_output_are_refused(tmp_path, capsys, names, words):
    assert re.search(words, refusal(tmp_path, capsys, names=names))


def test_names_in_another_order_than_the_files_own_are_refused(tmp_path, capsys):
    proto = says({"names": str(dict(enumerate(CLASSES)))})

    assert "its class 0 is 'ant' by its 'names', --classes says 'eel'" in refusal(
        tmp_path, capsys, proto, CLASSES[::-1]
    )


def test_names_of_the_file_that_would_steer_a_terminal_are_none(tmp_path, capsys):
    proto = says({"names": str({row: f"\x1b[2J{name}" for row, name in enumerate(CLASSES)})})

    assert "carries no names of its classes; give --classes" in refusal(tmp_path, capsys, proto, ())


def test_normalisation_that_nobody_says_is_asked_for(tmp_path, capsys):
    assert "give --mean and --std" in refusal(tmp_path, capsys, options=())


def test_normalisation_outside_of_a_graph_that_takes_bytes_is_refused(tmp_path, capsys):
    proto = foreign_graphs.of_bytes().proto

    assert "leave --mean and --std out" in refusal(tmp_path, capsys, proto)


def test_numbers_between_0_and_1_are_logits_where_the_user_says_so(tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES))
    onnx.save(SIGMOID_WRITTEN_OUT, tmp_path / "foreign.onnx")
    words = ["--model", str(tmp_path / "foreign.onnx"), "--output", str(tmp_path / "ours.onnx"), *NORMALISED]

    assert main([*words, "--classes", str(tmp_path / "labels.txt"), "--task", "multiclass"]) == EXIT_OK
    assert "if they are scores the file is wrong" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("proto", "words"),
    [
        (one_number(("Exp",), ("Add", "one"), one=1), r"never below 0.*name 'output', which a linear layer gives"),
        (
            one_number(("Sigmoid",), ("Mul", "hundred"), hundred=100),
            r"never below 0.*name 'output', which a linear layer gives",
        ),
        (one_number(("Exp",), ("Add", "five"), ("Max", "s0"), five=5), r"never below 0.*name the tensor of the logit"),
    ],
    ids=["an exponent", "percent", "of two tensors"],
)
def test_one_number_that_would_be_the_second_class_for_every_image_is_refused(tmp_path, capsys, proto, words):
    """Also where the user follows the hint that is given of a logit."""
    for options in (NORMALISED, (*NORMALISED, "--task", "multiclass")):
        assert re.search(words, refusal(tmp_path, capsys, proto, ("no", "yes"), options))


def test_a_logit_that_nothing_tells_from_a_score_is_said(tmp_path, capsys):
    """It comes from a linear layer, and lies between 0 and 1 for each random image."""
    (tmp_path / "labels.txt").write_text("no\nyes\n")
    onnx.save(one_number(("Mul", "little"), ("Add", "half"), little=1e-3, half=0.5), tmp_path / "foreign.onnx")
    words = ["--model", str(tmp_path / "foreign.onnx"), "--output", str(tmp_path / "ours.onnx"), *NORMALISED]

    assert main([*words, "--classes", str(tmp_path / "labels.txt"), "--task", "multiclass"]) == EXIT_OK
    assert "the file is wrong, all are then the second class: see what --data says of it" in capsys.readouterr().out


def test_an_output_that_no_image_changes_is_no_second_candidate(tmp_path):
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES))
    onnx.save(with_output(("constant", "b3")), tmp_path / "foreign.onnx")
    words = ["--model", str(tmp_path / "foreign.onnx"), "--output", str(tmp_path / "ours.onnx"), *NORMALISED]

    assert main([*words, "--classes", str(tmp_path / "labels.txt")]) == EXIT_OK


def test_output_that_is_not_there_is_refused_with_those_that_are(tmp_path, capsys):
    options = (*NORMALISED, "--output-name", "nonsense")

    assert "nothing called 'nonsense'" in refusal(tmp_path, capsys, options=options)


def test_size_other_than_the_graphs_is_refused(tmp_path, capsys):
    assert "takes images of 32x32" in refusal(tmp_path, capsys, options=(*NORMALISED, "--input-size", "64"))


def test_model_file_of_ours_is_refused(tmp_path, capsys):
    assert "model file of this package already" in refusal(tmp_path, capsys, write_tiny_model(tmp_path / "tiny.onnx"))


def test_weights_behind_a_link_out_of_the_folder_are_not_read(tmp_path, capsys):
    (tmp_path / "secret").write_bytes(bytes(4))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.bin").symlink_to(tmp_path / "secret")

    assert "a link out of the folder" in refusal(folder, capsys, external("weights.bin"))


def test_file_of_more_than_two_gigabytes_is_refused_unread(tmp_path, capsys):
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        os.truncate(file.fileno(), 2**31 + 10)

    assert "one ONNX file holds 2 GB at most" in refusal(tmp_path, capsys, path)


def test_file_that_is_no_model_of_ours_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES))
    onnx.save(PLAIN, tmp_path / "foreign.onnx")
    path = str(tmp_path / "foreign.onnx")

    code = main(["--model", path, "--output", path, "--classes", str(tmp_path / "labels.txt"), *NORMALISED])

    assert code == EXIT_BAD_INPUT
    assert onnx.load(path) == PLAIN
    assert "choose another --output" in capsys.readouterr().err


def test_missing_file_is_one_line(tmp_path, capsys):
    assert "there is no such file" in refusal(tmp_path, capsys, tmp_path / "none.onnx")
