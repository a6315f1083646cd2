"""A classifier with its activation map: image -> logits, activation of the top class, embedding, in one graph.

Both maps weigh the features A by one number per channel and add them up: activation = sum_k alpha_k A_k.

- Where the head is pooling and a linear layer, alpha is the class's row of its weights: the exact class activation map
  (Zhou et al. 2016), whose mean plus the bias is the logit.
- Otherwise alpha is the mean over the cells of d logit / d A_k (Grad-CAM, Selvaraju et al. 2017). Cells that speak
  against the class are negative; whoever shows the map may clip it, as the original does.
- A transformer that answers from a class token has no features behind which nothing but places is left. A are then the
  tokens of its cells in front of its last block, the last ones on which the answer depends, and alpha is as above.

The map is that of the class with the highest logit; of a network that gives numbers, whose units do not compare, that
of the first.

The gradient is taken of the head alone, and is itself part of the graph. A change of a whole channel by the same value
passes unchanged through average pooling, so the mean gradient of a channel needs no gradient of the pooling, nor
that of every input of a first linear layer, whose weights are summed over the cells beforehand. That spares VGG-16 four
fifths of the backward pass of its head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch._decomp import core_aten_decompositions
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from cnn_perception.model.spec import ActivationMethod, Task
from training.networks.backbones import Split, Tokens, cut
from training.tasks.by_name import task_of


class ActivatedClassifier(nn.Module):
    """Image (N, 3, H, W) -> logits (N, K), embedding (N, D), and activation (N, h, w), features (N, C, h, w) if any.

    Attributes:
        method: How the activation is made; None where the network keeps no places.
        cells: Rows and columns of the activation; (0, 0) without one.
    """

    def __init__(self, split: Split, task: Task) -> None:
        super().__init__()
        self.body = split.body
        self.method: ActivationMethod | None = None
        self.cells: tuple[int, int] = (0, 0)
        self.head: nn.Module = split.head
        self.prefix = 0
        if split.spatial:
            self.method = "cam" if is_exact_cam(split) else "grad-cam"
            self.cells = (split.feature_shape[1], split.feature_shape[2])
            self.head = _CamHead(split, task) if self.method == "cam" else _GradCamHead(split, task)
        elif split.tokens is not None:
            self.method = "grad-cam"
            self.body = split.tokens.body
            self.cells = split.tokens.cells
            self.prefix = split.tokens.prefix
            self.head = _TokenHead(split.tokens, task)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Returns logits and embedding, or logits, embedding, activation and features."""
        features = self.body(image)
        if self.method is None:
            return cast("tuple[Tensor, ...]", self.head(features))
        logits, embedding, alpha = self.head(features)
        if features.ndim == 3:  # tokens
            features = features[:, self.prefix :].transpose(1, 2).unflatten(2, self.cells)
        count, channels, rows, columns = features.shape
        activation = alpha.reshape(count, 1, channels) @ features.reshape(count, channels, rows * columns)
        return logits, embedding, activation.reshape(count, rows, columns), features


class ClassWeights(nn.Module):
    """Features (N, C, h, w) and a class of each image (N,) -> the mean of d logit / d features over the cells, (N, C).

    What a map that is chosen from outside weighs the channels by, as in a file of several networks.
    """

    def __init__(self, split: Split) -> None:
        super().__init__()
        head = _with_constant_pooling(split.head)
        features = next(iter(head.graph.nodes))
        logits = next(iter(reversed(head.graph.nodes))).args[0][0]
        entry, channel_weights = _entry(head, logits)
        self.cells = split.feature_shape[1] * split.feature_shape[2]
        self.to_entry = cut(head, features, entry)
        self.register_buffer("channel_weights", channel_weights, persistent=False)
        self.gradient = _gradient_of(cut(head, entry, logits), entry.meta["shape"])

    def forward(self, features: Tensor, classes: Tensor) -> Tensor:
        """Returns the weights of the channels, (N, C)."""
        gradient = self.gradient(self.to_entry(features), classes)
        alpha = gradient.flatten(2).sum(2) if gradient.ndim > 2 else gradient
        if self.channel_weights is not None:
            alpha = alpha @ self.channel_weights
        return cast("Tensor", alpha / self.cells)


