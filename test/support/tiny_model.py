"""A model whose answers are known by hand: the class is the dominant colour channel. No torch.

The features are the 3x4 grid of mean colours, the embedding is their mean, `logit[k] = GAIN * embedding[k]`, and the
activation of a cell is GAIN times the channel of the top class in it. The default input has mean 0 and std 1, so a
picture of one colour (r, g, b) has the logits `GAIN * (r, g, b) / 255`. A multilabel or regression model has the same
logits with another meaning; `gain` and `bias` change them. A model `with_score_map` has a cell for every 8x8 pixels
(of the default input), whose logits are those of the 24x32 window that begins there.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from cnn_perception.model.gallery import Gallery
from cnn_perception.model.spec import (
    FP32,
    GALLERY_KEY,
    METADATA_KEY,
    SPEC_VERSION,
    ActivationSpec,
    GallerySpec,
    InputSpec,
    ModelSpec,
    Moments,
    ParityRecord,
    PrecisionRecord,
    ScoreMapSpec,
    TrainingRecord,
    TrainingStatistics,
    UnknownRule,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GAIN = 10.0
ROWS, COLUMNS = 3, 4
TINY_INPUT = InputSpec(
    height=24,
    width=32,
    resize_mode="squash",
    crop_fraction=1.0,
    interpolation="bilinear",
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)


def tiny_spec(classes: Sequence[str] = ("red", "green", "blue"), *, input: InputSpec = TINY_INPUT) -> ModelSpec:  # noqa: A002
    stride = (input.height / ROWS, input.width / COLUMNS)
    return ModelSpec(
        version=SPEC_VERSION,
        task="multiclass",
        architecture="tiny",
        class_names=tuple(classes),
        units=(),
        input=input,
        activation=ActivationSpec(
            method="cam",
            rows=ROWS,
            columns=COLUMNS,
            stride=stride,
            receptive_field=(int(stride[0]), int(stride[1])),
            offset=((stride[0] - 1) / 2, (stride[1] - 1) / 2),
        ),
        temperature=1.0,
        thresholds=(),
        unknown=None,
        training=TrainingRecord(
            mode="none",
            weights="none",
            data="",
            data_sha256="",
            train_images=0,
            val_images=0,
            metrics={},
            code_version="0.1.0",
            created="2026-01-01T00:00:00+00:00",
        ),
        parity=ParityRecord(source="noise", images=1, max_logit_difference=0.0, tolerance=1e-4, top1_agreement=1.0),
        precision=FP32,
        score_map=None,
        gallery=None,
        statistics=None,
    )


def as_multilabel(spec: ModelSpec, *thresholds: float) -> ModelSpec:
    return dataclasses.replace(spec, task="multilabel", thresholds=thresholds)


def regression_spec(units: Mapping[str, str]) -> ModelSpec:
    """The numbers' names with their units."""
    return dataclasses.replace(tiny_spec(), task="regression", class_names=tuple(units), units=tuple(units.values()))


def with_unknown(spec: ModelSpec, threshold: float, centres: tuple[tuple[float, ...], ...] = ()) -> ModelSpec:
    """A rule of distance if there are centres, of energy otherwise."""
    method = "distance" if centres else "energy"
    return dataclasses.replace(spec, unknown=UnknownRule(method, threshold, 0.05, None, 0, centres))


def with_score_map(spec: ModelSpec) -> ModelSpec:
    assert spec.activation is not None
    height, width = spec.input.height, spec.input.width
    place = ScoreMapSpec(spec.activation.stride, (height, width), ((height - 1) / 2, (width - 1) / 2))
    return dataclasses.replace(spec, score_map=place)


def as_int8(spec: ModelSpec) -> ModelSpec:
    """What an export of the same training to int8 says, some days later."""
    training = dataclasses.replace(spec.training, created="2026-02-02T00:00:00+00:00", code_version="0.2.0")
    precision = PrecisionRecord("int8", calibration_images=8, images=40, metric="top1", before=0.9, after=0.9)
    parity = ParityRecord("validation", 40, max_logit_difference=0.02, tolerance=0.05, top1_agreement=1.0)
    return dataclasses.replace(spec, training=training, precision=precision, parity=parity)


