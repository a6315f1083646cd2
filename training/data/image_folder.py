"""An image folder as a listing: DIR/train|val|test/CLASS/* or DIR/CLASS/*."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cnn_perception.commands import for_shell
from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import DataError, printable
from cnn_perception.image.listing import (
    HIDDEN,
    JUNK,
    LINKED_FILES,
    broken_links,
    image_files,
    in_words,
    is_passed_over,
    visible_folders,
)
from cnn_perception.label_text import NONE_OF_THESE
from cnn_perception.model.spec import Task
from training import distributed
from training.data.names import part_of
from training.data.records import PARTS, ImageFinding, Listing, Part, Sample, Source

TASK: Task = "multiclass"
"""What a folder can say: the class of each image."""
NO_LABEL = "no label: lies outside the class folders"
TABLES = (".csv", ".tsv")
"""Of tables that are looked for without being named, in lower case."""
_LABELS_ELSEWHERE = (
    "if the labels of its images are in other files, as those of COCO, YOLO and Pascal VOC, write a table with the "
    "columns path and class, or classes (a;b)"
)
_SHOWN = 3
"""So many folders are named in an error."""


def read(root: Path, classes_said: bool = False) -> Listing:
    """Lists the images of a folder, whose class folders name the classes.

    Args:
        root: DIR with train, val and test folders of class folders, or with class folders.
        classes_said: Whether the user names the classes, so that no other folders can be meant.

    Returns:
        Every image once, in the order of class and path. A class may be without images, or without some in a part;
        `conflicts` says what becomes of it.

    Raises:
        DataError: If it is no image folder.
    """
    folders = _part_folders(root)
    ignored = Counter[str]()
    with _progress() as bar:
        found = {part: _class_files(folder, ignored, bar.update) for part, folder in folders.items()}
    names = tuple(sorted({name for classes in found.values() for name in classes}))
    if NONE_OF_THESE in names:
        raise DataError(
            f"{root}: a class cannot be called {NONE_OF_THESE!r}, which says of an image that it shows no class; "
            "rename the folder, or move it away and name it to training.train as --outside"
        )
    _check_parts(root, folders, found, names)
    listed = []
    for part, classes in found.items():
        for label, name in enumerate(names):
            listed += [Sample(path, label, part) for path in classes.get(name, ())]
    samples = tuple(_drop_links(root, folders, listed, ignored))
    has_parts = folders["train"] != root
    if not has_parts and not classes_said:
        _refuse_same_folders(root, samples, names)
    outside = dict.fromkeys((root, *folders.values()))
    left_out = tuple(finding for folder in outside for finding in _outside(folder, ignored))
    dangling = [link for folder in outside for link in broken_links(folder) if not link.suffix]
    return Listing(
        (Source(root, frozenset(folders), has_parts=has_parts, rows=len(samples)),),
        TASK,
        names,
        (),
        samples,
        in_time=False,
        ignored=dict(ignored),
        notes=(
            *(f"{link.name!r} is a link to nothing, and so no class; mend or remove it" for link in dangling),
            *_nested(folders, samples, names),
        ),
        left_out=left_out,
    )


def every_image(folder: Path) -> list[Path]:
    """Returns all images below a folder, after saying what else lies there; none where it is no folder."""
    if not folder.is_dir():
        return []
    ignored = Counter[str]()
    with _progress() as bar:
        found = image_files(folder, ignored, listed=bar.update)
    if ignored and distributed.rank() == 0:
        print(printable(f"{folder}: {len(found)} images; ignored: {in_words(ignored)}"))
    return found


def _progress() -> ProgressBar[Any]:
    """Shows from the second second on how many files have been listed."""
    return ProgressBar(desc="listing", unit=" files", delay=1, leave=False)


def _part_folders(root: Path) -> dict[Part, Path]:
    """Returns the folder of class folders of every part there is; `train` alone where DIR holds the classes."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; --data names an image folder or a CSV file")
    names = [folder.name for folder in visible_folders(root)]
    if not names:
        told = _of_table(root) or f"; expected {root}/CLASS/* or {root}/train/CLASS/*"
        raise DataError(f"{root}: holds no class folders{told}")
    parts = _parts_by_name(root, names)
    if not parts:
        _refuse_outer_folder(root, names)
        return {"train": root}
    if "train" not in parts:
        raise DataError(f"{root}: holds {' and '.join(parts.values())} but no train folder; add it")
    if others := [name for name in names if name not in parts.values()]:
        train = parts["train"]
        raise DataError(f"{root}: holds {others[0]!r} beside {train}, which names no part; rename it or move it away")
    return {part: _without_wrapping(root / name) for part, name in parts.items()}


def _parts_by_name(root: Path, names: Sequence[str]) -> dict[Part, str]:
    """Returns which of the folders in DIR is which part, by the usual names of parts; empty if these are classes.

    One folder alone may be a class of that name, such as `train` among vehicles: it is a part if it holds folders.

    Raises:
        DataError: If two folders name one part.
    """
    parts: dict[Part, str] = {}
    for name in names:
        part = part_of(name, names)
        if part is None:
            continue
        if part in parts:
            raise DataError(f"{root}: {parts[part]!r} and {name!r} both name the part {part}; rename or remove one")
        parts[part] = name
    if len(parts) == 1 and not visible_folders(root / next(iter(parts.values()))):
        return {}
    return {part: parts[part] for part in PARTS if part in parts}


