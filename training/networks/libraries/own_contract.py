"""Whether a network of the user's keeps what `own_module` asks of it: each of these is tried on random images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from cnn_perception.errors import ConfigError, one_line
from training.networks.libraries import own_errors
from training.networks.libraries.library import USUAL_SIZE, Order

_SAME = 1e-4
"""Largest difference between two answers to the same image, as a share of the largest logit."""


def check(network: nn.Module, again: Callable[[], nn.Module], order: Order, path: Path) -> str:
    """Checks a network against what `own_module` asks of it.

    Returns:
        The name of its last layer.

    Raises:
        ConfigError: If it does not keep that.
    """
    if next(network.parameters(), None) is None:
        raise ConfigError(f"{path}: the network has no parameters, so nothing can be learned; register its layers")
    if torch.get_default_dtype() != torch.float32:
        torch.set_default_dtype(torch.float32)
        raise ConfigError(f"{path}: sets torch's default dtype, which is that of all here; leave it float32")
    size = order.size or USUAL_SIZE
    images = torch.randn(3, 3, *size)
    was_training = network.training
    if network.eval() is not network:
        raise ConfigError(f"{path}: the network's eval() or train() does not return it; end them with return self")
    odd = [key for key, value in network.state_dict().items() if not isinstance(value, Tensor)]
    if odd:
        raise ConfigError(f"{path}: the network's state_dict holds what is no tensor ({odd[0]!r}); leave it out")
    layers = {layer: key for key, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    called: list[tuple[str, Tensor]] = []
    hooks = [layer.register_forward_hook(lambda one, _, given: called.append((layers[one], given))) for layer in layers]
    logits = _answer(network, images, path)
    for hook in hooks:
        hook.remove()
    _check_outputs(logits, order.classes, path)
    if not called or called[-1][1].shape[1] != order.classes or _ends_otherwise(*called[-1], logits):
        raise ConfigError(
            f"{path}: the network does not end in a linear layer, or a pooled 1x1 convolution, of {order.classes} "
            "outputs; return those of an nn.Linear, without a softmax"
        )
    last = called[-1][0]
    _check_answers(network, again, images, logits, last, path)
    network.train(was_training)
    return last


def _ends_otherwise(name: str, given: Tensor, logits: Tensor) -> bool:
    """Returns whether a linear layer's outputs are not the logits, or what was pooled became scores behind it."""
    if given.ndim == 2:
        return not (given.shape == logits.shape and torch.equal(given, logits))
    is_share = any(bool(((scores.sum(1) - 1).abs() < _SAME).all()) for scores in (logits, logits.exp()))
    cells = given.flatten(2)
    return is_share or any(_is_near(pooled.sigmoid(), logits) for pooled in (cells.mean(2), cells.amax(2)))


def _answer(network: nn.Module, images: Tensor, path: Path) -> Tensor:
    try:
        with torch.no_grad():
            given = network(images)
    except (Exception, SystemExit) as error:  # whatever the code of a user raises
        rows, columns = images.shape[2:]
        raise own_errors.failure(path, f"an image of {rows}x{columns} pixels", error) from None
    if isinstance(given, Tensor):
        return given
    count = f" of {len(given)}" if isinstance(given, tuple | list | dict) else ""
    raise ConfigError(f"{path}: the network gives a {type(given).__name__}{count}, and no tensor; return the logits")


def _check_outputs(logits: Tensor, classes: int, path: Path) -> None:
    if logits.ndim != 2 or len(logits) != 3:
        raise ConfigError(
            f"{path}: the network gives {tuple(logits.shape)} for 3 images, and not (3, {classes}): it must take "
            "batches, and give a row for each image"
        )
    if logits.shape[1] != classes:
        raise ConfigError(
            f"{path}: the network gives {logits.shape[1]} outputs for {classes} classes; use the number that the "
            "function is given"
        )
    if not torch.isfinite(logits).all():
        raise ConfigError(f"{path}: the network gives what is no finite number for random images; mend it")


def _check_answers(
    network: nn.Module, again: Callable[[], nn.Module], images: Tensor, logits: Tensor, last: str, path: Path
) -> None:
    """Checks that answers follow from the image and the state_dict alone, and that they can be learned."""
    if not _is_near(_answer(network, images, path), logits):
        raise ConfigError(
            f"{path}: the network gives other answers to the same images each time; keep chance for training: if "
            "self.training"
        )
    if not _is_near(_answer(network, images[:1], path), logits[:1]):
        raise ConfigError(
            f"{path}: the network's answer to an image depends on the others in its batch; mend what mixes axis 0"
        )
    other = again()
    other.eval()
    try:
        other.load_state_dict(network.state_dict())
    except RuntimeError as error:
        raise ConfigError(
            f"{path}: a second network does not take the first one's state_dict ({one_line(error, 120)})"
        ) from None
    if not _is_near(_answer(other, images, path), logits):
        raise ConfigError(
            f"{path}: the network has learned what is not in its state_dict; keep it in parameters, buffers and "
            "registered modules (nn.ModuleList instead of a list)"
        )
    _check_learning(other, last, images, path)


def _check_learning(network: nn.Module, last: str, images: Tensor, path: Path) -> None:
    """Checks that a network, of which nothing is wanted any more, can take a step of training."""
    try:
        network.train()
        given = network.requires_grad_(True)(images)
        logits = given[0] if isinstance(given, tuple) else given  # others are auxiliary
        is_finite = bool(torch.isfinite(logits).all())
        if logits.requires_grad:
            logits.square().sum().backward()
    except (Exception, SystemExit) as error:  # whatever the code of a user raises
        raise own_errors.failure(path, "a step of training", error) from None
    if not is_finite:
        raise ConfigError(f"{path}: the network gives what is no finite number in training; mend it")
    if not any(parameter.grad is not None for parameter in network.get_submodule(last).parameters()):
        raise ConfigError(
            f"{path}: the network's last layer gets no gradient in training; leave out torch.no_grad and detach"
        )


def _is_near(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= _SAME * other.abs().max())
