"""Model files that must be refused: (name, maker, words that the one line of the refusal must have).

A maker takes an empty folder, writes into it, and returns the path that `model` is set to. The words tell what is
wrong and what to do; the path is in every line besides.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tiny_model import tiny_spec, with_score_map, with_unknown, write_tiny_model

from cnn_perception.model.spec import METADATA_KEY


class BadModel(NamedTuple):
    name: str
    make: Callable[[Path], Path]
    words: str


def _written(content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / "bad.onnx"
        path.write_bytes(content)
        return path

    return make


def _cut(keep: float) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = write_tiny_model(folder / "cut.onnx")
        data = path.read_bytes()
        path.write_bytes(data[: int(keep * len(data))])
        return path

    return make


def _changed(change: Callable[[onnx.ModelProto], object]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = write_tiny_model(folder / "changed.onnx")
        model = onnx.load(path)
        change(model)
        path.write_bytes(model.SerializeToString())
        return path

    return make


def _replaced(old: bytes, new: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = write_tiny_model(folder / "replaced.onnx")
        path.write_bytes(path.read_bytes().replace(old, new))
        return path

    return make


def _with_spec(text: str | None) -> Callable[[Path], Path]:
    def change(model: onnx.ModelProto) -> None:
        del model.metadata_props[:]
        if text is not None:
            helper.set_model_props(model, {METADATA_KEY: text})

    return _changed(change)


def _with_field(*names: str, value: Any) -> Callable[[Path], Path]:
    document = json.loads(tiny_spec().to_json())
    record = document
    for name in names[:-1]:
        record = record[name]
    record[names[-1]] = value
    return _with_spec(json.dumps(document))


def _with_text(written: str, *names: str) -> Callable[[Path], Path]:
    """A field of the description replaced by what `json` would not write."""
    document = json.loads(tiny_spec().to_json())
    record = document
    for name in names[:-1]:
        record = record[name]
    record[names[-1]] = "HERE"
    return _with_spec(json.dumps(document).replace('"HERE"', written))


def _second_spec(model: onnx.ModelProto) -> None:
    model.metadata_props.add(key=METADATA_KEY, value="{}")


def _external(location: str, place: Callable[[Path, bytes], object]) -> Callable[[Path], Path]:
    """A model whose weights are in another file; `{folder}` in the location is its folder."""

    def make(folder: Path) -> Path:
        folder = folder / "inner"
        path = write_tiny_model(folder / "external.onnx")
        model = onnx.load(path)
        weights = next(t for t in model.graph.initializer if t.name == "weights")
        place(folder, weights.raw_data)
        entries = {"location": location.format(folder=folder), "length": str(len(weights.raw_data))}
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            entry = weights.external_data.add()
            entry.key, entry.value = key, value
        path.write_bytes(model.SerializeToString())
        return path

    return make


def _link(link: Callable[[Path, Path], object]) -> Callable[[Path, bytes], object]:
    def place(folder: Path, data: bytes) -> None:
        (folder.parent / "secret.bin").write_bytes(data)
        link(folder.parent / "secret.bin", folder / "weights.bin")

    return place


def _write(name: str) -> Callable[[Path, bytes], object]:
    return lambda folder, data: (folder / name).write_bytes(data)


def _opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def _operator(domain: str, name: str) -> Callable[[onnx.ModelProto], object]:
    def change(model: onnx.ModelProto) -> None:
        if domain:
            model.opset_import.append(helper.make_opsetid(domain, 1))
        model.graph.node[0].op_type, model.graph.node[0].domain = name, domain

    return change


def _input_type(kind: int) -> Callable[[onnx.ModelProto], object]:
    """The graph takes another type, and casts it, so that it is valid."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].input[0] = "as_float"
        model.graph.node.insert(0, helper.make_node("Cast", ["image"], ["as_float"], to=TensorProto.FLOAT))
        model.graph.input[0].type.tensor_type.elem_type = kind

    return change


def _input_name(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.input[0].name = "picture"


def _second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))


def _without_output(name: str) -> Callable[[onnx.ModelProto], object]:
    def change(model: onnx.ModelProto) -> None:
        kept = [output for output in model.graph.output if output.name != name]
        del model.graph.output[:]
        model.graph.output.extend(kept)

    return change


def _directory(folder: Path) -> Path:
    (folder / "model.onnx").mkdir()
    return folder / "model.onnx"


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.onnx")
    return folder / "pipe.onnx"


def _loop(folder: Path) -> Path:
    (folder / "loop.onnx").symlink_to(folder / "loop.onnx")
    return folder / "loop.onnx"


def _gigabytes(kind: str) -> Callable[[Path], Path]:
    return lambda folder: write_greedy_model(folder / "greedy.onnx", kind)


