"""Classifiers as other programs export them to ONNX: a small network of random weights, each with its forward in torch.

The oracle of each is its own preprocessing by Pillow and torch of the picture, then the network in torch; nothing of
the code under test.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn

CLASSES = ("ant", "bee", "cat", "dog", "eel")
SIDE = 32
CHANNELS = 12
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Network(nn.Module):
    """Two convolutions of stride 2, the mean over the 8x8 cells, a linear layer."""

    def __init__(self, channels: int = 3, classes: int = len(CLASSES), hidden: int = 0) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, CHANNELS, 3, 2, 1), nn.ReLU()
        )
        self.hidden = nn.Sequential(nn.Linear(CHANNELS, hidden), nn.ReLU()) if hidden else nn.Identity()
        self.last = nn.Linear(hidden or CHANNELS, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.hidden(self.body(image).mean((2, 3))))


def network(seed: int = 0, **options: int) -> Network:
    torch.manual_seed(seed)
    made = Network(**options).eval().requires_grad_(False)
    for module in made.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=1.5 / module.weight[0].numel() ** 0.5)
            nn.init.normal_(module.bias, std=0.2)
    return made


@dataclass(frozen=True, eq=False)
class Foreign:
    """A foreign graph.

    Attributes:
        proto: The graph.
        network: Its network in torch.
        prepared: Of pixels, what enters the network.
        options: Words of the command line that describe it, without the names of its classes.
        behind: What is behind the network, and before the softmax or sigmoid.
        exact_map: Whether it has one.
        task: What it does.
        tolerance: Of its scores.
        class_names: In their order.
    """

    proto: ModelProto
    network: Network
    prepared: Callable[[Tensor], Tensor]
    options: tuple[str, ...]
    behind: Callable[[Tensor], Tensor] = torch.positive
    exact_map: bool = True
    task: str = "multiclass"
    tolerance: float = 2e-4
    class_names: tuple[str, ...] = CLASSES

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """Of pixels (N, 3, SIDE, SIDE) in [0, 1], RGB: (N, K)."""
        return self.behind(self.network(self.prepared(torch.from_numpy(pixels)))).numpy()


def normalised(pixels: Tensor) -> Tensor:
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


NORMALISED = ("--mean", ",".join(map(str, MEAN)), "--std", ",".join(map(str, STD)))
AS_THEY_ARE = ("--mean", "0", "--std", "1")


def as_nodes(model: Network, name: str = "input", batch: str | None = "N", opset: int = 17) -> ModelProto:
    """`name` -> `output`, logits."""
    return with_nodes(model, [], name, name, "output", batch=batch, opset=opset)


def with_nodes(
    model: Network,
    before: list,
    name: str,
    entering: str,
    output: str,
    *,
    behind: list | None = None,
    value: tuple = (TensorProto.FLOAT, [3, SIDE, SIDE]),
    batch: str | None = "N",
    constants: dict | None = None,
    opset: int = 17,
    flatten: str = "Flatten",
) -> ModelProto:
    """The network as nodes between others, as exporters write it: GlobalAveragePool, Flatten or Reshape, Gemm."""
    first, _, second, _ = model.body
    weights = {
        "w1": first.weight, "b1": first.bias, "w2": second.weight, "b2": second.bias,
        "w3": model.last.weight, "b3": model.last.bias,
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", [entering, "w1", "b1"], ["c1"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
    ]
    more = dict(constants or {})
    if flatten == "Reshape":
        more["flat_shape"] = np.array([1, CHANNELS], np.int64)
        nodes.append(helper.make_node("Reshape", ["pooled", "flat_shape"], ["flat"]))
    else:
        nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], axis=1))
    last = "flat"
    if isinstance(model.hidden, nn.Sequential):
        weights |= {"wh": model.hidden[0].weight, "bh": model.hidden[0].bias}
        nodes += [
            helper.make_node("Gemm", ["flat", "wh", "bh"], ["h"], transB=1),
            helper.make_node("Relu", ["h"], ["hidden"]),
        ]
        last = "hidden"
    nodes.append(helper.make_node("Gemm", [last, "w3", "b3"], ["scores" if behind else output], transB=1))
    kind, size = value
    tensors = {key: tensor.numpy() for key, tensor in weights.items()} | more
    graph = helper.make_graph(
        [*before, *nodes, *(behind or [])],
        "main_graph",
        [helper.make_tensor_value_info(name, kind, [batch or 1, *size])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ascontiguousarray(values), key) for key, values in tensors.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)])


def torchvision() -> Foreign:
    """`input` -> `output`, logits, any batch, by torch's own exporter."""
    model = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about its own future
        program = torch.onnx.export(
            model, (torch.zeros(2, 3, SIDE, SIDE),), dynamo=True, verbose=False, input_names=["input"],
            output_names=["output"], dynamic_shapes=({0: torch.export.Dim("batch")},),
        )  # fmt: skip
    return Foreign(program.model_proto, model, normalised, NORMALISED)


