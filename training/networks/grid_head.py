"""A head that keeps where things are: features of any layer, averaged in a grid of cells, and one linear layer on all.

The usual head averages its features over the whole image, which is right for what is seen and wrong for where.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import fx, nn

from cnn_perception.errors import ConfigError
from training.networks import backbones


def with_grid_head(
    model: nn.Module,
    outputs: int,
    *,
    layer: str | None,
    cells: tuple[int, int],
    size: tuple[int, int],
    dropout: float | None = None,
) -> nn.Module:
    """Cuts a classifier behind a layer and gives it a new head; the parameters below are the model's own.

    Args:
        model: What `backbones.build` returned; it is used up.
        outputs: Width of the new last layer.
        layer: Name of a submodule such as `layer3` of a ResNet; None for the last spatial features.
        cells: Rows and columns of the grid in which the features are averaged; (1, 1) is the whole image.
        size: Rows and columns of the input image, pixels.
        dropout: Probability in [0, 1) before the last layer; None is 0.

    Returns:
        A network that `backbones.split` and `backbones.stages` understand. What it keeps of the model has the names it
        had there, its last layer is `head.fc`.

    Raises:
        ConfigError: If there is no such layer, or its features are not spatial.
    """
    body = backbones.split(model, *size).body
    image = next(iter(body.graph.nodes))
    end = _output(body, layer, model)
    channels = _channels(end, layer, size)
    graph = fx.Graph()
    last = graph.graph_copy(backbones.cut(body, image, end).graph, {})
    assert isinstance(last, fx.Node)
    _keep_only(model, {str(node.target) for node in graph.nodes if node.op in ("call_module", "get_attr")})
    head = _head(channels, outputs, cells, dropout)
    model.head = head
    for name, _ in head.named_children():
        last = graph.call_module(f"head.{name}", (last,))
    graph.output(last)
    return _module(model, graph)


def _channels(end: fx.Node, layer: str | None, size: tuple[int, int]) -> int:
    """Returns how many channels the features of a layer have.

    Raises:
        ConfigError: If the features are not spatial.
    """
    shape: tuple[int, ...] = end.meta["shape"]
    # rows and columns shrink alike; the channels of a network that has them last, such as Swin, do not
    if len(shape) != 4 or not 0.5 < size[0] / shape[2] / (size[1] / shape[3]) < 2:
        where = layer or "(the last)"
        raise ConfigError(
            f"--feature-layer {where}: gives {shape[1:]}, not channels, rows, columns; name another layer"
        )
    return shape[1]


def _head(channels: int, outputs: int, cells: tuple[int, int], dropout: float | None) -> nn.Sequential:
    layers = OrderedDict[str, nn.Module](pool=nn.AdaptiveAvgPool2d(cells), flatten=nn.Flatten())
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    layers["fc"] = nn.Linear(channels * cells[0] * cells[1], outputs)
    return nn.Sequential(layers)


def _module(model: nn.Module, graph: fx.Graph) -> nn.Module:
    """Returns the network that a graph of a model's layers describes."""
    network = fx.GraphModule(model, graph)
    # A graph module rebuilds what holds its layers; the blocks themselves say what may be frozen together.
    for name, child in model.named_children():
        setattr(network, name, child)
    return network


def _output(body: fx.GraphModule, layer: str | None, model: nn.Module) -> fx.Node:
    """The node that computes what a submodule returns; of the whole body without a name."""
    (output,) = body.graph.find_nodes(op="output")
    if layer is None:
        whole: fx.Node = output.all_input_nodes[0]
        return whole
    inside: list[fx.Node] = [
        node for node in body.graph.nodes if layer in node.meta.get("nn_module_stack", ()) or node.target == layer
    ]
    if not inside:
        names = ", ".join(name for name, _ in model.named_children())
        raise ConfigError(
            f"--feature-layer {layer}: there is no such layer before the head; name one of {names} or below"
        )
    return inside[-1]


def _keep_only(module: nn.Module, used: set[str], path: str = "") -> None:
    """Removes the submodules of which nothing is used, so that they are neither trained nor saved."""
    for name, child in list(module.named_children()):
        here = path + name
        if here in used:
            continue
        if any(target.startswith(here + ".") for target in used):
            _keep_only(child, used, here + ".")
        else:
            delattr(module, name)
