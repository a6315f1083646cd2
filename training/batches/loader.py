"""The batches of a training run: images read, augmented, preprocessed and stacked.

Images are decoded and preprocessed by the runtime's own functions, so a network is trained on what the robot will
show it. Which images form a batch and how they are augmented follows from (seed, epoch, image) alone.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from cnn_perception.errors import ConfigError, FrameError
from cnn_perception.image.limits import read_picture
from cnn_perception.image.messages import RgbImage, decode_file_bytes
from cnn_perception.model.spec import InputSpec
from cnn_perception.pipeline.preprocess import InputTensor, preprocess
from training.batches.augment import Augmentation, augment
from training.batches.cache import Cache
from training.batches.workers import AHEAD, POLL_S, Loader, processes, start_worker
from training.data.records import Sample


class Key(NamedTuple):
    """What is asked of `Images`: a sample in an epoch, which decides how it is augmented."""

    epoch: int
    row: int


class Item(NamedTuple):
    """One preprocessed image; no tensor where the file became unreadable since it was checked.

    `views` are the same as each of `Images.others` has it.
    """

    row: int
    tensor: InputTensor | None
    views: tuple[InputTensor, ...] = ()


class Batch(NamedTuple):
    """Images of one step: rows (N,) int64, images (N, 3, height, width) float32, and what they should give.

    `labels` are classes, (N,) int64, or the samples' values, (N, K) float32.
    `lost` are the rows of samples that can no longer be read. `views` are the images as each of `Images.others` has
    them.
    """

    rows: Tensor
    images: Tensor
    labels: Tensor
    lost: tuple[int, ...]
    views: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Images(Dataset[Item]):
    """Preprocessed images of some samples; with an augmentation, another variant in every epoch.

    `others` are the preprocessing of other networks that are to see the same variants.
    """

    samples: tuple[Sample, ...]
    spec: InputSpec
    augmentation: Augmentation | None = None
    seed: int = 0
    cache: Cache | None = None
    others: tuple[InputSpec, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> Item:
        return self.item(key, np.empty(self.shape, np.float32))

    def __getitems__(self, keys: list[Key]) -> list[Item]:
        """What a loader asks for: the items of a batch, each a slice of one array, so that `collate` copies nothing."""
        return list(map(self.item, keys, np.empty((len(keys), *self.shape), np.float32)))

    @property
    def shape(self) -> tuple[int, ...]:
        """What an item's tensor is."""
        return _shape(self.spec)

    def item(self, key: Key, out: npt.NDArray[np.float32]) -> Item:
        """Loads an image into `out`, which is of `shape`."""
        try:
            path = self.samples[key.row].path
            image = self.cache.image(key.row, path) if self.cache else decode_file_bytes(read_picture(path))
        except (FrameError, OSError):
            return Item(key.row, None)
        views = tuple(self._prepared(image, spec, key, np.empty(_shape(spec), np.float32)) for spec in self.others)
        return Item(key.row, self._prepared(image, self.spec, key, out), views)

    def _prepared(self, image: RgbImage, spec: InputSpec, key: Key, out: npt.NDArray[np.float32]) -> InputTensor:
        """The variant of an image, as a network of some preprocessing sees it; its draws are the same for all."""
        if self.augmentation is None:
            return preprocess(image, spec, out)
        variant = augment(image, self.augmentation.at(spec), np.random.default_rng((self.seed, *key)))
        as_it_is = dataclasses.replace(spec, resize_mode="squash", crop_fraction=1.0)
        return preprocess(variant, as_it_is, out)

    def collate(self, items: list[Item]) -> Batch:
        """Makes a batch of items."""
        kept = [(item.row, item.tensor) for item in items if item.tensor is not None]
        images = _together([tensor for _, tensor in kept]) if kept else np.empty((0, *self.shape), np.float32)
        rows = torch.tensor([row for row, _ in kept], dtype=torch.int64)
        if values := len(self.samples[0].values):
            targets = [self.samples[row].values for row, _ in kept]
            labels = torch.tensor(targets, dtype=torch.float32).reshape(-1, values)  # the reshape is for an empty batch
        else:
            labels = torch.tensor([self.samples[row].label for row, _ in kept], dtype=torch.int64)
        lost = tuple(item.row for item in items if item.tensor is None)
        return Batch(rows, torch.from_numpy(images), labels, lost, self._views(items))

    def _views(self, items: Sequence[Item]) -> tuple[Tensor, ...]:
        kept = [item for item in items if item.tensor is not None]
        if not kept:
            return tuple(torch.empty(0, *_shape(spec)) for spec in self.others)
        return tuple(torch.from_numpy(np.stack(views)) for views in zip(*(item.views for item in kept), strict=True))


def _shape(spec: InputSpec) -> tuple[int, int, int]:
    return (3, spec.height, spec.width)


