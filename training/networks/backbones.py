"""Networks by name: built, given weights, cut at their last spatial features.

The cut is found in the traced graph, not in a table of architectures: whatever the libraries add is understood as long
as it ends in one linear layer, and pools its features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx, nn

from cnn_perception.errors import ConfigError
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from training.networks.libraries.by_name import library_of
from training.networks.libraries.library import Order
from training.networks.libraries.torchvision_models import AUXILIARY, OWN_INPUT_SCALING
from training.networks.tracing import (
    BELOW,
    ancestors,
    classifier_name,
    cut,
    grid_of,
    is_global_pooling,
    leads_on,
    module_of,
    trace,
)
from training.networks.weights import load_weights

__all__ = [
    "AUXILIARY", "Split", "Stages", "Tokens", "ancestors", "build", "check_name", "classifier_name", "cut",
    "file_name", "is_global_pooling", "load_weights", "module_of", "public_name", "require_normalisation", "split",
    "stages", "trace",
]  # fmt: skip

_HEAD_NAMES = ("classifier", "dropout", "fc", "head", "heads")
_MOST_PREFIX_TOKENS = 16
"""Tokens of no place: the class, distillation, and registers."""
_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Tokens:
    """Where a transformer's answer can be traced back to places, if not at the features: at the tokens of its cells.

    Attributes:
        body: Image (N, 3, H, W) -> tokens (N, T, C): some of no place, such as the class token, then the cells'.
        head: Tokens -> (logits (N, K), embedding (N, D)).
        prefix: How many tokens of no place there are.
        cells: Rows and columns of the others.
        channels: C.
    """

    body: fx.GraphModule
    head: fx.GraphModule
    prefix: int
    cells: tuple[int, int]
    channels: int


@dataclass(frozen=True)
class Split:
    """A classifier in evaluation mode, cut at its last spatial features; the parameters are the model's own.

    Attributes:
        body: Image (N, 3, H, W) -> features (N, C, h, w); the embedding where the network has no spatial features.
        neck: Features -> embedding (N, D), the input of the classifier.
        head: Features -> (logits (N, K), embedding (N, D)).
        classifier: The last layer; a 1x1 convolution for SqueezeNet, whose embedding is its globally pooled input.
        classifier_name: Its name in the model.
        feature_shape: (C, h, w) of the features; (D,) where there are no spatial ones.
        spatial: Whether there are spatial features.
        tokens: Where places are found instead; None where there are spatial features, or no places.
    """

    body: fx.GraphModule
    neck: fx.GraphModule
    head: fx.GraphModule
    classifier: nn.Linear | nn.Conv2d
    classifier_name: str
    feature_shape: tuple[int, ...]
    spatial: bool
    tokens: Tokens | None = None


@dataclass(frozen=True)
class Stages:
    """Names of all parameters, in the groups that fine-tuning unfreezes one after the other.

    Attributes:
        head: Everything after the features.
        last: The last stage of the body: what works at the lowest resolution that has parameters.
        below: The rest.
    """

    head: tuple[str, ...]
    last: tuple[str, ...]
    below: tuple[str, ...]


def check_name(name: str) -> None:
    """Checks that there is a network of that name.

    Raises:
        ConfigError: If not; it names similar ones.
    """
    library_of(name).check(name)


def public_name(name: str) -> str:
    """Returns a network's name without folders of this machine."""
    return library_of(name).title(name)


def file_name(name: str) -> str:
    """Returns a network's name as part of a file's."""
    return library_of(name).file_name(name)


def require_normalisation(name: str, size: InputSpec) -> None:
    """Checks that a network gets the normalisation of colours that it expects.

    Raises:
        ConfigError: If it undoes ImageNet's by itself, and would get another.
    """
    if name in OWN_INPUT_SCALING and (size.mean, size.std) != (IMAGENET_MEAN, IMAGENET_STD):
        raise ConfigError(
            f"{name} takes ImageNet's --mean and --std and scales its input to [-1, 1] by itself; leave them out"
        )


