"""What every unit of some layers does over many images, found in one pass: the strongest places, how often it is on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import DataError
from cnn_perception.model.spec import InputSpec
from training.batches.loader import Images, Order, data_loader
from training.data.records import Sample

STRONGEST = 9
"""Images that are remembered of each unit, as in the figures of Zeiler and Fergus (2014)."""
MAPS = 400
"""Images whose last map is kept: 160 MB of ResNet-50's 2048 x 7 x 7."""
_BATCH = 16
Numbers = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class UnitRecord:
    """What the C units of a layer did over N images.

    Attributes:
        strongest: (C, 9) activations, largest first; of each image its strongest place alone. Fewer columns of fewer
            images.
        images: (C, 9) rows of the survey's samples that they are in.
        places: (C, 9, 2) cells (row, column) of the map where they are.
        active_share: (C,) share of all cells of all images above zero.
        largest: (C,) largest activation; a unit with none above zero is dead on these images.
        mean: (C,) mean activation.
        map_shares: (N,) share of the layer's cells above zero in each image.
    """

    strongest: Numbers
    images: Rows
    places: Rows
    active_share: Numbers
    largest: Numbers
    mean: Numbers
    map_shares: Numbers


@dataclass(frozen=True, eq=False)
class Survey:
    """What a network does over N images.

    Attributes:
        samples: The images that could be read, N.
        units: What the units of each layer did, by its name.
        embeddings: (N, D) last hidden layer.
        logits: (N, K).
        features: (M, C, h, w), the last map of the first M images; empty without spatial features.
    """

    samples: tuple[Sample, ...]
    units: Mapping[str, UnitRecord]
    embeddings: Numbers
    logits: Numbers
    features: Numbers


@torch.inference_mode()
def survey(
    opened: nn.Module, names: Sequence[str], samples: Sequence[Sample], size: InputSpec, device: torch.device
) -> Survey:
    """Runs a network over images once.

    Args:
        opened: Images -> (the map of each of `names`..., features, embedding, logits), as `Subject.opened`.
        names: Of its layers.
        samples: The images, at least one; those that cannot be read are left out.
        size: The preprocessing.
        device: Where the network is.

    Raises:
        DataError: If none of the images can be read.
    """
    images = Images(tuple(samples), size)
    loader = data_loader(images, Order(len(images), _BATCH, None), 0, pin_memory=False)
    tallies = [_Tally() for _ in names]
    rows: list[int] = []
    embeddings: list[Numbers] = []
    logits: list[Numbers] = []
    kept: list[Numbers] = []
    with ProgressBar(total=len(images), desc="looking at images", unit="img", leave=False) as bar:
        for batch in loader:
            bar.update(len(batch.rows) + len(batch.lost))
            if not len(batch.rows):
                continue
            *maps, features, embedding, answer = opened(batch.images.to(device))
            for tally, found in zip(tallies, maps, strict=True):
                tally.add(found, len(rows))
            if features.ndim == 4 and len(rows) < MAPS:
                kept.append(features[: MAPS - len(rows)].float().cpu().numpy())
            rows += batch.rows.tolist()
            embeddings.append(embedding.flatten(1).float().cpu().numpy())
            logits.append(answer.float().cpu().numpy())
    if not rows:
        raise DataError(
            f"none of the {len(images)} images can be read; check the folder, or give --data where it is now"
        )
    return Survey(
        samples=tuple(images.samples[row] for row in rows),
        units={name: tally.record() for name, tally in zip(names, tallies, strict=True)},
        embeddings=np.concatenate(embeddings),
        logits=np.concatenate(logits),
        features=np.concatenate(kept) if kept else np.empty((0, 0, 0, 0), np.float32),
    )


class _Tally:
    """The record of one layer's units, as batches come."""

    def __init__(self) -> None:
        self.values = torch.empty(0)
        self.rows = torch.empty(0, dtype=torch.int64)
        self.cells = torch.empty(0, dtype=torch.int64)
        self.columns = 0
        self.positive = torch.zeros(1)
        self.sum = torch.zeros(1)
        self.count = 0
        self.map_shares: list[Tensor] = []

    def add(self, maps: Tensor, first_row: int) -> None:
        """Takes maps (N, C, h, w) of the images from `first_row` on."""
        count, channels, _, columns = maps.shape
        flat = maps.float().flatten(2)
        largest, cells = (found.cpu().T for found in flat.max(2))  # (C, N)
        on = flat > 0
        rows = torch.arange(first_row, first_row + count).expand(channels, count)
        if not self.count:
            self.values, self.rows, self.cells = largest[:, :0], rows[:, :0], cells[:, :0]
        values = torch.cat([self.values, largest], 1)
        # stable, so that of equal values the first image stays, whatever the batches are
        order = values.argsort(dim=1, descending=True, stable=True)[:, :STRONGEST]
        self.values = values.gather(1, order)
        self.rows = torch.cat([self.rows, rows], 1).gather(1, order)
        self.cells = torch.cat([self.cells, cells], 1).gather(1, order)
        self.columns = columns
        self.positive = self.positive + on.sum((0, 2)).cpu()
        self.sum = self.sum + flat.sum((0, 2)).double().cpu()
        self.count += count * flat.shape[2]
        self.map_shares.append(on.float().mean((1, 2)).cpu())

    def record(self) -> UnitRecord:
        places = torch.stack([self.cells // self.columns, self.cells % self.columns], 2)
        return UnitRecord(
            strongest=self.values.numpy(),
            images=self.rows.numpy(),
            places=places.numpy(),
            active_share=(self.positive / self.count).float().numpy(),
            largest=self.values[:, 0].numpy(),
            mean=(self.sum / self.count).float().numpy(),
            map_shares=torch.cat(self.map_shares).numpy(),
        )