def _together(tensors: Sequence[InputTensor]) -> npt.NDArray[np.float32]:
    """The array of which the tensors are all slices, in order; a new one where they are not, as when one was lost."""
    whole = tensors[0].base
    if whole is not None and len(whole) == len(tensors) and all(tensor.base is whole for tensor in tensors):
        return np.asarray(whole, np.float32)
    return np.stack(tensors)


class Order(Sampler[list[Key]]):
    """The keys of each batch of an epoch: shuffled by (seed, epoch), or in order.

    With weights, (count,) > 0, an image comes up in proportion to its own; an epoch stays as long as it was.
    Of several processes each takes its share of every batch: (its number, how many there are).
    `epoch` and `first_batch` are set before an epoch begins; a run continued within an epoch begins there.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        shuffle_seed: int | None,
        weights: npt.NDArray[np.float64] | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.share = share
        self.count = count
        self.batch_size = batch_size
        self.shuffle_seed = shuffle_seed
        self.weights = weights
        self.epoch = 0
        self.first_batch = 0

    def batches(self) -> int:
        """Returns the number of batches of a whole epoch."""
        full, rest = divmod(self.count, self.batch_size)
        # batch normalisation cannot learn from a single image
        lone = rest < 2 * self.share[1] and full > 0 and self.shuffle_seed is not None
        return full + (rest > 0 and not lone)

    def __len__(self) -> int:
        return self.batches() - self.first_batch

    def rows(self) -> npt.NDArray[np.int64]:
        """Returns the samples of the epoch in their order, (count,) int64; batches are pieces of it."""
        rows = np.arange(self.count)
        if self.shuffle_seed is not None:
            rng = np.random.default_rng((self.shuffle_seed, self.epoch))
            if self.weights is not None:
                rows = drawn(self.weights, rng)
            rng.shuffle(rows)
        return rows

    def __iter__(self) -> Iterator[list[Key]]:
        rows = self.rows()
        for batch in range(self.first_batch, self.batches()):
            whole = rows[batch * self.batch_size :][: self.batch_size]
            yield [Key(self.epoch, int(i)) for i in whole[self.share[0] :: self.share[1]]]


def drawn(weights: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draws as many rows as there are, each in proportion to its weight and as evenly as that allows.

    The rows are laid end to end, as long as their weights, and read off at equal distances: one that is due 2.3 times
    comes 2 or 3 times, and all rows of one weight, such as those of one class, together come as often as they are due.
    Source: systematic sampling, Madow and Madow 1944, On the theory of systematic sampling.

    Args:
        weights: (n,) float64, > 0.
        rng: Where the draws come from.

    Returns:
        (n,) int64, in no useful order.
    """
    count = len(weights)
    rows = rng.permutation(count)
    rows = rows[np.argsort(weights[rows], kind="stable")]
    ends = np.cumsum(weights[rows])
    at = (np.arange(count) + rng.random()) * (ends[-1] / count)
    drawn: npt.NDArray[np.int64] = rows[np.minimum(np.searchsorted(ends, at, side="right"), count - 1)]
    return drawn


def class_weights(samples: Sequence[Sample], class_count: int) -> Tensor:
    """Returns weights inverse to how often a class occurs, with a mean of 1 over the images.

    Args:
        samples: The training images, each of one class.
        class_count: K.

    Returns:
        (K,) float32; 0 for a class without images.

    Raises:
        ConfigError: If the images have several classes or numbers instead.
    """
    if samples[0].values:
        raise ConfigError("--balance: the images have several labels or numbers, not one class; take none")
    counts = Counter(sample.label for sample in samples)
    weights = [len(samples) / (len(counts) * counts[k]) if counts[k] else 0.0 for k in range(class_count)]
    return torch.tensor(weights, dtype=torch.float32)


def balanced(samples: Sequence[Sample], class_count: int) -> npt.NDArray[np.float64]:
    """Returns the weight of each image's class, (n,) float64, as `Order` takes it; see `class_weights`."""
    return class_weights(samples, class_count).double().numpy()[[sample.label for sample in samples]]


def data_loader(images: Images, order: Order, workers: int, pin_memory: bool) -> Loader[Batch]:
    """Returns the batches of an order, loaded by processes of their own (none with 0 workers)."""
    # the libraries by name, too: the process may look for this module before it has got this one's `sys.path`
    preload = ["cv2", "numpy", "torch", __name__]
    return Loader(
        images,  # type: ignore[arg-type]  # torch types a loader by its items, not by its batches
        batch_sampler=order,
        num_workers=workers,
        collate_fn=images.collate,
        pin_memory=pin_memory,
        worker_init_fn=start_worker,
        timeout=POLL_S if workers else 0,
        prefetch_factor=AHEAD if workers else None,
        generator=torch.Generator(),  # its own: the run's random numbers must not depend on loading
        persistent_workers=workers > 0,
        multiprocessing_context=processes(preload) if workers else None,
    )
