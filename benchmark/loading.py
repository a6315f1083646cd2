"""The rate at which training images are loaded from the decoded cache, over that of torchvision's reference loader.

    python -m benchmark.loading --data DIR

DIR holds class folders of JPEGs, 500x375 for a figure to be compared. Both give batches of randomly cropped, normalised
224x224 float32 images in one process with one thread; they take turns, and the ratio is taken pair by pair, because the
speed of a shared machine drifts. What is counted is the time on the processor, the files being in memory: what others
compute meanwhile is not.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader
from torchvision import transforms  # type: ignore[import-untyped]
from torchvision.datasets import ImageFolder  # type: ignore[import-untyped]

from benchmark.support.options import at_least_one, option_parser
from benchmark.support.pairs import Target, record
from benchmark.support.transforms import TENSOR
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, PerceptionError
from training.batches.augment import Augmentation
from training.batches.cache import open_cache
from training.batches.loader import Images, Order, data_loader
from training.config import make
from training.data.records import Sample

BATCH = 32
_CACHED = Target(8.0, is_lower_bound=True)


def reference_loader(folder: ImageFolder) -> DataLoader[Any]:
    """Returns the loader of torchvision's classification reference: crop, tensor, normalisation."""
    folder.transform = transforms.Compose([transforms.RandomResizedCrop(224), *TENSOR])
    return DataLoader(folder, BATCH, shuffle=True)


def own_loader(folder: ImageFolder, augment: tuple[str, ...], cache_gb: float, output: str) -> DataLoader[Any]:
    """Returns the loader of a training run, its cache filled."""
    config = make(data=folder.root, output=output, augment=augment, crop_area=0.08, cache_gb=cache_gb, cache_dir=output)
    samples = tuple(Sample(Path(path), label, "train") for path, label in folder.samples)
    augmentation = Augmentation.of(config, "multiclass")
    images = Images(samples, config.input, augmentation, 0, open_cache(samples, config, augmentation))
    return data_loader(images, Order(len(samples), BATCH, shuffle_seed=0), workers=0, pin_memory=False)


def epoch_s(loader: DataLoader[Any]) -> float:
    """Returns the time on the processor of an epoch, in seconds."""
    started = time.process_time()
    for _ in loader:
        pass
    return time.process_time() - started


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser("loading", __doc__)
    parser.add_argument("--data", required=True, help="folder of class folders of images")
    parser.add_argument("--rounds", type=at_least_one, default=7, help="epochs of each loader (default: %(default)s)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as output:
        try:
            folder = ImageFolder(options.data)
            loaders = {
                "cached, crop": own_loader(folder, ("crop",), 4.0, output),
                "cached, crop, flip, color": own_loader(folder, ("light",), 4.0, output),
                "decoded, crop": own_loader(folder, ("crop",), 0.0, output),
            }
        except (PerceptionError, FileNotFoundError) as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_BAD_INPUT
        pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in loaders}
        reference = reference_loader(folder)
        for _ in range(options.rounds):
            for name, loader in loaders.items():
                pairs[name].append((epoch_s(loader), epoch_s(reference)))
    _report(pairs, len(folder.samples))
    return EXIT_OK


def _report(pairs: Mapping[str, Sequence[tuple[float, float]]], images: int) -> None:
    """Prints the ratios of each loader and the reference, from their seconds for an epoch of so many images."""
    rounds = len(next(iter(pairs.values())))
    print(f"{images} images; torchvision's reference is 1; median of {rounds} pairs (smallest to largest)")
    for name, times_s in pairs.items():
        ratios = sorted(reference_s / own_s for own_s, reference_s in times_s)
        record(f"loading images: {name}", ratios, _CACHED if name.startswith("cached") else None)
        rate_hz = images / statistics.median(own_s for own_s, _ in times_s)
        spread = f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"{name:<28}{statistics.median(ratios):>6.2f} times as fast {spread:<18}{rate_hz:>8.0f} images/s")


if __name__ == "__main__":
    sys.exit(main())
