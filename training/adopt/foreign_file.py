"""Reads the ONNX file of another program: whole, with weights that lie in other files, of operators that are known.

It comes from anywhere. Files that it names are opened only where they lie in its own folder, and nothing of it is run
before its operators are known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np
import onnx.inliner
import onnx.version_converter
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

from cnn_perception.errors import ModelError, one_line
from cnn_perception.model.onnx_file import LARGEST_FILE_BYTES, what_not_onnx
from cnn_perception.model.spec import METADATA_KEY
from training.adopt.graph.tensors import Tensors
from training.class_names.of_networks import NAMES_OF_DICTIONARY

OLDEST_OPSET = 13
"""Of ONNX's own operators: from it on Softmax is along one axis, and axes are inputs, as in what is added here."""
_UPGRADED_OPSET = 17
_OLDEST_IR = 8
_CONTROL_FLOW = {"If", "Loop", "Scan", "SequenceMap"}
_OF_ONNX_RUNTIME = ("com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc", "ai.onnx.ml")
_OF_CHANCE = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class ForeignModel:
    """The file of another program.

    Attributes:
        path: Where it lies.
        sha256: Digest of its bytes, without those of other files.
        original: The graph as it is, but in one piece: with the weights of other files, without functions, and with the
            numbers of a dictionary of scores instead of it.
        upgraded: The same in the order of computation, at an opset from `OLDEST_OPSET` on; its inputs are no weights.
        metadata: The texts that it carries, and the names in its dictionary of scores as JSON.
    """

    path: Path
    sha256: str
    original: ModelProto
    upgraded: ModelProto
    metadata: dict[str, str]


def read(path: Path) -> ForeignModel:
    """Reads a file.

    Raises:
        ModelError: If it cannot be read, is no ONNX file or cut off, is a model file of this package already, names
            files outside its folder, is larger than 2 GB, has operators that nothing here can run, or was exported in
            training mode.
    """
    data = _bytes(path)
    if what := what_not_onnx(data):
        raise ModelError(f"{path}: {what}")
    try:
        proto = ModelProto.FromString(data)
    except DecodeError:
        raise ModelError(f"{path}: truncated, or no ONNX file; copy or export it again") from None
    if not proto.graph.node:
        raise ModelError(f"{path}: no ONNX file, or one without a graph; name the .onnx file of a classifier")
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    if METADATA_KEY in metadata:
        raise ModelError(f"{path}: is a model file of this package already; use it as it is")
    _join_external_data(proto, path)
    original = _inlined(proto, path)
    _require_known_operators(original, path)
    _require_evaluation_mode(original, path)
    if names := _without_dictionaries(original):
        metadata[NAMES_OF_DICTIONARY] = json.dumps(names)
    return ForeignModel(path, hashlib.sha256(data).hexdigest(), original, _upgraded(original, path), metadata)


