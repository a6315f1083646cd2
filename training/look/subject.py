"""What is looked at: a network cut open at its stages, the images it was trained on, and those to be shown."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, fx, nn

from cnn_perception.errors import DataError, FrameError
from cnn_perception.image.messages import RgbImage, read_image
from cnn_perception.masks.folder import Masks
from cnn_perception.pipeline.preprocess import preprocess
from training.checkpoint import Checkpoint
from training.data.records import Sample
from training.graphs import trace
from training.graphs.receptive_field import Geometry, geometry
from training.look.section import CannotLookError
from training.look.survey import Survey, survey
from training.networks import backbones
from training.networks.build import restore

_NON_LINEAR = {"relu", "relu_", "relu6", "gelu", "silu", "hardswish", "leaky_relu", "sigmoid", "tanh"}
"""Functions that stand for modules of the same names."""
_PICTURES = 4
"""Validation images that are shown where none are asked for."""
_BATCH = 16
_BATCH_PIXELS = _BATCH * 224 * 224
"""Pixels of the images that are computed at a time, at most, which bounds memory."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A place in the network that is looked at: the end of a stage, which is where the next one halves the resolution.

    Attributes:
        name: The module's, such as `layer3` or `features.9`.
        node: Where it is in the traced network; its output is the map, after the non-linearity where there is one.
        shape: (C, h, w) of its map for an image of the network's input size.
        geometry: Where its cells lie in the network's input, and what they see of it.
    """

    name: str
    node: fx.Node
    shape: tuple[int, int, int]
    geometry: Geometry

    @property
    def stem(self) -> str:
        """Its name in those of files."""
        return stem_of(self.name)


def stem_of(name: str) -> str:
    """Returns the name of a layer as it stands in those of files."""
    return re.sub(r"[^A-Za-z0-9-]", "_", name)


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture that sections show.

    Attributes:
        path: Its file.
        image: (3, height, width) float32 as the network gets it, on its device.
    """

    path: Path
    image: Tensor


@dataclass(frozen=True, eq=False)
class Options:
    """What the user chose.

    Attributes:
        images: Pictures to be shown; empty takes some of the validation images.
        masks: Masks of concepts; None where there are none.
        units: Units of each layer that are shown.
        visualised_units: Units that are visualised by optimisation, over all layers.
        most_images: Images over which units are measured, at most.
        seed: Decides on everything that is drawn.
    """

    images: tuple[Path, ...] = ()
    masks: Masks | None = None
    units: int = 6
    visualised_units: int = 8
    most_images: int = 400
    seed: int = 0