def ultralytics() -> Foreign:
    """`images` 1x3xHxW -> `output0`, softmax inside, a batch of 1 in its constants, names in its metadata."""
    model = network(1)
    softmax = helper.make_node("Softmax", ["scores"], ["output0"], axis=1)
    proto = with_nodes(model, [], "images", "images", "output0", behind=[softmax], batch=None, flatten="Reshape")
    texts = {
        "description": "Ultralytics YOLO11n-cls model trained on insects", "author": "Ultralytics",
        "task": "classify", "batch": "1", "imgsz": f"[{SIDE}, {SIDE}]", "names": str(dict(enumerate(CLASSES))),
    }  # fmt: skip
    helper.set_model_props(proto, texts)
    return Foreign(proto, model, lambda pixels: pixels, ())


def timm() -> Foreign:
    """`x` -> `logits`, opset 18, a mean over axes instead of a pooling, any batch and any size."""
    model = network(2)
    proto = as_nodes(model, "x", opset=18)
    nodes = proto.graph.node
    pool = next(node for node in nodes if node.op_type == "GlobalAveragePool")
    pool.CopyFrom(helper.make_node("ReduceMean", ["features", "axes"], ["pooled"], keepdims=1))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([2, 3], np.int64), "axes"))
    nodes[-1].output[0] = proto.graph.output[0].name = "logits"
    for place, name in ((2, "height"), (3, "width")):
        proto.graph.input[0].type.tensor_type.shape.dim[place].dim_param = name
    return Foreign(proto, model, normalised, (*NORMALISED, "--input-size", str(SIDE)))


def keras() -> Foreign:
    """NHWC of 0 to 255, scaled inside to -1 to 1, softmax inside, names with :0, as tf2onnx makes them."""
    model = network(3)
    before = [
        helper.make_node("Mul", ["input_1:0", "scale"], ["model/rescaling/mul:0"]),
        helper.make_node("Sub", ["model/rescaling/mul:0", "one"], ["model/rescaling/sub:0"]),
        helper.make_node("Transpose", ["model/rescaling/sub:0"], ["nchw"], perm=[0, 3, 1, 2]),
    ]
    softmax = [helper.make_node("Softmax", ["scores"], ["predictions/Softmax:0"], axis=-1)]
    proto = with_nodes(
        model, before, "input_1:0", "nchw", "predictions/Softmax:0", behind=softmax,
        value=(TensorProto.FLOAT, [SIDE, SIDE, 3]), batch="unk__1",
        constants={"scale": np.float32(1 / 127.5), "one": np.float32(1)},
    )  # fmt: skip
    options = ("--mean", "0", "--std", "0.00392156863", "--resize-mode", "squash")
    return Foreign(proto, model, lambda pixels: pixels * 255 / 127.5 - 1, options)