def write_tiny_model(
    path: Path,
    *,
    classes: Sequence[str] = ("red", "green", "blue"),
    input: InputSpec = TINY_INPUT,  # noqa: A002
    spec: ModelSpec | None = None,
    gain: float = GAIN,
    bias: Sequence[float] = (),
) -> Path:
    """Writes the model and returns its path; the fourth and further classes always have the logit 0.

    `spec` replaces `classes` and `input`; `bias` is added to the logits, one each.
    """
    spec = spec or tiny_spec(classes, input=input)
    if spec.input.height % ROWS or spec.input.width % COLUMNS:
        raise ValueError(f"the input must divide into {ROWS}x{COLUMNS} cells")
    model = helper.make_model(_graph(spec, gain, bias), ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.checker.check_model(model, full_check=spec.score_map is None)  # the other outputs have the model's own size
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def _graph(spec: ModelSpec, gain: float, bias: Sequence[float]) -> GraphProto:
    classes = len(spec.class_names)
    size: list[int | str] = [spec.input.height, spec.input.width]
    maps = []
    if spec.score_map is not None:
        size = ["height", "width"]
        cells = ["batch", classes, "map_rows", "map_columns"]
        maps = [helper.make_tensor_value_info("score_map", TensorProto.FLOAT, cells)]
    return helper.make_graph(
        _nodes(spec),
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, *size])],
        [
            *maps,
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes]),
            helper.make_tensor_value_info("activation", TensorProto.FLOAT, ["batch", ROWS, COLUMNS]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 3]),
        ],
        initializer=[
            numpy_helper.from_array(np.float32(gain) * np.eye(classes, 3, dtype=np.float32), "weights"),
            numpy_helper.from_array(np.array(bias or [0.0] * classes, dtype=np.float32), "bias"),
            numpy_helper.from_array(np.array([2, 3], dtype=np.int64), "spatial_axes"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "channel_axis"),
        ],
    )


def _nodes(spec: ModelSpec) -> list[NodeProto]:
    kernel = [spec.input.height // ROWS, spec.input.width // COLUMNS]
    nodes = [
        helper.make_node("AveragePool", ["image"], ["features"], kernel_shape=kernel, strides=kernel),
        helper.make_node("ReduceMean", ["features"], ["embedding"], axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["embedding", "weights", "bias"], ["logits"], transB=1),
        helper.make_node("ArgMax", ["logits"], ["top"], axis=1, keepdims=0),
        helper.make_node("Gather", ["weights", "top"], ["row"], axis=0),
        helper.make_node("Unsqueeze", ["row", "spatial_axes"], ["row4"]),
        helper.make_node("Mul", ["features", "row4"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "channel_axis"], ["activation"], keepdims=0),
    ]
    if spec.score_map is not None:
        nodes += [
            helper.make_node("AveragePool", ["features"], ["windows"], kernel_shape=[ROWS, COLUMNS]),
            helper.make_node("Unsqueeze", ["weights", "spatial_axes"], ["weights4"]),
            helper.make_node("Conv", ["windows", "weights4", "bias"], ["score_map"]),
        ]
    return nodes


def with_layers(path: Path) -> Path:
    """Gives the model four layers before its own one: 5 units at 24x32, 2 at 12x16, by random 3x3 convolutions."""
    rng = np.random.default_rng(0)
    model = onnx.load(path)
    weights = {"w1": (5, 3, 3, 3), "w2": (2, 5, 3, 3), "w3": (3, 2, 1, 1)}
    for name, shape in weights.items():
        values = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    layers = [
        helper.make_node("Conv", ["image", "w1"], ["conv1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv1"], ["relu1"]),
        helper.make_node("Conv", ["relu1", "w2"], ["conv2"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["conv2"], ["relu2"]),
        helper.make_node("Conv", ["relu2", "w3"], ["mixed"], kernel_shape=[1, 1]),
    ]
    pool = model.graph.node[0]
    pool.input[0] = "mixed"
    for attribute in pool.attribute:  # half as many pixels as of the image
        attribute.ints[:] = [size // 2 for size in attribute.ints]
    for index, node in enumerate(layers):
        model.graph.node.insert(index, node)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def respecified(path: Path, text: str | None, **others: str) -> Path:
    """Gives the model another text as its spec, or none, and other metadata besides."""
    model = onnx.load(path)
    del model.metadata_props[:]
    helper.set_model_props(model, ({} if text is None else {METADATA_KEY: text}) | others)
    onnx.save(model, path)
    return path


NAMES = ("red.png", "green.png", "yellow.png")


GALLERY = np.array([[1, 0, 0], [0, 1, 0], [np.sqrt(0.5), np.sqrt(0.5), 0]], np.float32)


def write_models(folder: Path) -> tuple[Path, Path]:
    """The model, and a shadow that takes green for blue."""
    spec = dataclasses.replace(
        with_score_map(tiny_spec()),
        gallery=GallerySpec(NAMES, 3),
        statistics=TrainingStatistics(100, (0.4, 0.3, 0.3), Moments(0.5, 0.05), Moments(0.1, 0.1)),
    )
    model = write_tiny_model(folder / "tiny.onnx", spec=spec)
    respecified(model, spec.to_json(), **{GALLERY_KEY: Gallery(NAMES, GALLERY).to_metadata()})
    shadow = write_tiny_model(folder / "shadow.onnx", classes=("red", "blue", "violet"))
    return model, shadow
