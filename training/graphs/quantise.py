"""Smaller and faster graphs: 8-bit integers for CPUs, half precision for GPUs; and what either costs in accuracy.

int8 is static QDQ: every weight and every activation of the body gets its scale beforehand, an activation's from the
range it takes on training images. The head and its activation map, a few operations on the last features, stay in
float32. fp16 halves the file and is fast on GPUs; a CPU computes it in float32 all the same, no faster.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import ConfigError, DataError, ModelError
from cnn_perception.model.spec import InputSpec, Precision, PrecisionRecord
from training.checkpoint import Checkpoint
from training.graphs.parity import evenly, prepared_image, runner
from training.scoring.scores import ScoredLogits
from training.tasks.by_name import METRIC_TITLES, task_of
from training.tasks.scaling import standardised

CALIBRATION_IMAGES = 128
MAX_ACCURACY_LOSS = 0.005
_BATCH = 8
_FEATURES = re.compile(r"(map_)?features(_\d+)?")
"""What the last features are called in a graph, of several networks with their number."""

_Batch = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Reduction:
    """What a smaller graph is to be.

    Attributes:
        precision: `int8` or `fp16`.
        calibration_images: How many training images `int8` is calibrated with at most, at least 1.
        max_loss: How much of the metric may be lost, in [0, 1]; of top-1 accuracy a single image always may.
    """

    precision: Precision
    calibration_images: int = CALIBRATION_IMAGES
    max_loss: float = MAX_ACCURACY_LOSS

    def __post_init__(self) -> None:
        if self.calibration_images < 1:
            raise ConfigError(f"--calibration-images {self.calibration_images}: at least 1 is needed")
        if not 0 <= self.max_loss <= 1:
            raise ConfigError(f"--max-accuracy-loss {self.max_loss:g}: must be in 0 to 1; 0.005 is half a point")


class AccuracyError(ModelError):
    """A smaller graph answers worse than is allowed."""


def reduce(proto: ModelProto, checkpoint: Checkpoint, wanted: Reduction) -> tuple[ModelProto, PrecisionRecord]:
    """Returns a smaller graph with the same inputs and outputs, and what it costs.

    Args:
        proto: The float32 graph of `export`; it stays as it is.
        checkpoint: Names the training images to calibrate with and the validation images to compare on.
        wanted: What the graph is to be.

    Raises:
        AccuracyError: If more accuracy is lost than is allowed.
        DataError: If no such image is on this machine, or one cannot be read any more.
    """
    images: list[Path] = []
    if wanted.precision == "int8":
        images = _chosen(checkpoint.train_images, wanted.calibration_images)
        smaller = to_int8(proto, _tensors(images, checkpoint.input))
    else:
        smaller = to_fp16(proto)
    shown, before, after = _compare(proto, smaller, checkpoint)
    metric = task_of(checkpoint.task).metric
    called = f"agreement_{metric}" if checkpoint.labelled_by else metric
    record = PrecisionRecord(wanted.precision, len(images), shown, called, before, after)
    _check(record, wanted.max_loss)
    return smaller, record


def to_int8(proto: ModelProto, images: Iterator[_Batch]) -> ModelProto:
    """Returns the graph with the body in 8-bit integers (static QDQ: weights per channel, activations unsigned).

    Weights use 7 of their 8 bits (`reduce_range`): x86 CPUs without VNNI add two products in 16 bits, which 8-bit
    weights overflow without a word. ARM and VNNI lose next to nothing by it.
    Source: ONNX Runtime, "Quantize ONNX models", section on U8S8 and saturation.

    Args:
        proto: The graph; it stays as it is.
        images: (3, H, W) float32 each; the range of every activation is the one it takes on them.
    """
    named = ModelProto()
    named.CopyFrom(proto)
    for index, node in enumerate(named.graph.node):
        node.name = f"{index}_{node.op_type}"
    log = logging.getLogger()
    level = log.level
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        log.setLevel(logging.ERROR)  # it recommends a preparation that the exporter has done already
        try:
            quantize_static(
                onnx.shape_inference.infer_shapes(named),
                path,
                _Reader(images),
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=[*_head(named), *_endless(named)],
            )
        finally:
            log.setLevel(level)
        result: ModelProto = onnx.load(path)
    return result


def to_fp16(proto: ModelProto) -> ModelProto:
    """Returns the graph in half precision between its float32 input and outputs."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    half: ModelProto = convert_float_to_float16(copy, keep_io_types=True)
    OnnxModel(half).topological_sort()  # the conversion appends the casts of the input at the end
    return half


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """The images one by one, as the calibration asks for them."""

    def __init__(self, images: Iterator[_Batch]) -> None:
        self._images = images

    def get_next(self) -> dict[str, _Batch] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image[None]}


