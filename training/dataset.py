"""A folder of labelled images: found, checked and split.

An image folder is DIR/train|val|test/CLASS/* or DIR/CLASS/*. Every file is read once before training: its content
goes into the digest of the data set, and what cannot be decoded is listed and left out.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from cnn_perception.errors import DataError, FrameError
from cnn_perception.image import decode_file_bytes
from cnn_perception.spec import Task
from training.checkpoint import write_text

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
JUNK_FOLDERS = frozenset({"__MACOSX"})
MIN_IMAGES = 3
"""Images a class needs: with fewer, no split leaves something to learn from and something to check with."""
MAX_REJECTED = 0.05
"""Share of unreadable images above which the data set, not the image, is taken to be broken."""


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Attributes:
        path: Where it lies.
        label: Index of its class, for multiclass; of its first class or 0 otherwise.
        part: What it is used for.
        values: For multilabel, 1 or 0 for each class; for regression, each number standardised by
            `LabelledImages.scaling`; empty for multiclass.
    """

    path: Path
    label: int
    part: Part
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Rejected:
    """An image that was left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class LabelledImages:
    """A checked and split data set.

    Attributes:
        root: Its folder.
        task: What is to be learned.
        class_names: Names of the class folders, sorted; or those of the columns of numbers.
        units: Of each number, for regression; empty otherwise.
        scaling: (mean, standard deviation) of each number over the training images, for regression; empty otherwise.
        samples: Every usable image once, in the order of class and path.
        sha256: Digest of file names, labels and contents, as hexadecimal.
        rejected: Images that cannot be decoded.
        ignored: How many files were passed over, by the reason.
    """

    root: Path
    task: Task
    class_names: tuple[str, ...]
    units: tuple[str, ...]
    scaling: tuple[tuple[float, float], ...]
    samples: tuple[Sample, ...]
    sha256: str
    rejected: tuple[Rejected, ...]
    ignored: dict[str, int]

    def part(self, part: Part) -> tuple[Sample, ...]:
        """Returns the samples of one part."""
        return tuple(sample for sample in self.samples if sample.part == part)


def load(root: Path, *, val_fraction: float, test_fraction: float, seed: int, rejected_csv: Path) -> LabelledImages:
    """Finds, checks and splits the images of a folder.

    Args:
        root: DIR with train, val and test folders of class folders, or with class folders.
        val_fraction: Share of each class held out for validation where there is no val folder, in (0, 1).
        test_fraction: Share of each class held out for the test if there is no test folder, in [0, 1).
        seed: Seed of the split.
        rejected_csv: Where the images that cannot be decoded are listed; written if there are any.

    Returns:
        The data set, without the images that cannot be decoded.

    Raises:
        DataError: If it is no image folder, a class has too few images, train and val differ in their classes, or
            more than `MAX_REJECTED` of the images cannot be decoded.
    """
    folders, ignored = _part_folders(root), Counter[str]()
    found = {part: _class_files(folder, ignored) for part, folder in folders.items()}
    names = tuple(sorted(found["train"]))
    _check_classes(root, found)
    listed = [Sample(path, names.index(name), part) for part in found for name in names for path in found[part][name]]
    samples, rejected, digest = _read_all(_drop_links(listed, ignored), root, names)
    if rejected:
        write_csv(rejected_csv, ("path", "reason", "action"), [(r.path, r.reason, "left out") for r in rejected])
    if len(rejected) > MAX_REJECTED * (len(samples) + len(rejected)):
        raise DataError(f"{root}: {len(rejected)} images cannot be decoded, see {rejected_csv}; mend or remove them")
    _check_counts(samples, folders, names)
    val, test = (0.0 if "val" in found else val_fraction), (0.0 if "test" in found else test_fraction)
    parted = split(samples, val, test, seed)
    return LabelledImages(root.resolve(), "multiclass", names, (), (), parted, digest, rejected, dict(ignored))


def split(samples: Sequence[Sample], val_fraction: float, test_fraction: float, seed: int) -> tuple[Sample, ...]:
    """Holds out a share of every class of the training samples.

    Each class gives round(n x fraction) images, at least one where the fraction is not 0, and keeps at least one.
    """
    rng, result = np.random.default_rng(seed), list(samples)
    for label in sorted({s.label for s in samples}):
        rows = [i for i, s in enumerate(samples) if s.label == label and s.part == "train"]
        rng.shuffle(rows)
        total = len(rows)
        for part, fraction in (("val", val_fraction), ("test", test_fraction)):
            count = min(len(rows) - 1, max(1, round(fraction * total))) if fraction else 0
            taken, rows = rows[:count], rows[count:]
            for row in taken:
                result[row] = dataclasses.replace(samples[row], part=part)  # type: ignore[arg-type]
    return tuple(result)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a table that is complete or absent; a name that is no UTF-8 keeps its bytes as escapes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([str(v).encode(errors="backslashreplace").decode() for v in row] for row in rows)
    write_text(path, text.getvalue())


def _part_folders(root: Path) -> dict[Part, Path]:
    """Returns the folder of class folders of every part there is; `train` alone where DIR holds the classes."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; --data names an image folder")
    names = [folder.name for folder in _folders(root)]
    if not names:
        raise DataError(f"{root}: holds no class folders; expected {root}/CLASS/* or {root}/train/CLASS/*")
    if "train" not in names:
        if "val" in names or "test" in names:
            raise DataError(f"{root}: holds val or test but no train folder; add it")
        nested = [name for name in names if (root / name / "train").is_dir()]
        if nested or (len(names) == 1 and _folders(root / names[0])):
            raise DataError(f"{root}: the data set lies one folder below; use --data {root / (nested or names)[0]}")
        return {"train": root}
    if others := [name for name in names if name not in PARTS]:
        raise DataError(f"{root}: holds {others[0]!r} beside train; only train, val and test are read: rename it")
    return {part: root / part for part in PARTS if part in names}


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without the hidden and those that archivers leave behind."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != "." and p.name not in JUNK_FOLDERS)


