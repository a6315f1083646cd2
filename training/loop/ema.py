"""The average of the weights over the last steps: usually better than the last weights, and steadier."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average of everything in a network's state that is not an integer.

    Attributes:
        decay: Share of the former average that a step keeps, in (0, 1), once there were many steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self._steps = decay, 0
        self._tensors = {name: tensor.detach().clone() for name, tensor in _floats(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes in the weights as they are after a step.

        The first steps keep less, so that the random beginning is forgotten.
        Source: tf.train.ExponentialMovingAverage, argument num_updates: min(decay, (1 + steps) / (10 + steps)).
        """
        self._steps += 1
        keep = min(self.decay, (1 + self._steps) / (10 + self._steps))
        now = _floats(model)
        for name, tensor in self._tensors.items():
            tensor.lerp_(now[name], 1 - keep)

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """Gives a network the averaged weights for a while, and then its own again."""
        own = {name: tensor.clone() for name, tensor in _floats(model).items()}
        model.load_state_dict(self._tensors, strict=False)
        try:
            yield
        finally:
            model.load_state_dict(own, strict=False)

    def state(self) -> dict[str, Any]:
        """Returns what `restore` needs."""
        return {"steps": self._steps, "tensors": {name: tensor.cpu() for name, tensor in self._tensors.items()}}

    def restore(self, saved: dict[str, Any]) -> None:
        """Goes back to where `state` was called."""
        self._steps = saved["steps"]
        for name, tensor in self._tensors.items():
            tensor.copy_(saved["tensors"][name])


def _floats(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