def build(
    name: str,
    class_count: int,
    *,
    dropout: float | None = None,
    size: tuple[int, int] | None = None,
    auxiliary: bool = False,
) -> nn.Module:
    """Builds a network with random weights.

    Args:
        name: Its torchvision name, such as `resnet18` or `vgg16_bn`, one of `classic.NAMES`, `timm:` and its name
            there, `FILE.py:FUNCTION`, see `libraries.own_module`, or `layers:` and the layers as text, see
            `layer_text`.
        class_count: Width of the last layer, at least 2.
        dropout: Probability in [0, 1) for every dropout of the head; a head without one drops its pooled features.
            None leaves the architecture's own.
        size: Rows and columns of the image, pixels, for the few that depend on it; as published by default.
        auxiliary: Whether a GoogLeNet has its auxiliary classifiers: in training mode it then gives a tuple, its own
            logits first. All others have none.

    Raises:
        ConfigError: If the name is no image classifier, or the head has no place for a dropout.
    """
    library = library_of(name)
    library.check(name)
    model = library.build(Order(name, class_count, size, auxiliary))
    if dropout is not None:
        _set_dropout(model, name, dropout)
    return model


def _set_dropout(model: nn.Module, name: str, probability: float) -> None:
    children = dict(model.named_children())
    is_stack = isinstance(model, nn.Sequential)
    heads = nn.ModuleList(child for key, child in children.items() if is_stack or key in _HEAD_NAMES)
    dropouts = [module for module in heads.modules() if isinstance(module, nn.Dropout)]
    for module in dropouts:
        module.p = probability
    if not dropouts:
        pool = children.get("avgpool")
        if pool is None:
            raise ConfigError(f"the head of {name} has no place for a dropout; leave the dropout unset")
        # Neither of the two has parameters, so every name in the state dict stays torchvision's.
        model.avgpool = nn.Sequential(pool, nn.Dropout(probability))


def split(model: nn.Module, height: int, width: int) -> Split:
    """Cuts a classifier at its last spatial features: the input of its final global pooling.

    Args:
        model: What `build` returned; it is set to evaluation mode, which the parts assume.
        height: Rows of the input image, pixels.
        width: Columns of the input image, pixels.

    Raises:
        ConfigError: If the network does not take images of that size, or cannot be cut.
    """
    traced, features, embedding, logits = trace(model, height, width)
    image = next(iter(traced.graph.nodes))
    shape = features.meta["shape"]
    name = classifier_name(model)
    classifier = model.get_submodule(name)
    assert isinstance(classifier, nn.Linear | nn.Conv2d)
    return Split(
        body=cut(traced, image, features),
        neck=cut(traced, features, embedding),
        head=cut(traced, features, (logits, embedding)),
        classifier=classifier,
        classifier_name=name,
        feature_shape=shape[1:],
        spatial=len(shape) == 4,
        tokens=None if len(shape) == 4 else _tokens(traced, embedding, logits),
    )


def _tokens(traced: fx.GraphModule, embedding: fx.Node, logits: fx.Node) -> Tokens | None:
    """Finds the last tokens of cells on which the logits depend: before the last block, if a class token answers."""
    image = next(iter(traced.graph.nodes))
    below = ancestors(embedding, traced.graph)
    for node in reversed(below):
        shape = node.meta.get("shape", ())
        if len(shape) != 3 or not (found := _cells_of(shape[1], below)) or not leads_on(node, embedding, traced):
            continue
        head = cut(traced, node, (logits, embedding))
        prefix, cells = found
        if _reads_cells(head, shape, prefix, next(traced.parameters())):
            return Tokens(cut(traced, image, node), head, prefix, cells, shape[2])
    return None


def _cells_of(count: int, nodes: list[fx.Node]) -> tuple[int, tuple[int, int]] | None:
    """Returns how many of so many tokens have no place, and rows and columns of the others."""
    found = ((prefix, grid_of(count - prefix, nodes)) for prefix in range(min(count, _MOST_PREFIX_TOKENS)))
    return next(((prefix, cells) for prefix, cells in found if cells is not None and cells != (1, 1)), None)


@torch.no_grad()
def _reads_cells(head: fx.GraphModule, shape: tuple[int, ...], prefix: int, like: torch.Tensor) -> bool:
    """Returns whether the logits change with the tokens of the cells."""
    if like.is_meta:
        return False
    random = torch.Generator().manual_seed(0)
    one, other = (torch.randn(shape, generator=random).to(like.device, like.dtype) for _ in range(2))
    other[:, :prefix] = one[:, :prefix]
    return not torch.equal(head(one)[0], head(other)[0])