_AGAIN = "export it again"
BAD_MODELS = [
    BadModel("missing", lambda folder: folder / "none.onnx", "no such model file; make one with"),
    BadModel("directory", _directory, "is a directory, not a model file; name the .onnx file in it"),
    BadModel("pipe", _pipe, "is no regular file; name an .onnx file"),
    BadModel("link to itself", _loop, "cannot be read (Too many levels of symbolic links); check the path"),
    BadModel("zero bytes", _written(b""), f"has 0 bytes, which is no ONNX file; {_AGAIN}"),
    BadModel("text", _written(b"hello\n"), f"is no ONNX file, or a damaged one; {_AGAIN}"),
    BadModel("web page", _written(b"<!DOCTYPE html><html>404</html>"), "is a web page; download the model file itself"),
    BadModel("pointer", _written(b"version https://git-lfs.github.com/spec/v1\n"), "is a pointer of Git LFS"),
    BadModel(
        "checkpoint of torch", _written(b"PK\3\4" + bytes(9)), "is a zip archive, as torch.save writes its files;"
    ),
    BadModel("packed", _written(b"\x1f\x8b\x08" + bytes(9)), "is a gzip archive; unpack it"),
    BadModel("zeros", _written(bytes(1000)), f"is no ONNX file (there is no graph in it); {_AGAIN}"),
    BadModel("half", _cut(0.5), f"bytes are missing at byte; {_AGAIN}"),
    BadModel("without its end", _cut(0.99), f"bytes are missing at byte; {_AGAIN}"),
    BadModel("name that is no text", _replaced(b"weighted", b"weight\xff\xfe"), f"its graph is damaged; {_AGAIN}"),
    BadModel("opset too new", _changed(_opset), f"Opset 99; {_AGAIN} or update ONNX Runtime"),
    BadModel("custom operator", _changed(_operator("com.example", "Frobnicate")), f"Frobnicate; {_AGAIN}"),
    BadModel("unknown operator", _changed(_operator("", "Frobnicate")), f"Frobnicate; {_AGAIN}"),
    BadModel(
        "external beside", _external("weights.bin", _write("weights.bin")), f"another file ('weights.bin'); {_AGAIN}"
    ),
    BadModel("external absent", _external("weights.bin", lambda *_: None), f"another file ('weights.bin'); {_AGAIN}"),
    BadModel("external above", _external("../up.bin", _write("../up.bin")), f"another file ('../up.bin'); {_AGAIN}"),
    BadModel("external absolute", _external("{folder}/w.bin", _write("w.bin")), f"another file; {_AGAIN}"),
    BadModel(
        "external by symlink", _external("weights.bin", _link(os.symlink)), f"another file ('weights.bin'); {_AGAIN}"
    ),
    BadModel(
        "external by hardlink", _external("weights.bin", _link(os.link)), f"another file ('weights.bin'); {_AGAIN}"
    ),
    BadModel(
        "no spec",
        _with_spec(None),
        "carries no cnn_perception.spec; make it with `python -m training.export`, "
        "or of another program's file with `python -m training.adopt`",
    ),
    BadModel("spec no JSON", _with_spec("{"), "is not JSON; export the model again"),
    BadModel("two specs", _changed(_second_spec), f"its metadata has 'cnn_perception.spec' twice; {_AGAIN}"),
    BadModel(
        "half a surrogate pair",
        _with_text(r'["\ud800", "b", "c"]', "class_names"),
        r"spec.class_names[0]: '\ud800' is not a valid value; export the model again",
    ),
    BadModel("NaN", _with_text("NaN", "parity", "tolerance"), "NaN is no number; export the model again"),
    BadModel("400 digits", _with_text("1" + "0" * 400, "temperature"), "spec.temperature; export the model again"),
    BadModel("deep lists", _with_text("[" * 10**5 + "]" * 10**5, "class_names"), "export the model again"),
    BadModel("spec of the past", _with_field("version", value=1), "has version 1; export the model again"),
    BadModel("too few names", _with_field("class_names", value=["a", "b"]), f"3 logits but 2 class names; {_AGAIN}"),
    BadModel("too many names", _with_field("class_names", value=[*"abcd"]), f"3 logits but 4 class names; {_AGAIN}"),
    BadModel("input of another size", _with_field("input", "height", value=48), f"its input is; {_AGAIN}"),
    BadModel("input of bytes", _changed(_input_type(TensorProto.UINT8)), f"its input is; tensor(uint8); {_AGAIN}"),
    BadModel("input of halves", _changed(_input_type(TensorProto.FLOAT16)), f"its input is; tensor(float16); {_AGAIN}"),
    BadModel("input of another name", _changed(_input_name), f"its input is; picture; {_AGAIN}"),
    BadModel("second input", _changed(_second_input), f"its input is; mask; {_AGAIN}"),
    BadModel("no embedding", _changed(_without_output("embedding")), f"has no float output ['embedding']; {_AGAIN}"),
    BadModel("no activation", _changed(_without_output("activation")), f"has no float output ['activation']; {_AGAIN}"),
    BadModel("another grid", _with_field("activation", "rows", value=7), f"activation map is not 7x4; {_AGAIN}"),
    BadModel(
        "rule for another embedding",
        _with_spec(with_unknown(tiny_spec(), -0.5, ((1.0, 0.0), (0.0, 1.0))).to_json()),
        f"unknown rule is for embeddings of 2 numbers, the graph has 3; {_AGAIN}",
    ),
    BadModel("gigabytes from a constant", _gigabytes("constant"), f"loading it takes more than; {_AGAIN}"),
    BadModel("gigabytes from an image", _gigabytes("image"), f"loading it takes more than; {_AGAIN}"),
]


