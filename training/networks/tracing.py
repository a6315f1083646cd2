"""A classifier as a graph: followed through its code, or called as a whole; and parts of graphs.

What works for networks of any origin: the tracer follows the image through the modules as deep as their code can be
followed, and calls those as a whole whose code decides by values. First nothing is known of the image, so that the
graph takes others, too; where the code decides by sizes, they are those of this image, but for the number of images. A
network whose own code cannot be followed, or does something else when it is, is cut in one place alone: before its last
layer.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
import operator
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from cnn_perception.errors import ConfigError, one_line
from training.networks.fitting import classifier_name

__all__ = [
    "BELOW", "ancestors", "classifier_name", "cut", "grid_of", "is_global_pooling", "leads_on", "module_of", "trace",
]  # fmt: skip

BELOW = "below"
"""What a network that is called as a whole is named in its graph: all of it below its last layer."""
_POOLINGS = (functional.adaptive_avg_pool2d, torch.mean, "mean")
_UNFOLLOWED = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RuntimeError, TypeError,
               ValueError)  # fmt: skip
"""What code raises that is given a stand-in for a tensor where it needs a number; fx.TraceError is a ValueError."""
_SAME = 1e-4
"""Largest difference between a followed network and itself, as a share of its largest logit."""


class _Tracer(fx.Tracer):
    """Follows a stand-in of the image through a network; a module that cannot be followed is called as a whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Returns whether a module is one step: one of torch's own, or a layer with weights derived from those."""
        return isinstance(m, nn.Linear | nn.Conv2d) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:  # noqa: ANN401 - as fx
        """Returns what a module gives; where its code cannot be followed, the module becomes one step."""
        before, stack = len(self.graph.nodes), dict(self.module_stack)
        try:
            return super().call_module(m, forward, args, kwargs)
        except _UNFOLLOWED:
            for node in reversed(list(self.graph.nodes)[before:]):
                self.graph.erase_node(node)
            self.module_stack.clear()
            self.module_stack.update(stack)
        return self.create_proxy("call_module", self.path_of_module(m), args, kwargs)