def is_exact_cam(split: Split) -> bool:
    """Returns whether the head is pooling and a linear layer: tried out on random features."""
    channels = split.feature_shape[0]
    if not isinstance(split.classifier, nn.Linear) or split.classifier.in_features != channels:
        return False
    features = torch.randn(2, *split.feature_shape, generator=torch.Generator().manual_seed(0))
    features = features.to(split.classifier.weight.device)
    with torch.no_grad():
        logits, _ = split.head(features)
        linear = split.classifier(features.mean((2, 3)))
        size = functional.linear(features.mean((2, 3)), split.classifier.weight).abs().max()
    return bool((logits - linear).abs().max() <= 1e-4 * size)


def shown_logit(logits: Tensor, task: Task) -> Tensor:
    """Returns which logit (N,) of each row (N, K) the activation map explains."""
    return logits.argmax(1) * task_of(task).has_probabilities


class _CamHead(nn.Module):
    def __init__(self, split: Split, task: Task) -> None:
        super().__init__()
        self.head = split.head
        self.classifier = split.classifier
        self.task: Task = task

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, embedding = self.head(features)
        return logits, embedding, self.classifier.weight[shown_logit(logits, self.task)]


class _GradCamHead(nn.Module):
    """The head, entered at a place from which the gradient is cheap (see `_entry`)."""

    def __init__(self, split: Split, task: Task) -> None:
        super().__init__()
        head = _with_constant_pooling(split.head)
        features = next(iter(head.graph.nodes))
        logits, embedding = next(iter(reversed(head.graph.nodes))).args[0]
        entry, channel_weights = _entry(head, logits)
        self.cells = split.feature_shape[1] * split.feature_shape[2]
        self.to_entry = cut(head, features, entry)
        # behind a grid of cells the first layer with weights is the last: the embedding lies before the entry
        apart = isinstance(split.classifier, nn.Conv2d) or not _leads_to(entry, embedding)
        self.neck = cut(head, features, embedding) if apart else None
        self.register_buffer("channel_weights", channel_weights, persistent=False)
        rest = cut(head, entry, logits if self.neck else (logits, embedding))
        self.rest = _with_gradient(rest, entry.meta["shape"], task)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        *outputs, gradient = self.rest(self.to_entry(features))
        alpha = gradient.flatten(2).sum(2) if gradient.ndim > 2 else gradient
        if self.channel_weights is not None:
            alpha = alpha @ self.channel_weights
        embedding = outputs[1] if self.neck is None else self.neck(features)
        return outputs[0], embedding, alpha / self.cells


class _TokenHead(nn.Module):
    """What follows the tokens of a transformer, with the gradient of the logit that is shown."""

    def __init__(self, tokens: Tokens, task: Task) -> None:
        super().__init__()
        count = tokens.prefix + tokens.cells[0] * tokens.cells[1]
        with sdpa_kernel(SDPBackend.MATH):  # of the others no plain operations are known for the way back
            self.head = _with_gradient(tokens.head, (1, count, tokens.channels), task)
        self.prefix = tokens.prefix

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, embedding, gradient = self.head(features)
        return logits, embedding, gradient[:, self.prefix :].mean(1)


def _entry(head: fx.GraphModule, logits: fx.Node) -> tuple[fx.Node, Tensor | None]:
    """Finds the first place behind pooling and flattening where a gradient is small.

    Returns:
        The pooled features, with None; or the output (N, J, ...) of the first layer with weights, with these summed
        over the cells: (J, C), what a change of a whole channel does to each output.
    """
    features = node = next(iter(head.graph.nodes))
    channels = features.meta["shape"][1]
    while node is not logits:
        node = next(user for user in node.users if user.op != "output" and _leads_to(user, logits))
        module = head.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Linear | nn.Conv2d):
            weight = module.weight.detach()
            return node, weight.reshape(len(weight), channels, -1).sum(2)
        if node.meta["shape"][1:] in ((channels,), (channels, 1, 1)):
            return node, None
        linear = isinstance(module, nn.Dropout | nn.Flatten | nn.Identity | _ConstantPooling)
        if not linear and node.target is not torch.flatten:
            break
    return features, None