def _head(proto: ModelProto) -> list[str]:
    """Returns the nodes behind the last features, and behind the embedding, where the answer is not made of those."""
    made = {name for node in proto.graph.node for name in node.output}
    reached = {name for name in made if _FEATURES.fullmatch(name)} | (made & {"embedding"})
    names = []
    for node in proto.graph.node:  # in the order of computation
        if reached & set(node.input):
            reached |= set(node.output)
            names.append(node.name)
    return names


def _endless(proto: ModelProto) -> list[str]:
    """Returns the nodes that pad with minus infinity, and those that take the maximum of that: 8 bits have no such."""
    scalars = [one for one in proto.graph.initializer if np.prod(one.dims) == 1]
    fills = {one.name for one in scalars if (numpy_helper.to_array(one) == -np.inf).all()}
    padded = {node.output[0] for node in proto.graph.node if node.op_type == "Pad" and fills & set(node.input)}
    return [node.name for node in proto.graph.node if padded & {*node.input, *node.output}]


def _chosen(paths: Sequence[str], count: int) -> list[Path]:
    """Returns images on this machine, evenly from a list that is sorted by class."""
    rows = [Path(path) for path in paths if Path(path).is_file()]
    if not rows:
        raise DataError(
            "--int8: no training image of the checkpoint is where it was, and it is calibrated with them; say with "
            "--data where they are now"
        )
    return [rows[index] for index in evenly(len(rows), count)]


def _tensors(paths: Sequence[Path], size: InputSpec) -> Iterator[_Batch]:
    for path in ProgressBar(paths, "calibrating", unit="img", leave=False):
        yield prepared_image(path, size, "training")


def _compare(before: ModelProto, after: ModelProto, checkpoint: Checkpoint) -> tuple[int, float, float]:
    """Lets both graphs answer the labelled validation images; returns their number and the metric of each graph."""
    shown = _labelled(checkpoint)
    truth = np.array([target for _, target in shown], np.float32)
    run_before = runner(before, ["logits"])
    run_after = runner(after, ["logits"])
    of_before: list[_Batch] = []
    of_after: list[_Batch] = []
    for start in ProgressBar(range(0, len(shown), _BATCH), "comparing", unit="batch", leave=False):
        paths = [path for path, _ in shown[start : start + _BATCH]]
        batch = np.stack([prepared_image(path, checkpoint.input, "validation") for path in paths])
        of_before += run_before(batch)
        of_after += run_after(batch)
    return len(shown), _metric(of_before, truth, checkpoint), _metric(of_after, truth, checkpoint)


def _labelled(checkpoint: Checkpoint) -> list[tuple[Path, tuple[float, ...]]]:
    """Returns the validation images that are on this machine, each with what it shows."""
    labelled = zip(checkpoint.val_images, checkpoint.val_targets, strict=False)  # no targets where there are no labels
    shown = [(Path(path), target) for path, target in labelled if Path(path).is_file()]
    if not shown:
        raise DataError(
            "--int8 and --fp16 measure what they cost, and no labelled validation image of the checkpoint is where it "
            "was; say with --data where they are now"
        )
    return shown


def _metric(batches: Sequence[_Batch], targets: _Batch, checkpoint: Checkpoint) -> float:
    """Returns the metric of logits; the graph gives numbers in units, `ScoredLogits` compares standardised ones."""
    truth = task_of(checkpoint.task).stored_targets(targets)
    return ScoredLogits(standardised(np.concatenate(batches), checkpoint.scaling), truth, checkpoint).metric


def _check(record: PrecisionRecord, max_loss: float) -> None:
    allowed = max(max_loss, 1 / record.images) if record.metric.endswith("top1") else max_loss
    if not record.before - record.after <= allowed + 1e-9:  # catches NaN, too
        title = METRIC_TITLES.get(record.metric, "agreement with the teacher")
        raise AccuracyError(
            f"{title} is {record.before:.4f} in fp32 but {record.after:.4f} in "
            f"{record.precision}, on {record.images} validation images; {allowed:.2g} may be lost; nothing is written; "
            "see --max-accuracy-loss"
        )
