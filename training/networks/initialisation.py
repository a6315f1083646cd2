"""How weights are drawn that nobody has trained yet."""

from __future__ import annotations

import torch
from torch import nn

from training.config.settings import Init

_DRAWN = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear,
)  # fmt: skip


@torch.no_grad()
def draw(model: nn.Module, init: Init) -> None:
    """Draws the weights of all convolutions and linear layers of a network anew; `own` leaves them as they are.

    Source: normal: Krizhevsky, Sutskever, Hinton 2012, section 5, whose biases of 1 give the rectifiers something to
        let through; standard: Nielsen 2015, chapter 1; xavier: Glorot and Bengio 2010, equation 16; kaiming: He et al.
        2015, Delving Deep into Rectifiers, equation 10.
    """
    for module in model.modules():
        if init == "own" or not isinstance(module, _DRAWN):
            continue
        if init in ("normal", "standard"):
            nn.init.normal_(module.weight, std=0.01 if init == "normal" else 1.0)
        elif init == "xavier":
            nn.init.xavier_uniform_(module.weight)
        else:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is None:
            continue
        if init == "standard":
            nn.init.normal_(module.bias)
        else:
            nn.init.constant_(module.bias, 1.0 if init == "normal" else 0.0)
