"""What every unit of some layers does over many images, found in one pass: the strongest places, how often it is on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import DataError
from cnn_perception.model.spec import InputSpec
from training.batches.loader import Batch, Images, Order, data_loader
from training.data.records import Sample

STRONGEST = 9
"""Images that are remembered of each unit, as in the figures of Zeiler and Fergus (2014)."""
MAPS = 400
"""Images whose last map is kept, at most."""
_MAP_BYTES = 4 * 2048 * 7 * 7 * MAPS
"""Memory of these maps: as many as that of ResNet-50 takes at 224 pixels, 160 MB."""
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
        mapped: M of the images, of all classes alike.
        features: (M, C, h, w), their last maps; empty without spatial features.
    """

    samples: tuple[Sample, ...]
    units: Mapping[str, UnitRecord]
    embeddings: Numbers
    logits: Numbers
    mapped: tuple[Sample, ...]
    features: Numbers


@torch.inference_mode()
def survey(
    opened: nn.Module,
    names: Sequence[str],
    samples: Sequence[Sample],
    size: InputSpec,
    batch: int,
    device: torch.device,
) -> Survey:
    """Runs a network over images once.

    Args:
        opened: Images -> (the map of each of `names`..., features, embedding, logits), as `Subject.opened`.
        names: Of its layers.
        samples: The images, at least one; those that cannot be read are left out.
        size: The preprocessing.
        batch: Images at a time.
        device: Where the network is.

    Raises:
        DataError: If none of the images can be read, or the network's answers are no finite numbers.
    """
    images = Images(tuple(samples), size)
    loader = data_loader(images, Order(len(images), batch, None), 0, pin_memory=False)
    tallies = [_Tally() for _ in names]
    rows: list[int] = []
    embeddings: list[Numbers] = []
    logits: list[Numbers] = []
    kept: list[Numbers] = []
    mapped: list[int] = []
    with ProgressBar(total=len(images), desc="looking at images", unit="img", leave=False) as bar:
        for loaded in loader:
            bar.update(len(loaded.rows) + len(loaded.lost))
            if not len(loaded.rows):
                continue
            *maps, features, embedding, answer = opened(loaded.images.to(device))
            if not (torch.isfinite(embedding).all() and torch.isfinite(answer).all()):
                raise DataError(
                    f"{_first(images, loaded)}: what the network makes of it is no finite number; train again"
                )
            for tally, found in zip(tallies, maps, strict=True):
                tally.add(found, len(rows))
            if features.ndim == 4:
                every = _every(len(images), features)
                places = list(range(-len(rows) % every, len(features), every))
                kept.append(features[places].float().cpu().numpy())
                mapped += loaded.rows[places].tolist()
            rows += loaded.rows.tolist()
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
        mapped=tuple(images.samples[row] for row in mapped),
        features=np.concatenate(kept) if kept else np.empty((0, 0, 0, 0), np.float32),
    )


def _first(images: Images, loaded: Batch) -> Path:
    return images.samples[int(loaded.rows[0])].path


def _every(count: int, features: Tensor) -> int:
    """Returns of every how many of the images the maps (N, C, h, w) are kept: images come class by class."""
    most = max(min(MAPS, _MAP_BYTES // (4 * features[0].numel())), 1)
    return -(-count // most)


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