def _refuse_outer_folder(root: Path, names: Sequence[str]) -> None:
    """Raises DataError if DIR is the folder around the data set."""
    trains = [train for name in names if (train := _train_folder(root / name)) is not None]
    if sum(bool(image_files(train, recursive=False)) for train in trains) > 1:
        first = trains[0].relative_to(root)
        raise DataError(
            f"{root}: its classes hold the parts, as {first} does; turn them round, as in "
            f"{first.name}/{first.parent.name}, or write a table with the columns path, class and part"
        )
    if any(image_files(train) for train in trains) and not any(visible_folders(train) for train in trains):
        raise DataError(f"{root}: {trains[0].relative_to(root)} holds no class folders; {_LABELS_ELSEWHERE}")
    nested = [train.parent.name for train in trains]
    if nested or (len(names) == 1 and visible_folders(root / names[0])):
        below = for_shell("--data", root / (nested or names)[0])
        raise DataError(f"{root}: the data set lies one folder below; use {below}")


def _train_folder(folder: Path) -> Path | None:
    """Returns the training part among the folders of a folder."""
    return next((sub for sub in visible_folders(folder) if part_of(sub.name) == "train"), None)


def _refuse_same_folders(root: Path, samples: Sequence[Sample], names: Sequence[str]) -> None:
    """Raises DataError if all classes hold the folders of one of them and no image beside: these may be the classes."""
    below: dict[int, set[str]] = {}
    for sample in samples:
        _, *inside, name = sample.path.relative_to(root).parts
        below.setdefault(sample.label, set()).add(inside[0] if inside else f"/{name}")
    inner = max(below.values(), key=len, default=set())
    is_flat = any(name.startswith("/") for name in inner)
    if not is_flat and len(below) == len(names) and all(len(found) > 1 and found <= inner for found in below.values()):
        outer, same = (", ".join(map(repr, sorted(some)[:_SHOWN])) for some in (names, inner))
        raise DataError(
            f"{root}: its folders {outer} hold the same folders {same}, as the parts of a data set do: if they are "
            "parts, call them train, val and test; if they are the classes, name them in a file and give it to "
            "training.train as --classes"
        )


def _without_wrapping(folder: Path) -> Path:
    """Returns the folder of class folders of a part, which archives wrap in another one: seg_train/seg_train/CLASS."""
    inner = visible_folders(folder)
    if len(inner) == 1 and visible_folders(inner[0]):
        return _without_wrapping(inner[0])
    return folder


def _class_files(folder: Path, ignored: Counter[str], listed: Callable[[], object]) -> dict[str, list[Path]]:
    return {sub.name: image_files(sub, ignored, listed=listed) for sub in visible_folders(folder)}


def _outside(folder: Path, ignored: Counter[str]) -> Iterator[ImageFinding]:
    """Yields the images that lie beside the class folders; counts the other files."""
    others = Counter[str]()
    for path in image_files(folder, others, recursive=False):
        yield ImageFinding(path, NO_LABEL, "left out")
    ignored["files outside class folders"] += sum(others[kind] for kind in others.keys() - {HIDDEN, JUNK})


def _nested(folders: dict[Part, Path], samples: Sequence[Sample], names: Sequence[str]) -> list[str]:
    """Says which classes hold folders of images: these may be classes of their own."""
    below: dict[str, set[str]] = {}
    for sample in samples:
        inner = sample.path.relative_to(folders[sample.part]).parts[1:-1]
        if inner:
            below.setdefault(names[sample.label], set()).add(inner[0])
    return [
        f"class {name!r} holds folders of images ({', '.join(sorted(inner)[:3])}), which are taken as this one class"
        for name, inner in sorted(below.items())
    ]


def _beside_classes(folder: Path, part: Part) -> str:
    """Says what a part holds in place of class folders, and what to do about it."""
    if not image_files(folder):
        what = "remove or fill it"
    elif part == "train":
        what = _LABELS_ELSEWHERE
    else:
        what = f"images without a label teach nothing: move it away; {_LABELS_ELSEWHERE}"
    return _of_table(folder) or f"; {what}"


def _of_table(folder: Path) -> str:
    """Says which table lies in a folder without class folders; empty where none does."""
    tables = [file for file in folder.iterdir() if file.suffix.lower() in TABLES and not is_passed_over(file)]
    return f", but the table {tables[0].name}; give {for_shell('--data', tables[0])}" if tables else ""


def _check_parts(
    root: Path, folders: dict[Part, Path], found: dict[Part, dict[str, list[Path]]], names: Sequence[str]
) -> None:
    for part, classes in found.items():
        if not classes:
            raise DataError(f"{root}: {part} holds no class folders{_beside_classes(folders[part], part)}")
    if len(names) < 2:
        raise DataError(f"{root}: one class only ({names[0]!r}); at least 2 are needed")


def _drop_links(root: Path, folders: dict[Part, Path], samples: list[Sample], ignored: Counter[str]) -> list[Sample]:
    """Keeps each real file once, by the path that follows no link if there is one.

    A link from one class or part to an image of another, or to all of it, is kept: it contradicts it as a copy would.
    """
    here = root.resolve()
    real = {sample.path: Path(os.path.realpath(sample.path)) for sample in samples}
    kept: dict[object, Sample] = {}
    for sample in sorted(samples, key=lambda s: real[s.path] != here / s.path.relative_to(root)):
        first = kept.setdefault(real[sample.path], sample)
        if first is sample:
            continue
        if (first.label, first.part) != (sample.label, sample.part) and _is_linked(sample.path, folders[sample.part]):
            kept[sample.path] = sample
        else:
            ignored[LINKED_FILES] += 1
    return sorted(kept.values(), key=lambda s: (s.label, s.path))


def _is_linked(path: Path, folder: Path) -> bool:
    """Whether an image, its class or its part, whose folder is given, is a link."""
    of_class = folder / path.relative_to(folder).parts[0]
    return path.is_symlink() or of_class.is_symlink() or folder.is_symlink()