def _class_files(folder: Path, ignored: Counter[str]) -> dict[str, list[Path]]:
    ignored["files outside class folders"] += sum(p.is_file() and p.name[0] != "." for p in folder.iterdir())
    return {sub.name: list(_image_files(sub, set(), ignored)) for sub in _folders(folder)}


def _image_files(folder: Path, seen: set[Path], ignored: Counter[str]) -> Iterator[Path]:
    """Yields the images below a folder, following links but entering no folder twice."""
    real = folder.resolve()
    if real in seen:
        ignored["folders linked twice"] += 1
        return
    seen.add(real)
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in JUNK_FOLDERS:
            ignored["hidden files"] += 1
        elif path.is_dir():
            yield from _image_files(path, seen, ignored)
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            yield path
        else:
            ignored[f"not an image ({path.suffix.lower() or 'no suffix'})"] += 1


def _check_classes(root: Path, found: dict[Part, dict[str, list[Path]]]) -> None:
    for part, classes in found.items():
        only = sorted(set(classes) - set(found["train"])), sorted(set(found["train"]) - set(classes))
        if any(only):
            where, name = (part, only[0][0]) if only[0] else ("train", only[1][0])
            raise DataError(f"{root}: class {name!r} is only in {where}; train, val and test need the same classes")
        for name, paths in classes.items():
            if not paths:
                raise DataError(f"{root}: class {name!r} holds no image in {part}; add some or remove the folder")
    if len(found["train"]) < 2:
        names = sorted(found["train"])
        raise DataError(f"{root}: {f'one class only ({names[0]!r})' if names else 'no classes'}; at least 2 are needed")


def _check_counts(samples: Sequence[Sample], folders: dict[Part, Path], names: tuple[str, ...]) -> None:
    counts = Counter((s.part, s.label) for s in samples)
    for part, folder in folders.items():
        needed = MIN_IMAGES if part == "train" else 1
        for label, name in enumerate(names):
            if (count := counts[part, label]) < needed:
                raise DataError(f"{folder / name}: {count} usable images, {needed} are needed; add some or remove it")


def _drop_links(samples: list[Sample], ignored: Counter[str]) -> list[Sample]:
    """Keeps each real file once: a link to a listed image is no image of its own."""
    kept: dict[Path, Sample] = {}
    for sample in sorted(samples, key=lambda s: s.path.is_symlink()):
        if kept.setdefault(sample.path.resolve(), sample) is not sample:
            ignored["files linked twice"] += 1
    return sorted(kept.values(), key=lambda s: (s.label, s.path))


def _read_all(
    samples: list[Sample], root: Path, names: tuple[str, ...]
) -> tuple[list[Sample], tuple[Rejected, ...], str]:
    """Reads and decodes every file once; returns the usable ones, the others, and the digest of the former."""
    digest, usable, rejected = hashlib.sha256(), [], []
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        results = pool.map(_read, (s.path for s in samples))
        for sample, result in zip(samples, tqdm(results, "checking", len(samples), unit="img"), strict=True):
            if isinstance(result, Rejected):
                rejected.append(result)
                continue
            usable.append(sample)
            # a name may hold any character but NUL
            name = os.fsencode(sample.path.relative_to(root))
            digest.update(name + b"\0" + names[sample.label].encode(errors="surrogateescape") + b"\0" + result)
    return usable, tuple(rejected), digest.hexdigest()


def _read(path: Path) -> bytes | Rejected:
    try:
        data = path.read_bytes()
        decode_file_bytes(data)
    except FrameError as error:
        return Rejected(path, f"{error.reason}: {error}")
    except OSError as error:
        return Rejected(path, f"unreadable: {error.strerror}")
    return hashlib.sha256(data).digest()
