"""The frames that are evaluated, with what is known of each, from a bag or from a folder of images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cnn_perception.bag.reader import Bag
from cnn_perception.errors import ConfigError, DataError, FrameError
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.labels import (
    Labels,
    Measurements,
    labels_from_changes,
    measurements_from_messages,
    number,
    read_labels,
    read_measurements,
    require_names,
)
from cnn_perception.image.listing import image_files, visible_folders
from cnn_perception.image.messages import AS_SENT, EncodedFile, EncodedImage, Overrides
from cnn_perception.label_table import Row, read_table
from cnn_perception.label_text import Truth
from cnn_perception.model.spec import ModelSpec
from cnn_perception.tasks.classes import require_known
from cnn_perception.tasks.registry import task_of


@dataclass(frozen=True, eq=False)
class LabelledFrame:
    """A frame with what is known of it; its content may be the reason why there is no image."""

    record: FrameRecord
    content: EncodedImage | EncodedFile | FrameError


@dataclass(frozen=True)
class LabelledFrames:
    """All frames of a bag's topic or of a folder, which can be read more than once.

    Attributes:
        path: The bag or folder.
        topic: The image topic; empty for a folder.
        count: How many frames there are.
        read: Starts from the first frame each time it is called.
        damage: What cannot be read of a damaged bag, a line each; complete once all frames were read.
    """

    path: Path
    topic: str
    count: int
    read: Callable[[], Iterator[LabelledFrame]]
    damage: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[LabelledFrame]:
        return self.read()


@dataclass(frozen=True)
class _KnownAnswers:
    """What is known of a recording, and the time axis on which it is known.

    Attributes:
        truth: None without labels.
        is_stamped: Whether the truth's times are header stamps, not times of reception since `origin_ns`.
        origin_ns: What is 0 s; None for the reception of the topic's first image.
    """

    truth: Labels | Measurements | None
    is_stamped: bool
    origin_ns: int | None


def overridden(frames: LabelledFrames, overrides: Overrides) -> LabelledFrames:
    """Returns the frames with what is known better of their images than they say themselves."""

    def read() -> Iterator[LabelledFrame]:
        for frame in frames:
            if isinstance(frame.content, FrameError):
                yield frame
            else:
                yield LabelledFrame(frame.record, frame.content.overridden(overrides))

    return frames if overrides == AS_SENT else dataclasses.replace(frames, read=read)


def frames_of_bag(
    bag: Bag, topic_name: str | None, labels: str, start: Literal["bag", "image"], spec: ModelSpec
) -> LabelledFrames:
    """Returns the frames of a bag's image topic.

    Args:
        bag: The open bag.
        topic_name: Its image topic; None takes the only one there is.
        labels: A CSV file or a topic of labels; empty for none.
        start: What is 0 s in a CSV file: the bag's first message, or the first image.
        spec: The model.

    Raises:
        DataError: If the labels cannot be used with this model, or there is no such topic.
    """
    topic = bag.image_topic(topic_name)
    known = _known_answers(bag, labels, start, spec)

    def frames() -> Iterator[LabelledFrame]:
        zero_ns = known.origin_ns
        for index, image in enumerate(bag.images(topic)):
            zero_ns = image.log_time_ns if zero_ns is None else zero_ns
            since_zero_ns = image.log_time_ns - zero_ns
            truth = known.truth.at(image.stamp_ns if known.is_stamped else since_zero_ns) if known.truth else None
            yield LabelledFrame(FrameRecord(index, "", image.stamp_ns, since_zero_ns / 1e9, truth), image.frame)

    return LabelledFrames(bag.path, topic.name, topic.count, frames, bag.damage)


def _known_answers(bag: Bag, labels: str, start: Literal["bag", "image"], spec: ModelSpec) -> _KnownAnswers:
    """Returns what a CSV file or a topic of the bag says, as far as it is for this model."""
    if not labels:
        return _KnownAnswers(None, is_stamped=False, origin_ns=bag.start_ns)
    if not labels.endswith(".csv"):
        return _answers_of_topic(bag, labels, spec)
    path = Path(labels)
    truth: Labels | Measurements
    if task_of(spec.task).has_classes:
        truth = read_labels(path).scored_as(spec, labels)
    else:
        truth = read_measurements(path, spec.class_names)
    return _KnownAnswers(truth, is_stamped=False, origin_ns=bag.start_ns if start == "bag" else None)


def _answers_of_topic(bag: Bag, topic: str, spec: ModelSpec) -> _KnownAnswers:
    """Returns what the messages of a topic say: classes that hold until the next one, or numbers."""
    task = task_of(spec.task)
    where = f"{bag.path}: {topic}"
    if not task.has_classes:
        numbers = bag.number_track(topic)
        zero_ns = 0 if numbers.is_stamped else bag.start_ns
        rows = ((time_ns - zero_ns, values) for time_ns, values in numbers.rows)
        measured = measurements_from_messages(rows, spec.class_names, where)
        return _KnownAnswers(measured, numbers.is_stamped, bag.start_ns)
    track = bag.label_track(topic, several=not task.is_exclusive)
    zero_ns = 0 if track.is_stamped else bag.start_ns
    changes = ((time_ns - zero_ns, name) for time_ns, name in track.changes)
    return _KnownAnswers(labels_from_changes(changes).scored_as(spec, where), track.is_stamped, bag.start_ns)


def frames_of_folder(folder: Path, labels: str, spec: ModelSpec) -> LabelledFrames:
    """Returns the frames of a folder of images.

    Args:
        folder: Without labels it has a folder of images for each class; hidden files are left out.
        labels: A CSV file with the columns path (relative to the folder) and class, or the numbers' names. For a
            multilabel model the column is classes, separated as in label files, or there is one of 0 and 1 for each.
            Empty for class folders.
        spec: The model.

    Raises:
        DataError: If there is no image in it, or a label does not fit the model.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; name one with a folder of images for each class")
    task = task_of(spec.task)
    if not labels and not task.is_exclusive:
        columns = ",".join(("path", *task.usual_columns(spec.class_names)))
        raise ConfigError(f"--images for a {spec.task} model needs --labels, a CSV file with the columns {columns}")
    images = _listed(Path(labels), spec) if labels else _in_class_folders(folder, spec)

    def frames() -> Iterator[LabelledFrame]:
        for index, (name, truth) in enumerate(images):
            content: EncodedFile | FrameError
            path = folder / name
            try:
                content = EncodedFile(path.read_bytes(), "")
            except OSError as error:
                content = FrameError("unreadable", f"{path}: cannot be read ({error.strerror})")
            yield LabelledFrame(FrameRecord(index, name, 0, 0.0, truth), content)

    return LabelledFrames(folder, "", len(images), frames)


