"""Every torchvision classifier and the classics by name: built, given weights, cut at their last spatial features.

The cut is found in the traced graph, not in a table of architectures: whatever torchvision adds is understood as
long as it pools its features and ends in one linear layer.
"""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torchvision import models  # type: ignore[import-untyped]

from cnn_perception.errors import ConfigError
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from training.networks import classic, layer_text
from training.networks.weights import classifier_name, load_weights

__all__ = [
    "Split", "Stages", "ancestors", "build", "check_name", "classifier_name", "cut", "is_global_pooling",
    "load_weights", "module_of", "require_normalisation", "split", "stages", "trace",
]  # fmt: skip

_OWN_INPUT_SCALING = ("googlenet", "inception_v3")
"""Networks whose published weights expect pixels scaled to [-1, 1]: they undo the ImageNet normalisation themselves.
Source: torchvision.models.googlenet and inception_v3, argument `transform_input`."""
AUXILIARY = ("googlenet_v1", "googlenet")
"""Networks that may learn with auxiliary classifiers, whose parameters begin with `aux`."""
_HEAD_NAMES = ("classifier", "dropout", "fc", "head", "heads")
_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_POOLINGS = (functional.adaptive_avg_pool2d, torch.mean, "mean")


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
    """

    body: fx.GraphModule
    neck: fx.GraphModule
    head: fx.GraphModule
    classifier: nn.Linear | nn.Conv2d
    classifier_name: str
    feature_shape: tuple[int, ...]
    spatial: bool


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
    """Checks that torchvision or `classic` has an image classifier of that name, or that it tells its own layers.

    Raises:
        ConfigError: If not; it names similar ones.
    """
    if name.startswith(layer_text.PREFIX):
        return
    known = [*models.list_models(module=models), *classic.NAMES]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "take a torchvision classifier such as resnet18"
        raise ConfigError(
            f"backbone {name!r} is no image classifier of torchvision or training.networks.classic; {hint}"
        )


def require_normalisation(name: str, size: InputSpec) -> None:
    """Checks that a network gets the normalisation of colours that it expects.

    Raises:
        ConfigError: If it undoes ImageNet's by itself, and would get another.
    """
    if name in _OWN_INPUT_SCALING and (size.mean, size.std) != (IMAGENET_MEAN, IMAGENET_STD):
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
    """Builds a torchvision classifier or a classic network with random weights.

    Args:
        name: Its torchvision name, such as `resnet18` or `vgg16_bn`, one of `classic.NAMES`, or `layers:` and the
            layers as text, see `layer_text`.
        class_count: Width of the last layer, at least 2.
        dropout: Probability in [0, 1) for every dropout of the head; a head without one drops its pooled features.
            None leaves the architecture's own.
        size: Rows and columns of the image, pixels, for the few that depend on it; as published by default.
        auxiliary: Whether a GoogLeNet has its auxiliary classifiers: in training mode it then gives a tuple, its own
            logits first. All others have none.

    Raises:
        ConfigError: If the name is no image classifier, or the head has no place for a dropout.
    """
    check_name(name)
    options: dict[str, bool] = {}
    if name in _OWN_INPUT_SCALING:
        options = {"transform_input": True, "aux_logits": auxiliary and name in AUXILIARY, "init_weights": True}
    if name.startswith(layer_text.PREFIX):
        text = name.removeprefix(layer_text.PREFIX)
        model: nn.Module = layer_text.network(text, class_count, size or classic.published_size(name))
    elif name in classic.NAMES:
        model = classic.build(name, class_count, size, auxiliary=auxiliary)
    else:
        model = models.get_model(name, weights=None, num_classes=class_count, **options)
    if isinstance(model, models.MNASNet):
        # Its own loader refuses every state dict that is a plain dict, and only serves files of before 2019.
        model._load_from_state_dict = functools.partial(nn.Module._load_from_state_dict, model)
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
    )


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
    lowest = min(resolution for _, resolution in owners)
    start = next(index for index, (_, resolution) in enumerate(owners) if resolution == lowest)
    if len(features.meta["shape"]) != 4:  # a transformer of one resolution: its last quarter stands for a stage
        start = len(owners) * 3 // 4
    first = str(owners[start][0].target)
    below = [name for node, _ in owners[:start] for name in _owned(node, traced)]
    block = _straddling_block(first, below, model)
    below = [name for name in below if block is None or not name.startswith(block + ".")]
    in_body = {name for node, _ in owners for name in _owned(node, traced)}
    names = [name for name, _ in model.named_parameters()]
    return Stages(
        head=tuple(name for name in names if name not in in_body),
        last=tuple(name for name in names if name in in_body and name not in below),
        below=tuple(name for name in names if name in below),
    )


def cut(traced: fx.GraphModule, start: fx.Node, ends: fx.Node | tuple[fx.Node, ...]) -> fx.GraphModule:
    """Copies the part of a traced graph that computes `ends` from `start`, sharing modules and parameters.

    Raises:
        ConfigError: If `ends` depend on the input of the graph in another way than through `start`.
    """
    graph = fx.Graph()
    copies = {start: graph.placeholder(start.name)}
    copies[start].meta = dict(start.meta)
    for node in ancestors(ends, traced.graph, start):
        if node.op == "placeholder":
            raise ConfigError(
                f"this backbone cannot be cut at {start.name}: its head uses the image again; take another one"
            )
        copies[node] = graph.node_copy(node, lambda old: copies[old])
    graph.output(fx.map_arg(ends, lambda old: copies[old]))
    return fx.GraphModule(traced, graph)


class _Shapes(fx.Interpreter):
    def run_node(self, node: fx.Node) -> Any:  # noqa: ANN401 - a graph passes sizes and tuples around, too
        result = super().run_node(node)
        node.meta["shape"] = tuple(result.shape) if isinstance(result, Tensor) else ()
        return result


def trace(model: nn.Module, height: int, width: int) -> tuple[fx.GraphModule, fx.Node, fx.Node, fx.Node]:
    """Traces a classifier.

    Args:
        model: As for `split`.
        height: As for `split`.
        width: As for `split`.

    Returns:
        The traced model, whose nodes know their shapes for one image (`meta["shape"]`), and in it the features, the
        embedding and the logits.

    Raises:
        ConfigError: If the network does not take images of that size.
    """
    traced = fx.symbolic_trace(model.eval())
    blank = torch.zeros(1, 3, height, width, device=next(model.parameters()).device)
    try:
        with torch.no_grad():
            _Shapes(traced).run(blank)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"{type(model).__name__} takes no images of {height}x{width} pixels ({reason[:120]}); change the input size"
        ) from None
    nodes = list(traced.graph.nodes)
    name = classifier_name(model)
    last = next(node for node in nodes if node.op == "call_module" and node.target == name)
    pools = [node for node in nodes if is_global_pooling(node, traced)]
    features = embedding = last.all_input_nodes[0]
    if isinstance(traced.get_submodule(name), nn.Conv2d):  # pools after the classifier
        while isinstance(module_of(features, traced), nn.Dropout):
            features = features.all_input_nodes[0]
        with traced.graph.inserting_after(features):
            embedding = traced.graph.call_function(torch.mean, (features, (2, 3)))
    elif pools:
        features = pools[-1].all_input_nodes[0]
    return traced, features, embedding, nodes[-1].all_input_nodes[0]


def module_of(node: fx.Node, traced: fx.GraphModule) -> nn.Module | None:
    """Returns the module that a node calls; None of what is no module."""
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def is_global_pooling(node: fx.Node, traced: fx.GraphModule) -> bool:
    """Returns whether a node pools all cells of its input to one, or to a fixed grid; its shapes must be known."""
    if isinstance(module_of(node, traced), nn.AdaptiveAvgPool2d):
        return True
    if node.target not in _POOLINGS:
        return False
    before, after = node.all_input_nodes[0].meta["shape"], node.meta["shape"]
    return len(before) == 4 and before[1] == after[1]  # a mean of the colours pools nothing


def ancestors(ends: fx.Node | tuple[fx.Node, ...], graph: fx.Graph, start: fx.Node | None = None) -> list[fx.Node]:
    """Returns what `ends` are computed from, themselves included, without `start` and what precedes it, in order."""
    pending = [ends] if isinstance(ends, fx.Node) else list(ends)
    found: set[fx.Node] = set()
    while pending:
        node = pending.pop()
        if node is not start and node not in found:
            found.add(node)
            pending.extend(node.all_input_nodes)
    return [node for node in graph.nodes if node in found]


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