class Subject:
    """A network in evaluation mode, opened; nothing of it is changed by looking.

    Attributes:
        checkpoint: What training left.
        model: The network, all its in-place operations made ordinary ones: they would overwrite maps that are kept.
        traced: The same as a graph, whose nodes know their shapes (`node.meta["shape"]`) for one image.
        image: The graph's input; what to `cut` from.
        features: The node of the last spatial features; without spatial ones, of the embedding.
        logits: The node of the logits.
        layers: The first layer and the end of each stage, from the image to the answer; empty without spatial maps.
        samples: Labelled images, of the parts train and val.
        options: What the user chose.
        device: Where the network is.
        shown: The pictures that sections show: those asked for, else four validation images, of classes in turn.
        patch_sides: Pixels of the patches of each layer, as far as they were measured, see `units.patch_side`.
    """

    def __init__(
        self, checkpoint: Checkpoint, samples: Sequence[Sample], options: Options, device: torch.device
    ) -> None:
        """Opens a network.

        Raises:
            DataError: If its weights are no finite numbers.
            FrameError: If a picture that was asked for cannot be read.
        """
        self.checkpoint = checkpoint
        self.samples = tuple(samples)
        self.options = options
        self.device = device
        self.patch_sides: dict[str, int] = {}
        self.shown = self._shown()
        self.model = _without_overwriting(restore(checkpoint)).to(device).eval()
        _require_finite(self.model)
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        size = checkpoint.input
        self.traced, self.features, self.embedding, self.logits = backbones.trace(self.model, size.height, size.width)
        for node in self.traced.graph.nodes:
            if node.kwargs.get("inplace"):
                node.update_kwarg("inplace", False)
        self.traced.recompile()
        self.image = next(iter(self.traced.graph.nodes))
        self.layers = self._layers()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K outputs."""
        return self.checkpoint.class_names

    def require_maps(self) -> None:
        """Checks that there are layers to look at.

        Raises:
            CannotLookError: If not.
        """
        if not self.layers:
            raise CannotLookError(f"{self.checkpoint.backbone} has no maps: its units have no place in the image")

    def layer(self, name: str) -> Layer:
        """Returns a layer by its name."""
        return next(layer for layer in self.layers if layer.name == name)

    @cached_property
    def opened(self) -> nn.Module:
        """Images (N, 3, H, W) -> (map (N, C, h, w) of each layer..., features, embedding (N, D), logits (N, K))."""
        ends = (*(layer.node for layer in self.layers), self.features, self.embedding, self.logits)
        return self.cut(ends)

    def cut(self, ends: fx.Node | tuple[fx.Node, ...], start: fx.Node | None = None) -> fx.GraphModule:
        """Returns the part of the network from the image, or from `start`, to some nodes; parameters are shared."""
        return backbones.cut(self.traced, self.image if start is None else start, ends).eval()

    def split(self) -> backbones.Split:
        """Returns the network in body, neck and head."""
        size = self.checkpoint.input
        return backbones.split(self.model, size.height, size.width)

    def tensor(self, picture: RgbImage) -> Tensor:
        """Returns a picture (H, W, 3) uint8 as the network gets it, (3, height, width) float32 on the device."""
        return torch.from_numpy(np.array(preprocess(picture, self.checkpoint.input))).to(self.device)

    def as_picture(self, tensor: Tensor) -> RgbImage:
        """Returns what the network got, (3, height, width), as a picture: the normalisation undone."""
        size = self.checkpoint.input
        mean, std = (torch.tensor(values, dtype=torch.float32).reshape(3, 1, 1) for values in (size.mean, size.std))
        pixels = (tensor.detach().float().cpu() * std + mean).clamp(0, 1) * 255
        return RgbImage(np.ascontiguousarray(pixels.round().permute(1, 2, 0).numpy(), np.uint8))

    def readable(self, paths: Iterable[Path]) -> Iterator[Shown]:
        """Yields those pictures of the data that can be read; what cannot has been left out by training, too."""
        for path in paths:
            try:
                yield Shown(path, self.tensor(read_image(path)))
            except FrameError:
                continue

    @property
    def batch(self) -> int:
        """Images that are computed at a time."""
        size = self.checkpoint.input
        return min(max(_BATCH_PIXELS // (size.height * size.width), 1), _BATCH)

    def require_images(self) -> None:
        """Checks that there are labelled images.

        Raises:
            CannotLookError: If not.
        """
        if not self.samples:
            raise CannotLookError("there are no labelled images; give --data")

    @cached_property
    def survey(self) -> Survey:
        """What every unit does over the images: one pass, made when the first section asks for it.

        Raises:
            CannotLookError: If there are no images.
            DataError: If none of them can be read, or the network's answers are no finite numbers.
        """
        self.require_images()
        names = [layer.name for layer in self.layers]
        return survey(self.opened, names, self.surveyed, self.checkpoint.input, self.batch, self.device)

    @cached_property
    def surveyed(self) -> tuple[Sample, ...]:
        """The images that the survey covers: all, or as many as `most_images`, drawn by the seed."""
        if len(self.samples) <= self.options.most_images:
            return self.samples
        rng = np.random.default_rng(self.options.seed)
        rows = np.sort(rng.choice(len(self.samples), self.options.most_images, replace=False))
        return tuple(self.samples[row] for row in rows)

    def _shown(self) -> tuple[Shown, ...]:
        if self.options.images:
            return tuple(Shown(path, self.tensor(read_image(path))) for path in self.options.images)
        return tuple(itertools.islice(self.readable(_in_turn(self.samples)), _PICTURES))

    def _layers(self) -> tuple[Layer, ...]:
        nodes = _stage_ends(self.traced, self.image, self.features)
        if not nodes:
            return ()
        outputs = [f"map_{index}" for index in range(len(nodes))]
        proto = trace.to_onnx(_Tuple(self.cut(tuple(nodes))).cpu(), self.checkpoint.input, outputs)
        self.traced.to(self.device)
        names = _names(nodes, self.traced)
        return tuple(
            Layer(name, node, node.meta["shape"][1:], geometry(proto, output))
            for name, node, output in zip(names, nodes, outputs, strict=True)
        )


def _in_turn(samples: Sequence[Sample]) -> list[Path]:
    """Returns the validation images, of the classes in turn; of a run without, the training images."""
    chosen = [sample for sample in samples if sample.part == "val"] or list(samples)
    by_class: dict[int, list[Path]] = {}
    for sample in chosen:
        by_class.setdefault(sample.label, []).append(sample.path)
    rounds = itertools.zip_longest(*(by_class[label] for label in sorted(by_class)))
    return [path for paths in rounds for path in paths if path is not None]


def _require_finite(model: nn.Module) -> None:
    for name, weights in model.state_dict().items():
        if not torch.isfinite(weights).all():
            raise DataError(
                f"{name} of the checkpoint holds what is no finite number: the training failed; train again"
            )


class _Tuple(nn.Module):
    """Returns the outputs of a cut network as a tuple of new tensors, which an exporter needs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network(image))