def _in_class_folders(folder: Path, spec: ModelSpec) -> list[tuple[str, Truth | None]]:
    of_class = {sub.name: list(image_files(sub)) for sub in visible_folders(folder)}
    names = [name for name, paths in of_class.items() if paths]
    if not names:
        raise DataError(f"{folder}: there is no image in a class folder; arrange them as {folder}/CLASS/IMAGE.jpg")
    require_known(names, spec.class_names, str(folder))
    return [(path.relative_to(folder).as_posix(), name) for name in names for path in of_class[name]]


def _listed(path: Path, spec: ModelSpec) -> list[tuple[str, Truth | None]]:
    table = read_table(path, "name a CSV file")
    columns = task_of(spec.task).label_columns(table.header, spec.class_names)
    require_names(table.header, ("path", *columns), str(path))
    found = [(row.cells["path"], _label(row, columns, spec)) for row in table.rows]
    if not found:
        raise DataError(f"{path}: lists no image; write one a line as {','.join(('path', *columns))}")
    return found


def _label(row: Row, columns: tuple[str, ...], spec: ModelSpec) -> Truth | None:
    task = task_of(spec.task)
    if columns in (("class",), ("classes",)):
        return task.truth_of_text(row.cells[columns[0]], spec.class_names, row.place)
    return task.truth_of_numbers(columns, [number(row, name) for name in columns])