def _bytes(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise ModelError(f"{path}: there is no such file; name the .onnx file of a classifier")
        size = path.stat().st_size
        if size > LARGEST_FILE_BYTES:
            raise _too_large(path, size)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelError(f"{path}: cannot be read ({reason}); check the path and its permissions") from None


def _too_large(path: Path, size: int) -> ModelError:
    return ModelError(
        f"{path}: has {size / 1e9:.1f} GB with its weights, and one ONNX file holds 2 GB at most; export it in fp16, "
        "or take a smaller network"
    )


def _join_external_data(proto: ModelProto, path: Path) -> None:
    """Reads the values of tensors that lie in other files of the model's folder, in place."""
    outside = [tensor for tensor in _tensors(proto) if tensor.data_location == TensorProto.EXTERNAL]
    places = [_external_place(tensor, path) for tensor in outside]
    total = sum(length for _, _, length in places)
    if total > LARGEST_FILE_BYTES:
        raise _too_large(path, total)
    for tensor, (file, offset, length) in zip(outside, places, strict=True):
        with file.open("rb") as opened:
            opened.seek(offset)
            tensor.raw_data = opened.read(length)
        tensor.ClearField("external_data")
        tensor.data_location = TensorProto.DEFAULT


def _external_place(tensor: TensorProto, path: Path) -> tuple[Path, int, int]:
    """Returns file, offset and length in bytes of a tensor's values, all of which are there."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    folder = path.parent.resolve()
    foreign = PureWindowsPath(location)  # which knows both kinds of slashes
    if not location or "\0" in location or foreign.anchor or ".." in foreign.parts:
        raise _refused(path, location, "is not in the folder of the model")
    file = folder / location
    if not file.resolve().is_relative_to(folder):
        raise _refused(path, location, "is a link out of the folder of the model")
    if not file.is_file():
        raise ModelError(f"{path}: its weights lie in {location!r}, which is not beside it; copy both files")
    size = file.stat().st_size
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", size - offset))
    except ValueError:
        raise _refused(path, location, "is said to lie where no number says") from None
    if not 0 <= offset <= offset + length <= size:
        raise ModelError(f"{path}: {location!r} has {size} bytes, fewer than its weights; copy or export it again")
    return file, offset, length


def _refused(path: Path, location: str, why: str) -> ModelError:
    return ModelError(f"{path}: names weights in {location[:200]!r}, which {why} and is not opened; export it again")


def _tensors(proto: ModelProto) -> Iterator[TensorProto]:
    """Yields every tensor of a model, those in attributes and inner graphs, too."""
    graphs: list[GraphProto] = [proto.graph]
    nodes: list[NodeProto] = [node for function in proto.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes += graph.node
            continue
        for attribute in nodes.pop().attribute:
            yield from _tensors_of(attribute)
            graphs += [attribute.g, *attribute.graphs]


def _tensors_of(attribute: AttributeProto) -> Iterable[TensorProto]:
    sparse = [attribute.sparse_tensor, *attribute.sparse_tensors]
    return [attribute.t, *attribute.tensors, *(part for one in sparse for part in (one.values, one.indices))]


def _inlined(proto: ModelProto, path: Path) -> ModelProto:
    if not proto.functions:
        return proto
    try:
        return onnx.inliner.inline_local_functions(proto)
    except Exception as error:  # C++ throws what it likes
        raise ModelError(f"{path}: its functions cannot be inlined ({one_line(error)}); export it again") from None


def _require_known_operators(proto: ModelProto, path: Path) -> None:
    unknown = sorted({_operator(node) for node in proto.graph.node if not _is_known(node)})
    if unknown:
        shown = ", ".join(unknown[:_SHOWN]) + ", ..." * (len(unknown) > _SHOWN)
        raise ModelError(f"{path}: has operators that ONNX Runtime does not have: {shown}; export it without them")
    inner = sorted({node.op_type for node in proto.graph.node if node.op_type in _CONTROL_FLOW})
    if inner:
        raise ModelError(
            f"{path}: has graphs inside its graph ({', '.join(inner)}), which the robot does not run; simplify it, "
            "for instance with onnxsim, or export it for a fixed input size"
        )


def _require_evaluation_mode(proto: ModelProto, path: Path) -> None:
    """Refuses a graph whose answer to an image depends on the others of its batch, or on chance.

    A BatchNormalization says that it normalises by its batch by `training_mode`, before opset 14 by giving the batch's
    mean and variance.
    """
    tensors = Tensors(proto)
    found: dict[str, list[str]] = {}
    for node in proto.graph.node:
        if reason := _training_mode(node, tensors):
            found.setdefault(reason, []).append(node.name or node.output[0])
    if not found:
        return
    shown = "; ".join(
        f"{reason} ({', '.join(map(repr, names[:_SHOWN]))}{', ...' * (len(names) > _SHOWN)})"
        for reason, names in sorted(found.items())
    )
    raise ModelError(
        f"{path}: was exported in training mode: {shown}; export it in evaluation mode, in torch model.eval() before "
        "and TrainingMode.EVAL, in Keras training=False"
    )


def _training_mode(node: NodeProto, tensors: Tensors) -> str:
    """Returns what a node does that is done in training alone; empty of all others."""
    if node.op_type == "BatchNormalization":
        flag = any(one.name == "training_mode" and one.i for one in node.attribute)
        return "BatchNormalization normalises by its batch" if flag or sum(map(bool, node.output)) > 1 else ""
    if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
        value = tensors.constant(node.input[2])
        return "Dropout drops numbers" if value is not None and bool(np.any(value)) else ""
    return f"{node.op_type} draws random numbers" if node.op_type in _OF_CHANCE else ""


def _without_dictionaries(proto: ModelProto) -> list[str]:
    """Puts numbers in the place of outputs that are dictionaries of them, as scikit-learn's are; in place.

    Returns:
        The names in such a dictionary, in the order of the numbers; empty where there is none, or they are numbers.
    """
    graph = proto.graph
    names: list[str] = []
    for node in [one for one in graph.node if one.op_type == "ZipMap" and one.domain == "ai.onnx.ml"]:
        found = [value for value in graph.output if value.name in node.output]
        for output in found:
            graph.output.remove(output)
            if node.input[0] not in {value.name for value in graph.output}:
                graph.output.append(helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, None))
            labels = next((one.strings for one in node.attribute if one.name == NAMES_OF_DICTIONARY), ())
            names = names or [label.decode(errors="replace") for label in labels]
        graph.node.remove(node)
    return names


def _is_known(node: NodeProto) -> bool:
    if node.domain in ("", "ai.onnx"):
        return bool(onnx.defs.has(node.op_type))
    return node.domain in _OF_ONNX_RUNTIME


def _operator(node: NodeProto) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def _put_in_order(graph: GraphProto) -> None:
    """Puts nodes behind those whose outputs they take, as ONNX wants it; converters append some, and nobody minds."""
    known = {"", *(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer)}
    known |= {sparse.values.name for sparse in graph.sparse_initializer}
    ordered: list[NodeProto] = []
    waiting = list(graph.node)
    while waiting:
        later = []
        for node in waiting:
            if known.issuperset(node.input):
                ordered.append(node)
                known.update(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            return  # of what does not exist: ONNX Runtime says so
        waiting = later
    del graph.node[:]
    graph.node.extend(ordered)


def _upgraded(original: ModelProto, path: Path) -> ModelProto:
    proto = ModelProto()
    proto.CopyFrom(original)
    _put_in_order(proto.graph)
    opset = next((one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")), 1)
    if opset < OLDEST_OPSET:
        try:
            proto = onnx.version_converter.convert_version(proto, _UPGRADED_OPSET)
        except Exception as error:  # C++ throws what it likes
            raise ModelError(
                f"{path}: is of opset {opset}, and cannot be made one of {_UPGRADED_OPSET} ({one_line(error)}); "
                f"export it for opset {OLDEST_OPSET} or later"
            ) from None
    proto.ir_version = max(proto.ir_version, _OLDEST_IR)
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    return proto