def _without_overwriting(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return model


def _stage_ends(traced: fx.GraphModule, image: fx.Node, features: fx.Node) -> list[fx.Node]:
    """Returns where the network can be cut in two, the last such node of each resolution, without the image's own.

    In front stands what the first layer gives, since its filters are the only ones that can be looked at as pictures.
    """
    maps = [node for node in _bottlenecks(traced, image, features) if len(node.meta["shape"]) == 4]
    maps = [node for node in maps if _is_channels_first(node) and node.meta["shape"][1] > 3 and min(_size(node)) > 1]
    if not maps:
        return []
    ends = [node for node, after in itertools.pairwise(maps) if _size(after) != _size(node)]
    first = next((node for node in maps if _is_non_linear(node, traced)), maps[0])
    return sorted({first, *ends, maps[-1]}, key=maps.index)


def _size(node: fx.Node) -> tuple[int, int]:
    _, _, rows, columns = node.meta["shape"]
    return rows, columns


def _is_non_linear(node: fx.Node, traced: fx.GraphModule) -> bool:
    if (module := backbones.module_of(node, traced)) is not None:
        return type(module).__module__ == "torch.nn.modules.activation"
    return getattr(node.target, "__name__", str(node.target)) in _NON_LINEAR


def _names(ends: Sequence[fx.Node], traced: fx.GraphModule) -> list[str]:
    """Returns the largest module that ends at each node and that no other node ends in; `conv1` for the first layer."""
    nodes = list(traced.graph.nodes)
    modules = [_modules(node) for node in nodes]
    last = {module: nodes[place] for place, found in enumerate(modules) for module in found}
    names = []
    for end in ends:
        others = {module for other in ends if other is not end for module in _modules(other)}
        whole = [module for module in _modules(end) if last[module] is end and module not in others]
        names.append(whole[0] if whole else _modules(end)[-1] if _modules(end) else end.name)
    first = next(node for node in nodes if isinstance(backbones.module_of(node, traced), nn.Conv2d))
    if _size(first) == _size(ends[0]) and str(first.target) not in names:
        names[0] = str(first.target)
    return [name if names.count(name) == 1 else end.name for name, end in zip(names, ends, strict=True)]


def _modules(node: fx.Node) -> list[str]:
    """Returns the names of the modules that a node stands in, the outermost first."""
    return [str(name) for name, _ in node.meta.get("nn_module_stack", {}).values()]


def _bottlenecks(traced: fx.GraphModule, image: fx.Node, features: fx.Node) -> list[fx.Node]:
    """Returns the nodes that every path from the image to the features leads through, in order."""
    of_image = {image}
    for node in traced.graph.nodes:
        if of_image.intersection(node.all_input_nodes):
            of_image.add(node)
    needed = set(backbones.ancestors(features, traced.graph, image))
    path = [image, *(node for node in traced.graph.nodes if node in needed and node in of_image)]
    last_use = {node: max((path.index(user) for user in node.users if user in needed), default=0) for node in path}
    reached = 0
    found = []
    for place, node in enumerate(path):
        if reached <= place:  # nothing before it is used behind it
            found.append(node)
        reached = max(reached, last_use[node])
    return found


def _is_channels_first(node: fx.Node) -> bool:
    """Whether a map is (N, C, h, w): not so behind a permutation to channels last, until the one that undoes it."""
    while True:
        words = (*node.args[1:], *node.kwargs.values())
        flat = [word for value in words for word in (value if isinstance(value, list | tuple) else [value])]
        if flat == [0, 2, 3, 1]:
            return False
        if flat == [0, 3, 1, 2] or not node.all_input_nodes:
            return True
        node = node.all_input_nodes[0]