def of_bytes() -> Foreign:
    """uint8 NHWC, normalised inside, as torch modules with preprocessing inside are."""
    model = network(4)
    before = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["nchw", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normal"]),
    ]
    constants = {
        name: np.array(values, np.float32).reshape(3, 1, 1) * 255 for name, values in (("mean", MEAN), ("std", STD))
    }
    proto = with_nodes(
        model, before, "pixels", "normal", "logits",
        value=(TensorProto.UINT8, [SIDE, SIDE, 3]), constants=constants,
    )  # fmt: skip
    return Foreign(proto, model, lambda pixels: normalised((pixels * 255 + 0.5).floor() / 255), ())


def tflite() -> Foreign:
    """uint8 NHWC in steps of 1/128 around 128, and scores of 1/256 as uint8, as converted from TensorFlow Lite."""
    model = network(15)
    constants = {
        "step": np.float32(1 / 128), "middle": np.uint8(128), "score_step": np.float32(1 / 256), "zero": np.uint8(0),
    }  # fmt: skip
    before = [
        helper.make_node("DequantizeLinear", ["serving_default_x", "step", "middle"], ["floats"]),
        helper.make_node("Transpose", ["floats"], ["nchw"], perm=[0, 3, 1, 2]),
    ]
    behind = [
        helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
        helper.make_node("QuantizeLinear", ["shares", "score_step", "zero"], ["StatefulPartitionedCall"]),
    ]
    proto = with_nodes(
        model, before, "serving_default_x", "nchw", "StatefulPartitionedCall", behind=behind, batch=None,
        value=(TensorProto.UINT8, [SIDE, SIDE, 3]), constants=constants, flatten="Reshape",
    )  # fmt: skip
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8
    return Foreign(proto, model, lambda pixels: ((pixels * 255 + 0.5).floor() - 128) / 128, ())


def half() -> Foreign:
    """All in float16, its input too."""
    model = network(5)
    proto = as_nodes(model)
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
    for one in (proto.graph.input[0], proto.graph.output[0]):
        one.type.tensor_type.elem_type = TensorProto.FLOAT16
    return Foreign(proto, model, normalised, NORMALISED, tolerance=2e-2)


class _Images(CalibrationDataReader):
    def __init__(self) -> None:
        pixels = torch.from_numpy(np.random.default_rng(0).random((16, 1, 3, SIDE, SIDE), np.float32))
        self.left = iter(normalised(pixels).numpy())

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.left, None)
        return None if image is None else {"input": image}


