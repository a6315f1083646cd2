"""What frozen networks made of images, kept on the disk for other runs: an image is not decoded for it again.

A feature is found by the content of its image, of the network and of the preprocessing, not by names: another setting,
another split, a fold or a renamed file finds it, and a changed image or weight does not. Each run adds one file with
what it had to compute, written beside its place and then renamed; one that is damaged is removed and computed again.
Files that were used longest ago go first where they are too many.

The folder is `~/.cache/cnn_perception/features` ($XDG_CACHE_HOME instead of ~/.cache), or what $CNN_PERCEPTION_CACHE
names; where that is empty, or cannot be written to, nothing is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from cnn_perception import files
from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import FrameError
from cnn_perception.image.limits import read_picture
from training import distributed
from training.data.records import Sample

FORMAT = "features 1"
"""To be raised whenever decoding or preprocessing changes by more than rounding."""
LIMIT_BYTES = 2_000_000_000
"""Of all files together: half a million images of 1000 numbers."""
FOLDER = "CNN_PERCEPTION_CACHE"

Rows = npt.NDArray[np.float32]


def folder() -> Path | None:
    """Returns where features are kept; None for nowhere."""
    named = os.environ.get(FOLDER)
    if named is not None:
        return Path(named) if named else None
    try:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # no home folder
        return None
    return Path(root) / "cnn_perception" / "features"


@dataclass(frozen=True)
class FeatureCache:
    """The features that one network makes of images.

    Attributes:
        place: Where they are kept; None for nowhere.
        key: Of the network and the preprocessing, from `key_of`.
    """

    place: Path | None
    key: str

    def read(self, digests: Sequence[str], size: int) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Returns the features (n, size) float32 that are kept, zeros for others, and of which images, (n,).

        Args:
            digests: Of each image, from `digests_of`.
            size: D.
        """
        rows: dict[str, list[int]] = {}
        for row, digest in enumerate(digests):
            rows.setdefault(digest, []).append(row)
        found = np.zeros((len(digests), size), np.float32)
        known = np.zeros(len(digests), np.bool_)
        for path in self._files():
            for digest, features in _read(path, size):
                for row in rows.get(digest, ()) if digest else ():
                    found[row] = features
                    known[row] = True
        return found, known

    def add(self, digests: Sequence[str], features: Rows) -> None:
        """Keeps features (n, D) of images, as far as the disk and the limit allow; the first process alone does."""
        if self.place is None or not digests or features.nbytes > LIMIT_BYTES or distributed.rank() > 0:
            return
        name = hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            with files.replacing(self.place / f"{self.key}-{name}.npz") as file:
                np.savez(file, digests=np.array(digests), features=features)
            _remove_oldest(self.place)
        except OSError as error:
            ProgressBar.write(
                f"{self.place}: cannot be written to ({error.strerror}); features are not kept for other runs"
            )

    def _files(self) -> list[Path]:
        return sorted(self.place.glob(f"{self.key}-*.npz")) if self.place is not None else []


def key_of(network: nn.Module, facts: Iterable[Any], device: torch.device) -> str:
    """Returns what tells a network and its preprocessing from all others.

    Args:
        network: The frozen part; its weights count, whatever they are called.
        facts: What else the features follow from, as JSON: the architecture, the preprocessing.
        device: Where it computes: a GPU rounds otherwise.
    """
    digest = hashlib.sha256(json.dumps([FORMAT, torch.__version__, device.type, *facts]).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:32]


def digests_of(samples: Sequence[Sample]) -> list[str]:
    """Returns the digest of each image's file; empty for one that cannot be read."""
    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
    try:
        found = pool.map(lambda sample: _digest(sample.path), samples)
        return list(ProgressBar(found, "looking for known features", len(samples), unit="img", leave=False))
    finally:
        pool.shutdown(cancel_futures=True)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(read_picture(path)).hexdigest()
    except (FrameError, OSError):
        return ""


def _read(path: Path, size: int) -> list[tuple[str, Rows]]:
    """What a file holds; nothing, and the file is removed, where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            digests = saved["digests"].tolist()
            features = np.asarray(saved["features"])
        if features.shape != (len(digests), size) or features.dtype != np.float32:
            raise ValueError("of another shape")
        os.utime(path)  # for `_remove_oldest`
    except FileNotFoundError:  # another run has removed it
        return []
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        _remove(path)
        return []
    return list(zip(map(str, digests), features, strict=True))


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # somebody else's folder
        return


def _remove_oldest(place: Path) -> None:
    """Removes the files used longest ago until all are within the limit."""
    ages = []
    for path in place.glob("*.npz"):
        try:
            ages.append((path.stat().st_mtime_ns, path.stat().st_size, path))
        except FileNotFoundError:
            continue
    used = sum(size for _, size, _ in ages)
    for _, size, path in sorted(ages):
        if used > LIMIT_BYTES:
            _remove(path)
            used -= size
