"""The average of the weights over the last steps: usually better than the last weights, and steadier."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


class WeightAverage:
    """Exponential moving average of everything in a network's state that is not an integer.

    The first steps keep less of the former average, so that the random beginning is forgotten.
    Source: tf.train.ExponentialMovingAverage, argument num_updates: min(decay, (1 + steps) / (10 + steps)).

    Args:
        model: The network as it begins, which counts as the first average.
        decay: Share of the former average that a step keeps, in (0, 1), once there were many steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        def average(averages: Tensors, now: Tensors, steps: Tensor | int) -> None:
            keep = min(decay, (1 + int(steps)) / (10 + int(steps)))
            if averages[0].is_floating_point():
                torch._foreach_lerp_(averages, now, 1 - keep)

        self._averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
        self._averaged.update_parameters(model)  # which copies the first time

    def update(self, model: nn.Module) -> None:
        """Takes in the weights as they are after a step."""
        self._averaged.update_parameters(model)

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """Gives a network the averaged weights for a while, and then its own again."""
        own = {name: tensor.clone() for name, tensor in _floats(model).items()}
        model.load_state_dict(_floats(self._averaged.module), strict=False)
        try:
            yield
        finally:
            model.load_state_dict(own, strict=False)

    def state(self) -> dict[str, Any]:
        """Returns what `restore` needs: the number of steps, and the averages on the CPU by their names."""
        tensors = {name: tensor.cpu() for name, tensor in _floats(self._averaged.module).items()}
        return {"steps": int(self._averaged.n_averaged) - 1, "tensors": tensors}

    def restore(self, saved: dict[str, Any]) -> None:
        """Goes back to where `state` was called."""
        self._averaged.n_averaged.fill_(saved["steps"] + 1)
        self._averaged.module.load_state_dict(saved["tensors"], strict=False)


def _floats(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