class _SizedProxy(fx.Proxy):
    """A stand-in for a tensor whose sizes are known, but for the first one, which is that of the batch."""

    @property
    def shape(self) -> tuple[Any, ...]:
        """The sizes, numbers but for the first."""
        tracer = cast("_SizedTracer", self.tracer)
        known = tuple(tracer.example_of(self.node).shape)
        return (tracer.create_proxy("call_method", "size", (self, 0), {}), *known[1:]) if known else ()

    def size(self, dim: int | None = None) -> Any:  # noqa: ANN401 - as torch
        """Returns one size, or all."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """Returns the number of axes."""
        return len(self.shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)


class _SizedTracer(_Tracer):
    """The same with stand-ins that know their sizes: all is computed beside, for an example of two images."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self._image = torch.cat([image, image])
        self._examples: dict[fx.Node, Any] = {}
        self._is_computing = False

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:  # noqa: ANN401
        """Returns what a module gives, noted as a step unless that is for the example alone."""
        return forward(*args, **kwargs) if self._is_computing else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:  # noqa: ANN401
        """Returns an attribute of a module: a stand-in for a parameter, itself for the example."""
        return attr_val if self._is_computing else super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Returns the stand-in for what a node gives."""
        return _SizedProxy(node, self)

    def create_proxy(self, *args: Any, **options: Any) -> fx.Proxy:  # noqa: ANN401 - as fx
        """Notes a step, and computes it for the example."""
        made = super().create_proxy(*args, **options)
        self.example_of(made.node)
        return made

    def example_of(self, node: fx.Node) -> Any:  # noqa: ANN401
        """Returns what a node gives for the example."""
        if node not in self._examples:  # parameters and constants become nodes without a stand-in
            before = self._is_computing
            self._is_computing = True  # torch's tracer sees every call of a module while it works
            try:
                self._examples[node] = self._computed(node)
            finally:
                self._is_computing = before
        return self._examples[node]

    def _computed(self, node: fx.Node) -> Any:  # noqa: ANN401
        if node.op == "placeholder":
            return node.args[0] if node.args else self._image
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.root)
        args, options = fx.map_arg((node.args, dict(node.kwargs)), self.example_of)
        if node.op == "call_module":
            return self.root.get_submodule(str(node.target))(*args, **options)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **options)
        return cast("Callable[..., Any]", node.target)(*args, **options)


class _Shapes(fx.Interpreter):
    def run_node(self, node: fx.Node) -> Any:  # noqa: ANN401 - a graph passes sizes and tuples around, too
        result = super().run_node(node)
        node.meta["shape"] = tuple(result.shape) if isinstance(result, Tensor) else ()
        return result


def trace(model: nn.Module, height: int, width: int) -> tuple[fx.GraphModule, fx.Node, fx.Node, fx.Node]:
    """Traces a classifier.

    Args:
        model: What `backbones.build` returned; it is set to evaluation mode.
        height: Rows of the input image, pixels.
        width: Columns of the input image, pixels.

    Returns:
        The traced model, whose nodes know their shapes for one image (`meta["shape"]`), and in it the features, the
        embedding and the logits. Features of a network that pools cells are (N, C, h, w), however it orders them; of
        others they are the embedding.

    Raises:
        ConfigError: If the network does not take images of that size, or its logits are not those of its last layer.
    """
    traced, last = _followed(model.eval(), height, width)
    logits = next(iter(reversed(traced.graph.nodes))).all_input_nodes[0]
    features = embedding = last.all_input_nodes[0]
    if isinstance(module_of(last, traced), nn.Conv2d):  # pools after the classifier
        while isinstance(module_of(features, traced), nn.Dropout):
            features = features.all_input_nodes[0]
        with traced.graph.inserting_after(features):
            embedding = traced.graph.call_function(torch.mean, (features, (2, 3)))
    else:
        features = _pooled_features(traced, last) or features
        embedding = last.all_input_nodes[0]
    return traced, features, embedding, logits


def _followed(model: nn.Module, height: int, width: int) -> tuple[fx.GraphModule, fx.Node]:
    """Returns the graph of a network, and in it the call of its last layer.

    Raises:
        ConfigError: As `trace`.
    """
    name = classifier_name(model)
    parameter = next(model.parameters())
    image = torch.zeros(1, 3, height, width)
    if not parameter.is_meta:
        image = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    image = image.to(parameter.device, parameter.dtype)
    with torch.no_grad():
        try:
            expected = model(image)
        except (RuntimeError, AssertionError, ValueError, IndexError, TypeError) as error:
            reason = one_line(error, 120)
            raise ConfigError(
                f"{type(model).__name__} takes no images of {height}x{width} pixels ({reason}); change the input size"
            ) from None
        for make in (_Tracer, functools.partial(_SizedTracer, image), None):
            traced = _as_a_whole(model, name) if make is None else _symbolic(model, make())
            if traced is not None and (last := _last_call(traced, name, image, expected)) is not None:
                return traced, last
    raise ConfigError(
        f"{type(model).__name__}: its outputs are not those of one last layer, linear or a 1x1 convolution, of which "
        f"{name} is the last; take another network"
    )


def _symbolic(model: nn.Module, tracer: fx.Tracer) -> fx.GraphModule | None:
    """Returns the graph of a network's code; None where a tracer cannot follow it."""
    others = list(inspect.signature(model.forward).parameters.values())[1:]
    defaults = {one.name: one.default for one in others if one.default is not inspect.Parameter.empty}
    try:
        graph = tracer.trace(model, concrete_args=defaults or None)
        return fx.GraphModule(tracer.root, graph)
    except _UNFOLLOWED:
        return None


def _as_a_whole(model: nn.Module, name: str) -> fx.GraphModule:
    """Returns a network as two steps: all below its last layer, and that."""
    graph = fx.Graph()
    below = graph.call_module(BELOW, (graph.placeholder("image"),))
    graph.output(graph.call_module(name, (below,)))
    return fx.GraphModule({BELOW: _without(model, name), name: model.get_submodule(name)}, graph)


def _without(module: nn.Module, name: str) -> nn.Module:
    """Returns a network that gives what its last layer reads; it shares modules and parameters with the model."""
    first, _, rest = name.partition(".")
    below = copy.copy(module)
    child = module.get_submodule(first)
    below._modules = {**module._modules, first: _without(child, rest) if rest else nn.Identity()}
    return below


