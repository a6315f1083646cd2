"""What goes backward through a network from one number to the image: gradient, deconvnet, guided backpropagation.

The three differ only in what a rectifier y = max(x, 0) does with the signal s that comes to it from above:

- gradient: s where x > 0 (Simonyan, Vedaldi and Zisserman 2013);
- deconvnet: s where s > 0 (Zeiler and Fergus 2014, whose switches are the places of max pooling's own gradient);
- guided: s where both are (Springenberg, Dosovitskiy, Brox and Riedmiller 2015).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, fx

from training.look.methods.rectifiers import Rectifier, with_rectifiers

Rule = Literal["gradient", "deconvnet", "guided"]
RULES: tuple[Rule, ...] = get_args(Rule)


def backward(network: fx.GraphModule, images: Tensor, number: Callable[[Tensor], Tensor], rule: Rule) -> Tensor:
    """Sends a number of each image back to its pixels.

    Args:
        network: In evaluation mode, its parameters without gradients; it is not changed.
        images: (N, 3, H, W) float32.
        number: The network's output for the N images -> (N,), each of its image alone.
        rule: What the rectifiers do with the signal.

    Returns:
        (N, 3, H, W) float32; the exact gradient where the network has no rectifiers.
    """
    changed = network if rule == "gradient" else with_rectifiers(network, _of_rule(rule))
    pixels = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        (signal,) = torch.autograd.grad(number(changed(pixels)).sum(), pixels)
    return signal


def _of_rule(rule: Rule) -> Callable[[Rectifier], Rectifier]:
    def guided(function: Rectifier) -> Rectifier:
        return lambda values: _positive_back(function(values))

    def deconvnet(function: Rectifier) -> Rectifier:
        # The bracket is exactly zero, and hands back what comes.
        return lambda values: _positive_back(function(values).detach() + (values - values.detach()))

    return {"guided": guided, "deconvnet": deconvnet}[rule]


def _positive_back(values: Tensor) -> Tensor:
    if values.requires_grad:
        values.register_hook(lambda signal: signal.clamp(min=0))  # type: ignore[no-untyped-call]
    return values