def _leads_to(node: fx.Node, end: fx.Node) -> bool:
    return node is end or any(_leads_to(user, end) for user in node.users)


def _with_gradient(rest: fx.GraphModule, shape: tuple[int, ...], task: Task) -> fx.GraphModule:
    """Appends to the outputs of `rest` the gradient of the logit that is shown to its input, as plain operations."""

    def run(entry: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            entry = entry.detach().requires_grad_(True)
            outputs = rest(entry.clone())  # heads of torchvision work in place
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            logits = outputs[0]
            # The top class by equality: the derivative of a maximum would be shared out between equal logits.
            top = torch.arange(logits.shape[1], device=logits.device) == shown_logit(logits, task)[:, None]
            (gradient,) = torch.autograd.grad(logits, entry, top.to(logits.dtype))
        return (*outputs, gradient)

    trace = make_fx(run, _operations(), tracing_mode="symbolic", _allow_non_fake_inputs=True)
    graph: fx.GraphModule = trace(torch.zeros(2, *shape[1:]))
    return graph


def _gradient_of(rest: fx.GraphModule, shape: tuple[int, ...]) -> fx.GraphModule:
    """Returns the gradient of the logit of a given class to the input of `rest`, as plain operations."""

    def run(entry: Tensor, classes: Tensor) -> Tensor:
        with torch.enable_grad():
            entry = entry.detach().requires_grad_(True)
            logits = rest(entry.clone())
            chosen = torch.arange(logits.shape[1], device=logits.device) == classes[:, None]
            (gradient,) = torch.autograd.grad(logits, entry, chosen.to(logits.dtype))
        return gradient

    trace = make_fx(run, _operations(), tracing_mode="symbolic", _allow_non_fake_inputs=True)
    graph: fx.GraphModule = trace(torch.zeros(2, *shape[1:]), torch.zeros(2, dtype=torch.int64))
    return graph


def _operations() -> dict[Any, Callable[..., Any]]:
    """Returns how an operation is written by those that ONNX has."""
    found = cast("dict[Any, Callable[..., Any]]", core_aten_decompositions())
    found[torch.ops.aten.convolution_backward.default] = _convolution_backward
    return found


def _convolution_backward(
    gradient: Tensor,
    features: Tensor,
    weight: Tensor,
    _bias: object,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    _output_padding: list[int],
    groups: int,
    _wanted: list[bool],
) -> tuple[Tensor, None, None]:
    """The gradient of a convolution by its input, as the transposed one: ONNX has no operator for the way back."""
    beyond = [0] * len(stride)
    if not transposed:
        sizes = zip(features.shape[2:], gradient.shape[2:], weight.shape[2:], strict=True)
        ends = zip(sizes, stride, padding, dilation, strict=True)
        beyond = [
            size - ((cells - 1) * step - 2 * pad + apart * (kernel - 1) + 1)
            for (size, cells, kernel), step, pad, apart in ends
        ]
    other = not transposed
    data: Tensor = torch.ops.aten.convolution.default(
        gradient, weight, None, stride, padding, dilation, other, beyond, groups
    )
    return data, None, None


class _ConstantPooling(nn.Module):
    """Adaptive average pooling of a known input size, as two matrix products: what ONNX has no operator for."""

    rows: Tensor
    columns: Tensor

    def __init__(self, before: tuple[int, int], after: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("rows", functional.adaptive_avg_pool1d(torch.eye(before[0]), after[0]).T.contiguous())
        self.register_buffer("columns", functional.adaptive_avg_pool1d(torch.eye(before[1]), after[1]))

    def forward(self, features: Tensor) -> Tensor:
        return self.rows @ features @ self.columns


def _with_constant_pooling(head: fx.GraphModule) -> fx.GraphModule:
    nodes = list(head.graph.nodes)
    result = cut(head, nodes[0], tuple(nodes[-1].args[0]))
    for node in result.graph.nodes:
        if node.op == "call_module" and isinstance(result.get_submodule(node.target), nn.AdaptiveAvgPool2d):
            before = node.all_input_nodes[0].meta["shape"][2:]
            after = node.meta["shape"][2:]
            pooling = nn.Identity() if before == after else _ConstantPooling(before, after)
            result.set_submodule(node.target, pooling)
    return result
