"""Networks that are written out layer by layer, see `layer_text`."""

from __future__ import annotations

from torch import nn

from training.networks import layer_text
from training.networks.libraries.library import USUAL_SIZE, Library, Order


def _build(order: Order) -> nn.Module:
    return layer_text.network(order.name.removeprefix(layer_text.PREFIX), order.classes, order.size or USUAL_SIZE)


LAYERS = Library(
    owns=lambda name: name.startswith(layer_text.PREFIX),
    check=lambda _: None,  # its layers are read when it is built
    build=_build,
    file_name=lambda _: "layers",
)