def eight_bits() -> Foreign:
    """Quantised by ONNX Runtime: QuantizeLinear and DequantizeLinear around each layer."""
    model = network(6)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quantised.onnx"
        quantize_static(
            as_nodes(model), str(path), _Images(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        return Foreign(onnx.load(path), model, normalised, NORMALISED, tolerance=0.2)


def old() -> Foreign:
    """Opset 9 and IR 3: weights listed as inputs; a softmax of its time, which flattens."""
    model = network(7)
    softmax = helper.make_node("Softmax", ["scores"], ["prob"])
    proto = with_nodes(model, [], "data", "data", "prob", behind=[softmax], batch=None, opset=9)
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return Foreign(proto, model, normalised, NORMALISED)


def bgr() -> Foreign:
    """Caffe's colours: blue first, a mean of 0 to 255."""
    model = network(8)
    model.body[0].weight.div_(128)
    mean = (123.68 / 255, 116.779 / 255, 103.939 / 255)
    options = ("--channel-order", "bgr", "--mean", ",".join(map(str, mean)), "--std", "0.00392156863")

    def prepared(pixels: Tensor) -> Tensor:
        return ((pixels - torch.tensor(mean)[:, None, None]) * 255).flip(1)

    return Foreign(as_nodes(model, "data"), model, prepared, options)


def grey() -> Foreign:
    """One channel."""
    model = network(9, channels=1)
    proto = with_nodes(model, [], "image", "image", "logits", value=(TensorProto.FLOAT, [1, SIDE, SIDE]))

    def prepared(pixels: Tensor) -> Tensor:
        shares = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
        return ((pixels * shares).sum(1, keepdim=True) - 0.5) / 0.25

    return Foreign(proto, model, prepared, ("--mean", "0.5", "--std", "0.25"))


def _balanced(model: Network) -> Network:
    """A network whose one number is above 0 for half of the colours."""
    pixels = torch.rand(32, 3, 1, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, SIDE, SIDE)
    model.last.bias.sub_(model(pixels).median())
    return model


def binary() -> Foreign:
    """One number behind a sigmoid: the score of the second of two classes, as Keras' binary classifiers."""
    model = _balanced(network(10, classes=1))
    sigmoid = helper.make_node("Sigmoid", ["scores"], ["dense/Sigmoid:0"])
    proto = with_nodes(model, [], "input:0", "input:0", "dense/Sigmoid:0", behind=[sigmoid])
    return Foreign(
        proto, model, lambda pixels: pixels, AS_THEY_ARE, behind=nn.ZeroPad1d((1, 0)), class_names=("no", "yes")
    )


def _one_number(seed: int, after: list, options: tuple = (), **given: Any) -> Foreign:
    """A network of one number around 0, from which `scores` -> `output` make what it gives."""
    model = _balanced(network(seed, classes=1))
    proto = with_nodes(model, [], "input", "input", "output", behind=after, constants={"one": np.float32(1)})
    logits = {"behind": nn.ZeroPad1d((1, 0)), "class_names": ("no", "yes")} | given
    return Foreign(proto, model, lambda pixels: pixels, (*AS_THEY_ARE, *options), **logits)


def clipped_sigmoid() -> Foreign:
    """One number behind a sigmoid that is clipped, as Keras' losses clip it."""
    behind = [
        helper.make_node("Sigmoid", ["scores"], ["share"]),
        helper.make_node("Min", ["share", "one"], ["below"]),
        helper.make_node("Max", ["below", "least"], ["output"]),
    ]
    foreign = _one_number(20, behind)
    foreign.proto.graph.initializer.append(numpy_helper.from_array(np.float32(1e-7), "least"))
    return foreign


def sigmoid_written_out() -> Foreign:
    """One number, 1 / (1 + exp(-x))."""
    behind = [
        helper.make_node("Neg", ["scores"], ["negative"]),
        helper.make_node("Exp", ["negative"], ["odds"]),
        helper.make_node("Add", ["odds", "one"], ["sum"]),
        helper.make_node("Div", ["one", "sum"], ["output"]),
    ]
    return _one_number(21, behind)


def sigmoid_of_lines() -> Foreign:
    """One number behind a HardSigmoid, which is no exact map's."""

    def logits(numbers: Tensor) -> Tensor:
        shares = (numbers / 5 + 0.5).clamp(1e-6, 1 - 1e-6)
        return nn.functional.pad((shares / (1 - shares)).log(), (1, 0))

    behind = [helper.make_node("HardSigmoid", ["scores"], ["output"], alpha=0.2, beta=0.5)]
    return _one_number(22, behind, behind=logits, exact_map=False, tolerance=1e-3)


def one_logit() -> Foreign:
    """One number, the logit of the second class, which the graph does not say."""
    return _one_number(23, [helper.make_node("Identity", ["scores"], ["output"])], ("--task", "multiclass"))


def labels() -> Foreign:
    """A sigmoid of each class: several labels an image."""
    model = network(11)
    sigmoid = helper.make_node("Sigmoid", ["scores"], ["tags"])
    proto = with_nodes(model, [], "image", "image", "tags", behind=[sigmoid])
    return Foreign(proto, model, normalised, NORMALISED, task="multilabel")


def written_out() -> Foreign:
    """A softmax of ReduceMax, Sub, Exp, ReduceSum and Div, as older programs write it."""
    model = network(12)
    behind = [
        helper.make_node("ReduceMax", ["scores"], ["top"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["scores", "top"], ["below"]),
        helper.make_node("Exp", ["below"], ["exponents"]),
        helper.make_node("ReduceSum", ["exponents", "axis"], ["sum"], keepdims=1),
        helper.make_node("Div", ["exponents", "sum"], ["shares"]),
    ]
    axis = {"axis": np.array([1], np.int64)}
    proto = with_nodes(model, [], "x", "x", "shares", behind=behind, constants=axis)
    return Foreign(proto, model, normalised, NORMALISED)


def mean_of_two() -> Foreign:
    """The mean of two softmaxes, the second of twice the logits: nothing that can be taken off."""
    model = network(14)
    behind = [
        helper.make_node("Softmax", ["scores"], ["first"], axis=1),
        helper.make_node("Mul", ["scores", "two"], ["sharp"]),
        helper.make_node("Softmax", ["sharp"], ["second"], axis=1),
        helper.make_node("Mean", ["first", "second"], ["shares"]),
    ]
    proto = with_nodes(model, [], "x", "x", "shares", behind=behind, constants={"two": np.float32(2)})

    def mixed(logits: Tensor) -> Tensor:
        return ((logits.softmax(1) + (2 * logits).softmax(1)) / 2).log()

    return Foreign(proto, model, normalised, NORMALISED, behind=mixed, exact_map=False)


def dictionary() -> Foreign:
    """The name of the class, and a dictionary of scores by name, as Custom Vision exports; blue first."""
    model = network(16)
    model.body[0].weight.div_(128)
    behind = [
        helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
        helper.make_node("ArgMax", ["shares"], ["best"], axis=1, keepdims=1),
        helper.make_node("ArrayFeatureExtractor", ["labels", "best"], ["classLabel"], domain="ai.onnx.ml"),
        helper.make_node("ZipMap", ["shares"], ["loss"], domain="ai.onnx.ml", classlabels_strings=CLASSES),
    ]
    proto = with_nodes(model, [], "data", "data", "loss", behind=behind)
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    proto.graph.initializer.append(helper.make_tensor("labels", TensorProto.STRING, [1, 5], CLASSES))
    scores = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    del proto.graph.output[:]
    proto.graph.output.extend(
        [
            helper.make_tensor_value_info("classLabel", TensorProto.STRING, None),
            helper.make_value_info("loss", helper.make_sequence_type_proto(scores)),
        ]
    )
    options = ("--channel-order", "bgr", "--mean", "0", "--std", "0.00392156863")
    return Foreign(proto, model, lambda pixels: (pixels * 255).flip(1), options)


def two_layers() -> Foreign:
    """A hidden layer between the mean and the last one: no exact map."""
    model = network(13, hidden=9)
    return Foreign(as_nodes(model), model, normalised, NORMALISED, exact_map=False)


_MADE = (
    torchvision, ultralytics, timm, keras, of_bytes, tflite, half, eight_bits, old, bgr, grey, binary,
    clipped_sigmoid, sigmoid_written_out, sigmoid_of_lines, one_logit, labels, written_out, mean_of_two,
    dictionary, two_layers,
)  # fmt: skip
OF_ONE_NUMBER = ("binary", "clipped_sigmoid", "sigmoid_written_out", "sigmoid_of_lines", "one_logit")
WITH_NAMES = ("ultralytics", "dictionary")
"""They carry the names of their classes."""
LAYOUTS: dict[str, Callable[[], Foreign]] = {made.__name__: made for made in _MADE}


def write(foreign: Foreign, folder: Path) -> tuple[Path, Path]:
    """Writes the graph, and the names of its classes."""
    folder.mkdir(parents=True, exist_ok=True)
    model, names = folder / "foreign.onnx", folder / "labels.txt"
    onnx.save(foreign.proto, model)
    names.write_text("\n".join(foreign.class_names) + "\n")
    return model, names
