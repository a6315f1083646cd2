"""The score map of a model file: its graph, freed from the size of its input, answers at every place of an image.

The map exists where the body is convolutional throughout and the head can be turned into convolutions (see `convolve`).
Squeeze-and-excitation and attention look at the whole image at once: with them no cell is the answer to a window.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException
from torch import Tensor, nn

from cnn_perception.errors import one_line
from cnn_perception.model.spec import InputSpec, ScoreMapSpec
from cnn_perception.model.subgraph import subgraph
from training.checkpoint import Checkpoint
from training.graphs.convolve import NotConvolutionalError, convolutional_head
from training.graphs.dilation import Dense, window_of, windows_of
from training.graphs.parity import prepared_image
from training.graphs.receptive_field import Geometry, Shape, shapes_of
from training.networks.backbones import Split

MAP_TOLERANCE = 1e-3
"""Largest difference of a cell from torch's answer, as a share of the largest logit."""
REDUCED_TOLERANCE = 1e-2
"""The same for a smaller graph, whose map and logits come from the same features; half precision has 11 bits."""
_LOG = logging.getLogger(__name__)
_EXTRA_CELLS = (3, 2)  # of the image that the map is tried on, (vertical, horizontal): the axes must not be mistaken


class WithScoreMap(nn.Module):
    """A network with one more output: the head as convolutions, applied to the features, its last output."""

    def __init__(self, network: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.head = head

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Returns the outputs of the network and the map (N, K, rows, columns)."""
        outputs = self.network(image)
        return (*outputs, self.head(outputs[-1]))


class WithDenseMap(nn.Module):
    """A network with two more outputs: the features of a dilated body, and the head as convolutions, applied to them.

    What both bodies have in common is computed once by the graph, and its weights are there once: the exporter sees to
    that. Who runs the graph for the map alone, or for all else, runs one of them (see `subgraph`).
    """

    def __init__(self, network: nn.Module, dense: Dense, head: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.body = dense.split.body
        self.head = head
        self.rows, self.columns = (slice(None, -extra if extra else None) for extra in dense.excess)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Returns the outputs of the network, the dense features and the map (N, K, rows, columns)."""
        features = self.body(image)
        return (*self.network(image), features, self.head(features)[:, :, self.rows, self.columns])


def map_head(dense: Dense) -> nn.Module | None:
    """Returns what makes the map of the features; None where there can be none, which is said in the log."""
    try:
        head = convolutional_head(dense.split, dense.apart)
        _try_out(head, dense)
    except NotConvolutionalError as error:
        _warn_of_none(error)
        return None
    return head


def _try_out(head: nn.Module, dense: Dense) -> None:
    """Checks that a head of convolutions gives one cell for one window: what it is made of may be of any library."""
    weight = dense.split.classifier.weight
    window = torch.zeros(1, dense.split.feature_shape[0], *window_of(dense), device=weight.device)
    try:
        with torch.no_grad():
            found = head(window)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise NotConvolutionalError(f"its head works on no cells ({one_line(error, 120)})") from None
    if found.shape != (1, len(weight), 1, 1):
        raise NotConvolutionalError(f"its head gives {tuple(found.shape[1:])} for a window, not one cell")


def open_map(proto: ModelProto, split: Split, dense: Dense, place: Geometry, size: InputSpec) -> ScoreMapSpec | None:
    """Frees the graph of its size and checks its map against torch; where that fails, takes it out and says why.

    Args:
        proto: The graph, made at the model's input size with the output `score_map`; it is changed.
        split: The network in torch.
        dense: The same, dilated for the map.
        place: The geometry of the features of the undilated network in the graph.
        size: The model's input.

    Returns:
        Where the cells lie; None where the graph has no map now.
    """
    try:
        result = map_of(place, size, dense.apart)
        free_size(proto)
        check_map(proto, split, dense, result)
        check_single_cell(proto, size)
    except NotConvolutionalError as error:
        _warn_of_none(error)
        remove_map(proto, size)
        return None
    return result


def keep_map(
    proto: ModelProto, place: ScoreMapSpec | None, dense: Dense, checkpoint: Checkpoint, tolerance: float
) -> ScoreMapSpec | None:
    """Checks that a smaller graph still has the map of the one it was made from; otherwise takes it out and says why.

    Args:
        proto: The graph in 8-bit integers or half precision; it is changed.
        place: Where the cells lie; None where there was no map.
        dense: The network in torch, dilated for the map.
        checkpoint: Its input, and the images to try the map on.
        tolerance: Largest difference from torch's map, as the certificate measures it.

    Returns:
        Where the cells lie; None where the graph has no map now.
    """
    if place is None:
        return None
    try:
        # A dilated map has features of its own, which are rounded by themselves.
        check_single_cell(proto, checkpoint.input, REDUCED_TOLERANCE if dense.apart == (1, 1) else tolerance)
        image = larger_image(checkpoint, place)
        (found,) = _run(proto, image, "score_map")
        _compare_all(found[0], map_of_torch(dense, torch.from_numpy(image)), tolerance)
    except NotConvolutionalError as error:
        _warn_of_none(error)
        remove_map(proto, checkpoint.input)
        return None
    return place


def _warn_of_none(reason: NotConvolutionalError) -> None:
    _LOG.warning("no score map: %s", reason)


def map_of(place: Geometry, size: InputSpec, apart: tuple[int, int] = (1, 1)) -> ScoreMapSpec:
    """Returns where the cells of the map lie.

    A cell further is a cell of the features further, and these repeat themselves every stride: cell (r, c) is the
    classifier put `stride * (r, c)` pixels from the image's upper left corner, however it pads.

    Args:
        place: The geometry of the features.
        size: The model's input.
        apart: How many cells of the map are as far as one of the features, see `dilation`.

    Raises:
        NotConvolutionalError: If the features cannot be followed through the graph, or look at the whole image.
    """
    if 0 in place.receptive_field:
        raise NotConvolutionalError("its features look at the whole image at once")
    return ScoreMapSpec(
        stride=(place.stride[0] / apart[0], place.stride[1] / apart[1]),
        window=(size.height, size.width),
        offset=((size.height - 1) / 2, (size.width - 1) / 2),
    )


def free_size(proto: ModelProto) -> None:
    """Makes height and width of the graph's image free, in place; only its `score_map` can follow them."""
    shapes = shapes_of(proto)
    for node in list(proto.graph.node):
        if node.op_type == "Reshape":
            _follow_size(node, proto.graph, shapes)
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    dims[2].dim_param = "height"
    dims[3].dim_param = "width"
    del proto.graph.value_info[:]  # they are of the size that the graph was made at
    outputs = {output.name for output in proto.graph.output}
    proto.ParseFromString(subgraph(proto.SerializeToString(), outputs))  # without the shapes that were replaced
    for output in proto.graph.output:
        if output.name == "score_map":
            dims = output.type.tensor_type.shape.dim
            dims[2].dim_param = "map_rows"
            dims[3].dim_param = "map_columns"


def _follow_size(node: NodeProto, graph: GraphProto, shapes: dict[str, Shape]) -> None:
    """Lets a Reshape of the channels alone, such as a shuffle, take its rows and columns from its input."""
    before = shapes.get(node.input[0], [])
    after = shapes.get(node.output[0], [])
    target = next((tensor for tensor in graph.initializer if tensor.name == node.input[1]), None)
    if target is None or len(before) < 4 or before[-2:] != after[-2:]:
        return
    name = node.output[0]
    channels = numpy_helper.from_array(numpy_helper.to_array(target)[:-2], f"{name}_channels")
    graph.initializer.append(channels)
    size = helper.make_node("Shape", [node.input[0]], [f"{name}_size"], start=len(before) - 2)
    shape = helper.make_node("Concat", [channels.name, size.output[0]], [f"{name}_shape"], axis=0)
    node.input[1] = shape.output[0]
    place = next(index for index, other in enumerate(graph.node) if other.output[0] == name)
    graph.node.insert(place, shape)
    graph.node.insert(place, size)


def check_map(proto: ModelProto, split: Split, dense: Dense, place: ScoreMapSpec) -> None:
    """Compares the map of a larger image with torch's own head, put at each window of torch's features.

    Of a dilated network the cells that an undilated one has, too, must be just as there.

    Raises:
        NotConvolutionalError: If the graph does not take images of that size, or its map is another one.
    """
    image = torch.randn(1, 3, *_larger(place), generator=torch.Generator().manual_seed(0))
    (found,) = _run(proto, image.numpy(), "score_map")
    _compare(found[0], map_of_torch(dense, image), MAP_TOLERANCE)
    undilated = map_of_torch(Dense(split), image)
    same = found[0][:, :: dense.apart[0], :: dense.apart[1]]
    rows, columns = (min(sizes) for sizes in zip(same.shape[1:], undilated.shape[1:], strict=True))
    _compare(same[:, :rows, :columns], undilated[:, :rows, :columns], MAP_TOLERANCE)


def map_of_torch(dense: Dense, image: Tensor) -> npt.NDArray[np.float32]:
    """Returns torch's own head, put at each window of torch's features of an image (1, 3, H, W): (K, rows, columns)."""
    split = dense.split
    with torch.no_grad():
        cells = windows_of(dense, split.body(image)[0]).permute(1, 2, 0, 3, 4)
        logits = split.head(cells.flatten(0, 1).contiguous())[0]
    found: npt.NDArray[np.float32] = logits.unflatten(0, cells.shape[:2]).permute(2, 0, 1).numpy()
    return found


def larger_image(checkpoint: Checkpoint, place: ScoreMapSpec) -> npt.NDArray[np.float32]:
    """Returns an image of several cells, (1, 3, H, W): a validation image, or noise where none is on this machine."""
    height, width = _larger(place)
    path = next((Path(name) for name in checkpoint.val_images if Path(name).is_file()), None)
    if path is None:
        return np.random.default_rng(0).standard_normal((1, 3, height, width), np.float32)
    size = dataclasses.replace(checkpoint.input, height=height, width=width)
    return prepared_image(path, size, "validation")[np.newaxis]


def _larger(place: ScoreMapSpec) -> tuple[int, int]:
    """Rows and columns of an image whose map has some cells more than one."""
    down, right = (
        pixels + round(cells * stride)
        for pixels, cells, stride in zip(place.window, _EXTRA_CELLS, place.stride, strict=True)
    )
    return down, right


def check_single_cell(proto: ModelProto, size: InputSpec, tolerance: float = MAP_TOLERANCE) -> None:
    """Compares the map of an image of the model's own size with the logits of the same graph.

    Args:
        proto: The graph.
        size: The model's input.
        tolerance: Largest difference, as a share of the largest logit.

    Raises:
        NotConvolutionalError: If the map is not one cell with these logits.
    """
    image = np.random.default_rng(0).standard_normal((2, 3, size.height, size.width), np.float32)
    found, logits = _run(proto, image, "score_map", "logits")
    _compare(found, logits[:, :, None, None], tolerance)


def _run(proto: ModelProto, image: npt.NDArray[np.float32], *outputs: str) -> list[npt.NDArray[np.float32]]:
    data = subgraph(proto.SerializeToString(), set(outputs))  # of the others, some are bound to the model's own size
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # a failure is said once, by this module
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        values: list[npt.NDArray[np.float32]] = session.run(list(outputs), {"image": image})
    except (Fail, InvalidArgument, RuntimeException) as error:
        reason = one_line(error, 160, keep="end")
        raise NotConvolutionalError(f"its graph takes no larger image ({reason})") from None
    return values


def _compare(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32], tolerance: float) -> None:
    if found.shape != expected.shape:
        raise NotConvolutionalError(f"its map has the shape {found.shape}, not {expected.shape}")
    difference = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-20))
    if not difference <= tolerance:  # catches NaN, too
        raise NotConvolutionalError(f"its map differs by {difference:.3g} of its size, tolerance {tolerance:g}")


def relative(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    """Returns the root of the mean squared difference, as a share of the root mean square of what is expected."""
    exact = expected.astype(np.float64)
    return float(np.linalg.norm(found - exact) / max(float(np.linalg.norm(exact)), 1e-20))


def _compare_all(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32], tolerance: float) -> None:
    difference = relative(found, expected)
    if not difference <= tolerance:  # catches NaN, too
        raise NotConvolutionalError(f"its map differs by {difference:.3g} from torch's, tolerance {tolerance:g}")


def remove_map(proto: ModelProto, size: InputSpec) -> None:
    """Takes the map out of a graph again, and binds it to the model's own input size, in place."""
    others = {output.name for output in proto.graph.output} - {"score_map"}
    proto.ParseFromString(subgraph(proto.SerializeToString(), others))
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    dims[2].dim_value = size.height
    dims[3].dim_value = size.width
