"""How fast training images are loaded: from the decoded cache, over torchvision's reference loader.

    python -m benchmark.loading --data DIR

DIR holds class folders of JPEGs, 500x375 for a figure to be compared. Both give batches of randomly cropped, normalised
224x224 float32 images in one process with one thread; they take turns, and the ratio is taken pair by pair, because the
speed of a shared machine drifts. What is counted is the time on the processor, the files being in memory: what others
compute meanwhile is not.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader
from torchvision import transforms  # type: ignore[import-untyped]
from torchvision.datasets import ImageFolder  # type: ignore[import-untyped]

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, PerceptionError
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD
from training.batches.augment import Augmentation
from training.batches.cache import open_cache
from training.batches.loader import Images, Order, data_loader
from training.config import make
from training.data.records import Sample

BATCH = 32


def reference(folder: ImageFolder) -> DataLoader[Any]:
    """The loader of torchvision's classification reference: crop, tensor, normalisation."""
    folder.transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    return DataLoader(folder, BATCH, shuffle=True)


def own(folder: ImageFolder, augment: tuple[str, ...], cache_gb: float, place: str) -> DataLoader[Any]:
    """The loader of a training run, its cache filled."""
    config = make(data=folder.root, output=place, augment=augment, crop_area=0.08, cache_gb=cache_gb, cache_dir=place)
    samples = tuple(Sample(Path(path), label, "train") for path, label in folder.samples)
    augmentation = Augmentation.of(config, "multiclass")
    images = Images(samples, config.input, augmentation, 0, open_cache(samples, config, augmentation))
    return data_loader(images, Order(len(samples), BATCH, shuffle_seed=0), workers=0, pin_memory=False)


def seconds(loader: DataLoader[Any]) -> float:
    """Returns how long the processor takes for an epoch."""
    started = time.process_time()
    for _ in loader:
        pass
    return time.process_time() - started


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.loading", description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of class folders of images")
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each loader [7]")
    given = parser.parse_args(argv)
    if given.rounds < 1:
        parser.error("--rounds: must be 1 or more")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as place:
        try:
            folder = ImageFolder(given.data)
            loaders = {
                "cached, crop": own(folder, ("crop",), 4.0, place),
                "cached, crop, flip, color": own(folder, ("light",), 4.0, place),
                "decoded, crop": own(folder, ("crop",), 0.0, place),
            }
        except (PerceptionError, FileNotFoundError) as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_BAD_INPUT
        rivals: dict[str, list[tuple[float, float]]] = {name: [] for name in loaders}
        yardstick = reference(folder)
        for _ in range(given.rounds):
            for name, loader in loaders.items():
                rivals[name].append((seconds(loader), seconds(yardstick)))
    count = len(folder.samples)
    print(f"{count} images; torchvision's reference is 1; median of {given.rounds} pairs (smallest to largest)")
    for name, pairs in rivals.items():
        ratios = sorted(theirs / ours for ours, theirs in pairs)
        rate = count / statistics.median(ours for ours, _ in pairs)
        spread = f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"{name:<28}{statistics.median(ratios):>6.2f} times as fast {spread:<18}{rate:>8.0f} images/s")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