def stages(model: nn.Module, height: int, width: int) -> Stages:
    """Groups the parameters of a classifier by how far from its output they work.

    Args:
        model: As for `split`.
        height: As for `split`.
        width: As for `split`.

    Raises:
        ConfigError: As for `split`.
    """
    traced, features, _, _ = trace(model, height, width)
    if features.target == BELOW:
        return _stages_in_order(model)
    body = ancestors(features, traced.graph)
    # Squeeze-and-excitation works on one pixel in the midst of a stage: the resolution of a node is the highest that
    # still follows it.
    resolutions: list[int] = []
    of_image = {body[0]}
    for node in body:
        of_image.update([node] if of_image.intersection(node.all_input_nodes) else [])
        known = _resolution(node, traced) if node in of_image else None
        resolutions.append(known or (resolutions[-1] if resolutions else height * width))
    resolutions = [max(resolutions[index:]) for index in range(len(resolutions))]
    owners = [(node, resolution) for node, resolution in zip(body, resolutions, strict=True) if _owned(node, traced)]
    names = [name for name, _ in model.named_parameters()]
    if not owners:  # such as a linear layer on the pixels
        return Stages(head=tuple(names), last=(), below=())
    lowest = min(resolution for _, resolution in owners)
    start = next(index for index, (_, resolution) in enumerate(owners) if resolution == lowest)
    if len(features.meta["shape"]) != 4:  # a transformer of one resolution: its last quarter stands for a stage
        start = len(owners) * 3 // 4
    first = str(owners[start][0].target)
    below = [name for node, _ in owners[:start] for name in _owned(node, traced)]
    block = _straddling_block(first, below, model)
    below = [name for name in below if block is None or not name.startswith(block + ".")]
    in_body = {name for node, _ in owners for name in _owned(node, traced)}
    return Stages(
        head=tuple(name for name in names if name not in in_body),
        last=tuple(name for name in names if name in in_body and name not in below),
        below=tuple(name for name in names if name in below),
    )


def _stages_in_order(model: nn.Module) -> Stages:
    """Groups the parameters of a network whose code cannot be followed, by the order in which it registers them."""
    last_layer = classifier_name(model) + "."
    names = [name for name, _ in model.named_parameters()]
    body = [name for name in names if not name.startswith(last_layer)]
    start = len(body) * 3 // 4
    block = _straddling_block(body[start].rpartition(".")[0], body[:start], model) if body else None
    below = [name for name in body[:start] if block is None or not name.startswith(block + ".")]
    return Stages(
        head=tuple(name for name in names if name.startswith(last_layer)),
        last=tuple(name for name in body if name not in below),
        below=tuple(below),
    )


def _resolution(node: fx.Node, traced: fx.GraphModule) -> int | None:
    """Returns the pixels of a node's output where its module tells which axes are the spatial ones."""
    module = module_of(node, traced)
    shape = node.meta.get("shape", ())
    if isinstance(module, nn.Conv2d):
        return int(shape[2] * shape[3])
    if isinstance(module, nn.Linear | nn.LayerNorm) and len(shape) == 4:  # channels last
        return int(shape[1] * shape[2])
    return None


def _owned(node: fx.Node, traced: fx.GraphModule) -> list[str]:
    """Returns the names of the parameters a node uses."""
    if node.op == "call_module":
        return [f"{node.target}.{name}" for name, _ in traced.get_submodule(str(node.target)).named_parameters()]
    if node.op == "get_attr" and node.target in dict(traced.named_parameters()):
        return [str(node.target)]
    return []


def _straddling_block(first: str, below: list[str], model: nn.Module) -> str | None:
    """Returns the block, such as a residual one, in whose midst a stage begins: blocks are not torn apart."""
    path = first.split(".")
    for depth in range(len(path) - 1, 0, -1):
        prefix = ".".join(path[:depth])
        parent = model.get_submodule(".".join(path[: depth - 1]))
        listed = depth == 1 or isinstance(parent, _LISTS)
        if listed and not isinstance(model.get_submodule(prefix), _LISTS):
            return prefix if any(name.startswith(prefix + ".") for name in below) else None
    return None
