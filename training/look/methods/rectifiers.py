"""Where a traced network has its rectifiers, and copies of it that are changed there; parameters stay shared."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from training.networks.backbones import module_of

Rectifier = Callable[[Tensor], Tensor]

_RECTIFIERS: dict[str, Rectifier] = {"relu": functional.relu, "relu6": functional.relu6}
_FLAT_BELOW_ZERO = (*_RECTIFIERS, "hardswish")
"""They hand no gradient back where they are zero."""
_HANDS_ON = (nn.Dropout, nn.Dropout2d, nn.Identity, nn.LocalResponseNorm)
_CONCATENATIONS = (torch.cat, torch.concat, operator.getitem)


def rectifiers(network: fx.GraphModule) -> dict[fx.Node, Rectifier]:
    """Returns the nodes that are a ReLU or a ReLU6, and what each computes."""
    kinds = {node: _kind(node, network) for node in network.graph.nodes}
    return {node: _RECTIFIERS[kind] for node, kind in kinds.items() if kind in _RECTIFIERS}


def before_last_rectifier(network: fx.GraphModule) -> fx.GraphModule:
    """Returns a network without the rectifier that its output comes from, through concatenations too.

    A unit that is off for a picture hands no gradient back through it: nothing could be learned of what turns it on.
    """
    graph = fx.Graph()
    graph.output(graph.graph_copy(network.graph, {}))
    changed = fx.GraphModule(network, graph)
    (end,) = (node for node in graph.nodes if node.op == "output")
    pending = [(end, node) for node in end.all_input_nodes]
    while pending:
        user, node = pending.pop()
        if _kind(node, changed) in _FLAT_BELOW_ZERO:
            user.replace_input_with(node, node.all_input_nodes[0])
        elif isinstance(module_of(node, changed), _HANDS_ON) or node.target in _CONCATENATIONS:
            pending += [(node, before) for before in node.all_input_nodes]
    graph.eliminate_dead_code()
    changed.recompile()
    return changed


def with_rectifiers(network: fx.GraphModule, make: Callable[[Rectifier], Rectifier]) -> fx.GraphModule:
    """Returns a network whose every rectifier is another function, made of what it computes."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.output(graph.graph_copy(network.graph, copies))
    functions = rectifiers(network)
    for node, function in functions.items():
        with graph.inserting_after(copies[node]):
            other = graph.call_function(make(function), (copies[node].all_input_nodes[0],))
        copies[node].replace_all_uses_with(other)
        graph.erase_node(copies[node])
    return fx.GraphModule(network, graph)


def fused(network: fx.GraphModule) -> fx.GraphModule:
    """Returns a network in evaluation mode with its batch normalisations inside the convolutions before them.

    It computes the same, in a half of the time: normalisation only reads and writes memory.
    """
    graph = fx.Graph()
    graph.output(graph.graph_copy(network.graph, {}))
    changed = fx.GraphModule(network, graph).eval()
    called = [node.target for node in graph.nodes]
    for node in list(graph.nodes):
        normalisation = module_of(node, changed)
        if not isinstance(normalisation, nn.BatchNorm2d) or not normalisation.track_running_stats:
            continue
        before = node.all_input_nodes[0]
        convolution = module_of(before, changed)
        if isinstance(convolution, nn.Conv2d) and len(before.users) == 1 and called.count(before.target) == 1:
            changed.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, normalisation))
            node.replace_all_uses_with(before)
            graph.erase_node(node)
    changed.delete_all_unused_submodules()
    changed.recompile()
    return changed


def _kind(node: fx.Node, network: fx.GraphModule) -> str:
    module = module_of(node, network)
    if module is not None:
        return type(module).__name__.lower() if isinstance(module, nn.ReLU | nn.ReLU6 | nn.Hardswish) else ""
    if node.op not in ("call_function", "call_method"):
        return ""
    return getattr(node.target, "__name__", str(node.target)).rstrip("_")