def _ones(name: str, *shape: int) -> TensorProto:
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def _sizes(name: str, *sizes: int) -> TensorProto:
    return numpy_helper.from_array(np.array(sizes, np.int64), name)


_ELEMENTS = 3_000_000_000
GREEDY: dict[str, tuple[list[onnx.NodeProto], list[TensorProto]]] = {
    "constant": (
        [helper.make_node("ConstantOfShape", ["size"], ["huge"], value=_ones("one", 1))],
        [_sizes("size", _ELEMENTS)],
    ),
    "expanded": ([helper.make_node("Expand", ["a", "size"], ["huge"])], [_ones("a", 1), _sizes("size", _ELEMENTS)]),
    "image": (
        [
            helper.make_node("ReduceMean", ["image"], ["grey"], keepdims=0),
            helper.make_node("Expand", ["grey", "size"], ["huge"]),
        ],
        [_sizes("size", _ELEMENTS)],
    ),
    "broadcast": ([helper.make_node("Add", ["a", "b"], ["huge"])], [_ones("a", 60_000, 1), _ones("b", 1, 60_000)]),
    "range": (
        [helper.make_node("Range", ["zero", "most", "one"], ["huge"])],
        [_ones("one"), numpy_helper.from_array(np.float32(2**31), "most")],
    ),
    "many": (
        [
            *(
                helper.make_node(
                    "ConstantOfShape", ["size"], [f"h{number}"], value=helper.make_tensor("", 1, [1], [number])
                )
                for number in range(50)  # each of another value, or ONNX Runtime would make one of them
            ),
            helper.make_node("Sum", [f"h{number}" for number in range(50)], ["huge"]),
        ],
        [_sizes("size", 2**26)],
    ),
    "doubled": (
        [
            *(helper.make_node("Concat", [f"h{n}", f"h{n}"], [f"h{n + 1}"], axis=0) for n in range(30)),
            helper.make_node("Identity", ["h30"], ["huge"]),
        ],
        [_ones("h0", 3)],
    ),
}
"""Nodes of a few hundred bytes that give a tensor `huge` of more than ten gigabytes, and what they begin with."""


def write_greedy_model(path: Path, kind: str, *, of: str = "embedding") -> Path:
    """A valid model that computes what the tiny model does once it has found no room for gigabytes.

    `of` is the output that needs them.
    """
    model = onnx.load(write_tiny_model(path, spec=with_score_map(tiny_spec()) if of == "score_map" else None))
    nodes, tensors = GREEDY[kind]
    place = next(number for number, node in enumerate(model.graph.node) if of in node.output)
    model.graph.node[place].output[0] = "plain"
    more = [
        *nodes,
        helper.make_node("ReduceMean", ["huge"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["plain", "nothing"], [of]),
    ]
    for number, node in enumerate(more, place + 1):
        model.graph.node.insert(number, node)
    model.graph.initializer.extend([*tensors, numpy_helper.from_array(np.float32(0), "zero")])
    onnx.save(model, path)
    return path


def write_endless_model(path: Path, rounds: int | None = None) -> Path:
    """A valid model with a loop that never ends: the run that warms it up waits for ever, in native code.

    With a number of rounds it ends in time, and answers as the tiny model does.
    """
    model = onnx.load(write_tiny_model(path))
    flag, any_shape = helper.make_tensor_value_info("go", TensorProto.BOOL, []), None
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Identity", ["before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("count", TensorProto.INT64, []),
            flag,
            helper.make_tensor_value_info("before", TensorProto.FLOAT, any_shape),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, any_shape),
        ],
    )
    place = next(number for number, node in enumerate(model.graph.node) if "embedding" in node.output)
    model.graph.node[place].output[0] = "looped"
    limit = "" if rounds is None else "rounds"
    model.graph.node.insert(place + 1, helper.make_node("Loop", [limit, "always", "looped"], ["embedding"], body=body))
    if rounds is not None:
        model.graph.initializer.append(helper.make_tensor("rounds", TensorProto.INT64, [], [rounds]))
    model.graph.initializer.append(helper.make_tensor("always", TensorProto.BOOL, [], [True]))
    onnx.save(model, path)
    return path
