"""What a network gives for images: the one loop that runs it over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import DataError
from training.batches.loader import Batch, Images

_PIXELS_ON_A_CPU = 4 * 224 * 224
"""Of all images together that a CPU is given at once: what the layers make of more fits into no cache, and is memory
that the system maps anew for each of them."""


class Predicted(NamedTuple):
    """What a network gives for the images that could be read.

    Attributes:
        rows: (N,) int64, which of the samples they are.
        labels: What the images should give, as in `Batch`.
        outputs: (N, ...) on the CPU; straight from the network float32, and (N x V, ...) for images in V views each.
    """

    rows: Tensor
    labels: Tensor
    outputs: Tensor


@torch.inference_mode()
def predict(
    network: nn.Module,
    loader: DataLoader[Batch],
    device: torch.device,
    title: str,
    *,
    after_batch: Callable[[], None] | None = None,
    keep_bar: bool = False,
) -> Iterator[Predicted]:
    """Yields what a network in evaluation mode gives for images, batch by batch.

    Args:
        network: The network; it stays in evaluation mode.
        loader: The images, of `batches.loader.data_loader`.
        device: Where the network is.
        title: What the progress bar says.
        after_batch: Called after each batch; what it raises ends the loop.
        keep_bar: Whether the progress bar stays on the screen at the end.
    """
    network.eval()
    images = loader.dataset
    assert isinstance(images, Images)
    with ProgressBar(total=len(images), desc=title, unit="img", leave=keep_bar) as bar:
        for batch in loader:
            if len(batch.rows):
                yield Predicted(batch.rows, batch.labels, _outputs(network, batch.images.flatten(0, -4), device))
            bar.update(len(batch.rows) + len(batch.lost))
            if after_batch is not None:
                after_batch()


def _outputs(network: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """Returns what a network gives for images (N, 3, height, width): (N, ...) float32 on the CPU."""
    height, width = images.shape[-2:]
    count = max(1, _PIXELS_ON_A_CPU // (height * width)) if device.type == "cpu" else len(images)
    pieces = torch.split(images, count)
    return torch.cat([network(piece.to(device)).float().cpu() for piece in pieces])


def together(batches: Iterable[Predicted], title: str) -> Predicted:
    """Returns all batches as one.

    Args:
        batches: What `predict` yields.
        title: Says whose images they are.

    Raises:
        DataError: If none of the images can be read.
    """
    found = list(batches)
    if not found:
        raise DataError(f"{title}: none of the images can be read; check the folder")
    rows, labels, outputs = zip(*found, strict=True)
    return Predicted(torch.cat(rows), torch.cat(labels), torch.cat(outputs))