def _last_call(traced: fx.GraphModule, name: str, image: Tensor, expected: Tensor) -> fx.Node | None:
    """Notes the shapes in a graph and removes from it what the logits do not need.

    Returns:
        The call of the last layer; None where the graph does not compute what the network does, or what follows the
        last layer changes its outputs.
    """
    try:
        found = _Shapes(traced).run(image)
    except _UNFOLLOWED:
        return None
    output = next(iter(reversed(traced.graph.nodes)))
    if not isinstance(found, Tensor) or not isinstance(expected, Tensor) or len(output.all_input_nodes) != 1:
        return None
    needed = ancestors(output, traced.graph)
    for node in reversed(list(traced.graph.nodes)[1:]):
        if node not in needed:
            traced.graph.erase_node(node)
    traced.recompile()
    calls = [node for node in needed if node.op == "call_module" and node.target == name]
    if len(calls) != 1 or not leads_on(calls[0], output, traced):
        return None
    if expected.is_meta:
        return calls[0]
    scale = float(torch.nan_to_num(expected).abs().max())
    near = torch.allclose(traced(image), expected, rtol=_SAME, atol=_SAME * scale, equal_nan=True)
    return calls[0] if near and _is_unchanged(calls[0], output.all_input_nodes[0], traced) else None


def leads_on(node: fx.Node, end: fx.Node, traced: fx.GraphModule) -> bool:
    """Returns whether everything of the image that reaches `end` passes through a node."""
    return not any(one.op == "placeholder" for one in ancestors(end, traced.graph, node))


def _is_unchanged(last: fx.Node, logits: fx.Node, traced: fx.GraphModule) -> bool:
    """Returns whether the logits are what a linear last layer gives; a convolution's are pooled."""
    if isinstance(module_of(last, traced), nn.Conv2d):
        return True
    classifier = traced.get_submodule(str(last.target))
    some = torch.randn(last.meta["shape"], generator=torch.Generator().manual_seed(0))
    some = some.to(next(classifier.parameters()).device)
    after: Tensor = cut(traced, last, logits)(some)
    return after.shape == some.shape and torch.equal(after, some)


def _pooled_features(traced: fx.GraphModule, last: fx.Node) -> fx.Node | None:
    """Returns the features (N, C, h, w) that are pooled to one cell, or to a fixed grid, for the last layer.

    Where a network has its channels last, or lists its cells, its pooling is replaced by one of rows and columns.
    """
    below = ancestors(last, traced.graph)
    for node in reversed(below):
        if is_global_pooling(node, traced) and leads_on(node.all_input_nodes[0], last, traced):
            return node.all_input_nodes[0]
        if (cells := _cells_of_mean(node, below)) and leads_on(node.all_input_nodes[0], last, traced):
            return _channels_first(node, cells, traced)
    return None


def _cells_of_mean(node: fx.Node, below: list[fx.Node]) -> tuple[int, int] | None:
    """Returns rows and columns of what a node averages to (N, C), where its channels are the last axis."""
    if node.target not in (torch.mean, "mean") or not node.all_input_nodes:
        return None
    before, after = node.all_input_nodes[0].meta["shape"], node.meta["shape"]
    if after != (*before[:1], *before[-1:]):
        return None
    return (before[1], before[2]) if len(before) == 4 else grid_of(before[1], below) if len(before) == 3 else None


def _channels_first(pool: fx.Node, cells: tuple[int, int], traced: fx.GraphModule) -> fx.Node:
    source, graph, shape = pool.all_input_nodes[0], traced.graph, pool.meta["shape"]
    with graph.inserting_before(pool):
        listed = source
        if len(source.meta["shape"]) == 4:
            listed = graph.call_method("flatten", (source, 1, 2))
            listed.meta["shape"] = (shape[0], math.prod(cells), shape[1])
        moved = graph.call_method("transpose", (listed, 1, 2))
        moved.meta["shape"] = (shape[0], shape[1], math.prod(cells))
        features = graph.call_method("unflatten", (moved, 2, cells))
        features.meta["shape"] = (*shape, *cells)
        mean = graph.call_function(torch.mean, (features, (2, 3)))
        mean.meta["shape"] = shape
    pool.replace_all_uses_with(mean)
    graph.erase_node(pool)
    traced.recompile()
    return features


def grid_of(count: int, nodes: list[fx.Node]) -> tuple[int, int] | None:
    """Returns rows and columns of a list of cells: those of the first map that has as many, such as of patches."""
    shapes = [node.meta.get("shape", ()) for node in nodes]
    grids = (shape[2:] for shape in shapes if len(shape) == 4 and math.prod(shape[2:]) == count)
    return next(((rows, columns) for rows, columns in grids), None)


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
