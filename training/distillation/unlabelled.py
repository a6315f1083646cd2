"""Frames without labels: those that can be used, beside a labelled data set or as all that there is.

Beside labelled images they are trained on by what the teachers say. Where nothing is labelled, the teachers label all
of them: some are held out, on which it is measured how often their pupil answers as they do. Whether that is right,
nobody knows.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cnn_perception.errors import DataError
from cnn_perception.model.spec import Task
from training.config import TrainConfig
from training.data import duplicates, scan
from training.data.duplicates import Pairs
from training.data.records import UNLABELLED, ImageFinding, LabelledImages, Listing, Part, Sample, Source
from training.data.scan import Content
from training.data.split import Division, divide
from training.distillation import answers
from training.distillation.teachers import Teachers
from training.tasks.by_name import TASKS, task_of

_WITHOUT_CLASSES: Task = next(name for name, task in TASKS.items() if task.has_probabilities and not task.one_class)
LEAST = 4
"""Frames without which there is nothing to train with and to hold out."""


@dataclass(frozen=True)
class Frame:
    """A frame without a label.

    Attributes:
        path: Its image file.
        recording: The recording that it is from; empty for one of a folder.
    """

    path: Path
    recording: str = ""


@dataclass(frozen=True, eq=False)
class _Usable:
    """Frames that can be read, each picture once."""

    frames: tuple[Frame, ...]
    contents: tuple[Content, ...]
    rejected: tuple[ImageFinding, ...]


def beside(data: LabelledImages, frames: Sequence[Frame]) -> LabelledImages:
    """Returns a labelled data set with frames that are trained on without labels.

    What looks like an image that is held out is left out: the pupil would be measured on what it has seen.

    Raises:
        DataError: If none of the frames can be used.
    """
    held_out = [sample.path for sample in (*data.samples, *data.outside) if sample.part != "train"]
    shown = [found for found in scan.read_all(held_out) if isinstance(found, Content)]
    found = _usable(frames)
    copies = _like(shown, found.contents)
    kept = [frame for row, frame in enumerate(found.frames) if row not in copies]
    if not kept:
        raise DataError("--unlabelled: none of the frames can be used beside the labelled images; name others")
    notes = [f"{len(kept)} images without labels are trained on, by what the teachers say of them"]
    if copies:
        notes.append(f"{len(copies)} images without labels look like one that is held out: left out")
    values = (math.nan,) * len(data.class_names) if data.samples[0].values else ()
    contents = [content for row, content in enumerate(found.contents) if row not in copies]
    samples = tuple(
        Sample(frame.path, UNLABELLED, "train", values, frame.recording, pixels=scan.short(content.pixels))
        for frame, content in zip(kept, contents, strict=True)
    )
    return dataclasses.replace(
        data,
        unlabelled=samples,
        unlabelled_sha256=_digest(content.sha256 for content in contents),
        rejected=(*data.rejected, *found.rejected),
        warnings=(*data.warnings, *notes),
    )


def alone(frames: Sequence[Frame], teachers: Teachers, config: TrainConfig, device: torch.device) -> LabelledImages:
    """Returns frames as a data set whose labels are the answers of teachers.

    Of a recording the end is held out, as it would be at the next drive; of the images of folders those that look alike
    are on one side.

    Raises:
        DataError: If there are too few that can be used.
    """
    found = _usable(frames)
    if len(found.frames) < LEAST:
        raise DataError(f"--unlabelled: {len(found.frames)} frames can be used, {LEAST} are needed; name more")
    parts = _parts(found, config)
    saved = teachers.saved[0]
    labels = _labels(found.frames, teachers, config, device)
    samples = tuple(
        Sample(frame.path, label, part, values, frame.recording, pixels=scan.short(content.pixels))
        for frame, content, part, (label, values) in zip(found.frames, found.contents, parts, labels, strict=True)
    )
    sources = tuple(Source(Path(source), frozenset[Part]({"train"})) for source in config.unlabelled)
    return LabelledImages(
        root=Path(config.unlabelled[0]).resolve(),
        task=saved.task,
        class_names=saved.class_names,
        units=saved.units,
        scaling=saved.scaling,
        samples=samples,
        sha256=_digest(one.sha256 for one in found.contents),
        rejected=found.rejected,
        ignored={},
        warnings=(f"nothing is labelled: what an image shows is what {teachers.where} answers",),
        sources=sources,
        labelled_by=teachers.where,
    )


def _usable(frames: Sequence[Frame]) -> _Usable:
    """The frames that can be decoded, without exact copies of an earlier one."""
    read = list(scan.read_all([frame.path for frame in frames]))
    rejected = tuple(one for one in read if isinstance(one, ImageFinding))
    first: dict[bytes, tuple[Frame, Content]] = {}
    for frame, one in zip(frames, read, strict=True):
        if isinstance(one, Content):
            first.setdefault(one.pixels, (frame, one))
    return _Usable(
        tuple(frame for frame, _ in first.values()), tuple(content for _, content in first.values()), rejected
    )


def _like(shown: Sequence[Content], contents: Sequence[Content]) -> set[int]:
    """The rows of the contents that are the same picture as one that is shown, or look the same."""
    every = [*shown, *contents]
    pairs = [*_same(every), *duplicates.near([content.thumbnail for content in every]).tolist()]
    return {other - len(shown) for one, other in pairs if one < len(shown) <= other}


def _same(contents: Sequence[Content]) -> list[list[int]]:
    pairs: list[list[int]] = duplicates.exact([content.pixels for content in contents]).tolist()
    return pairs


def _parts(found: _Usable, config: TrainConfig) -> list[Part]:
    """The part of each frame: the end of each recording is held out, and some of the other images."""
    parts: list[Part] = ["train"] * len(found.frames)
    rows_of: dict[str, list[int]] = {}
    for row, frame in enumerate(found.frames):
        rows_of.setdefault(frame.recording, []).append(row)
    loose = rows_of.pop("", [])
    for rows in rows_of.values():
        for row in rows[len(rows) - round(config.val_fraction * len(rows)) :]:
            parts[row] = "val"
    for row, part in zip(loose, _divided([found.contents[row] for row in loose], config), strict=True):
        parts[row] = part
    if len({*parts}) < 2:
        raise DataError("--unlabelled: too few frames to hold some out; name more, or raise --val-fraction")
    return parts


def _divided(contents: Sequence[Content], config: TrainConfig) -> list[Part]:
    """The parts of images of folders."""
    if len(contents) < 2:
        return ["train"] * len(contents)
    names = [Path(f"{row:09}") for row in range(len(contents))]
    # a listing of several classes an image, of which there are none: nothing is to be shared out but the images
    source = Source(Path(), frozenset[Part]({"train"}))
    samples = tuple(Sample(name, 0, "train") for name in names)
    listing = Listing((source,), _WITHOUT_CLASSES, (), (), samples, in_time=True, ignored={})
    alike: Pairs = duplicates.near([content.thumbnail for content in contents])
    division = Division(config.val_fraction, 0.0, config.seed, config.split)
    return [sample.part for sample in divide(listing, np.empty((0, 2), np.int64), alike, division)]


def _labels(
    frames: Sequence[Frame], teachers: Teachers, config: TrainConfig, device: torch.device
) -> list[tuple[int, tuple[float, ...]]]:
    """What the mean of the teachers' scores says of each frame."""
    samples = [Sample(frame.path, UNLABELLED, "train") for frame in frames]
    outputs = answers.of_images(samples, teachers, teachers.saved[0].scaling, config, device)
    temperatures = torch.tensor([saved.calibration.temperature for saved in teachers.saved])
    rows = [saved.calibration.thresholds for saved in teachers.saved]
    thresholds = tuple(map(float, np.mean(rows, axis=0))) if all(rows) else ()
    task = task_of(teachers.saved[0].task)
    return task.answered(task.together(outputs / temperatures[:, None, None]).numpy(), thresholds)


def _digest(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
