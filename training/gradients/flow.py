"""The gradient of a loss, layer by layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Loss = Callable[[Tensor], Tensor]


def gradient_norms(model: nn.Module, image: Tensor, loss: Loss) -> list[float]:
    """Returns the length of the gradient of each layer's weights, from the first layer to the last.

    Layers are what has a matrix or kernels as weights: biases and the scales of normalisations are left out. A length
    of exactly 0 means that the layer learns nothing, infinity or NaN that float32 does not hold it.

    Args:
        model: In the mode in which it is to be looked at; its layers are named in the order in which they are applied.
        image: What it reads, with the batch first.
        loss: Of what the model returns, a scalar.
    """
    weights = [value for name, value in model.named_parameters() if name.endswith("weight") and value.dim() > 1]
    gradients = torch.autograd.grad(loss(model(image)), weights)
    return [float(torch.linalg.vector_norm(gradient.double())) for gradient in gradients]
