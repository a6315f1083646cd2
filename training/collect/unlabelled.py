"""All frames of folders, data sets and recordings, as files: what `training.train --unlabelled` is given.

Nothing is chosen and nothing labelled, as `training.collect` does; the frames of a recording are written into the run's
folder as they came.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import DataError, FrameError, PerceptionError, printable
from cnn_perception.evaluation.several.bag_search import is_bag, is_folder_of_bags
from cnn_perception.image.kept_file import as_file
from cnn_perception.image.listing import image_files, visible_folders
from cnn_perception.image.messages import AS_SENT, decode
from cnn_perception.label_table import ListedFiles, read_table
from training import distributed
from training.collect.sources.bag_frames import BagFrames
from training.collect.sources.finding import recordings
from training.collect.sources.frame import safe_name
from training.config import TrainConfig
from training.config.stored import sources
from training.data import csv_table
from training.data.image_folder import every_image
from training.data.sources import table_of
from training.data_set.columns import PATH
from training.distillation.unlabelled import Frame
from training.graphs.parity import evenly
from training.run_files import make_folder, replacing

FOLDER = "frames"
"""Of a run: what was read from recordings."""
_LONGEST_NAME = 80
"""Characters of a recording's name that are kept."""


def told_apart(given: dict[str, Any]) -> dict[str, Any]:
    """Returns settings whose `data` are labelled: what holds no labels is `unlabelled`, where there is a teacher.

    Args:
        given: Arguments of `config.make`.
    """
    if not given.get("teacher") or not given.get("data"):
        return given
    named = sources(given["data"])
    without = tuple(name for name in named if holds_no_labels(Path(name)))
    if not without:
        return given
    print(*(printable(f"{name}: holds no labels; it is taken as --unlabelled") for name in without), sep="\n")
    labelled = tuple(name for name in named if name not in without)
    return {**given, "data": labelled, "unlabelled": (*sources(given.get("unlabelled")), *without)}


def holds_no_labels(path: Path) -> bool:
    """Returns whether a path is a recording, a folder of images beside each other, or a table without any label."""
    if is_bag(path) or is_folder_of_bags(path):
        return True
    try:
        table = table_of(path)
        if table is not None:
            return not csv_table.read(table, "auto", ()).samples
    except PerceptionError:
        return False  # whoever reads it as labelled says what is wrong
    return path.is_dir() and not visible_folders(path) and bool(image_files(path, Counter()))


def frames_of(config: TrainConfig) -> tuple[Frame, ...]:
    """Returns the frames of `--unlabelled`, at most `--unlabelled-images`, evenly from all; those of bags are written.

    Raises:
        DataError: If a source holds none, or the folder of the run cannot be written to.
    """
    if not config.unlabelled:
        return ()
    found = [one for name in config.unlabelled for one in _sources(Path(name))]
    counts = [one.count() for one in found]
    chosen = evenly(sum(counts), config.unlabelled_images)
    if len(chosen) < sum(counts):
        print(f"{len(chosen)} of {sum(counts)} images without labels are used, see --unlabelled-images")
    frames: list[Frame] = []
    first = 0
    with distributed.first_alone_first(distributed.chosen_device(config.device)):
        for one, count in zip(found, counts, strict=True):
            wanted = {index - first for index in chosen if first <= index < first + count}
            frames += one.frames(wanted, Path(config.output) / FOLDER)
            first += count
    return tuple(frames)


@dataclass(frozen=True)
class _Files:
    """Images that lie in a folder, or that a table names."""

    paths: tuple[Path, ...]

    def count(self) -> int:
        return len(self.paths)

    def frames(self, wanted: set[int], _folder: Path) -> Iterator[Frame]:
        return (Frame(path.absolute()) for index, path in enumerate(self.paths) if index in wanted)


@dataclass(frozen=True)
class _Recording:
    """A recording, with all its image topics."""

    bag: BagFrames

    def count(self) -> int:
        with self.bag.opened(()) as opened:
            return opened.count

    def frames(self, wanted: set[int], folder: Path) -> Iterator[Frame]:
        with self.bag.opened(wanted) as opened:
            lost = 0
            for frame in ProgressBar(opened.frames, f"reading {self.bag.bag}", len(wanted), unit="img"):
                try:
                    if isinstance(frame.content, FrameError):
                        raise frame.content
                    content, suffix = as_file(frame.content, decode(frame.content))
                except FrameError:
                    lost += 1
                    continue
                path = folder / f"{frame.origin.stem}_{frame.origin.index}{suffix}"
                make_folder(path.parent)
                with replacing(path) as file:
                    file.write(content)
                yield Frame(path.absolute(), f"{self.bag.bag} {frame.origin.topic}")
            for line in (*opened.damage, *opened.warnings):
                print(printable(line))
            if lost:
                print(printable(f"{self.bag.path}: {lost} frames cannot be decoded and are left out"))


def _sources(path: Path) -> list[_Files | _Recording]:
    """What a path means."""
    if is_bag(path) or is_folder_of_bags(path):
        return [_Recording(BagFrames(bag, _name(bag), (), AS_SENT, is_recorded=True)) for bag in recordings(path)]
    table = table_of(path)
    found = _listed(table) if table is not None else every_image(path)
    if not found:
        raise DataError(f"--unlabelled {path}: holds no image; name a folder, a data set or a recording with images")
    return [_Files(tuple(found))]


def _name(bag: Path) -> str:
    """Returns a name that no other recording has: two may be called alike, with stamps that begin at 0."""
    digest = hashlib.sha256(os.fsencode(bag.absolute())).hexdigest()[:8]
    return f"{safe_name('_'.join(bag.absolute().parts[-2:]))[:_LONGEST_NAME]}_{digest}"


def _listed(table: Path) -> list[Path]:
    rows = read_table(table, "mend --unlabelled").naming(PATH).rows
    files = ListedFiles((table.parent,))
    return [path for row in rows if (path := files.find(row)) is not None]
