"""The frames that are evaluated, with what is known of each, from a bag or from a folder of images."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cnn_perception.bag.reader import Bag, StampedImage, Topic
from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import ConfigError, DataError, FrameError, one_line
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
from cnn_perception.evaluation.recording.known_answers import KnownAnswers, LabelStamps, require_topic
from cnn_perception.image.limits import read_picture
from cnn_perception.image.listing import image_files, in_words, visible_folders
from cnn_perception.image.messages import AS_SENT, EncodedFile, EncodedImage, Overrides
from cnn_perception.label_table import STATE, ListedFiles, Row, Table, are_states, is_table, read_table, states_of
from cnn_perception.label_text import UNLABELLED, Truth
from cnn_perception.model.spec import ModelSpec
from cnn_perception.tasks.classes import is_none_of_these, require_known
from cnn_perception.tasks.registry import task_of

_OUTSIDE = "images outside class folders, of which no class is known"


@dataclass(frozen=True, eq=False)
class LabelledFrame:
    """A frame with what is known of it; its content may be the reason why there is no image.

    Attributes:
        record: The frame and what became of it.
        content: Its image, or why there is none.
        recorded: The bag's message, where the frame was just read from a bag.
    """

    record: FrameRecord
    content: EncodedImage | EncodedFile | FrameError
    recorded: StampedImage | None = None


def _nothing(_records: Sequence[FrameRecord]) -> list[str]:
    return []


@dataclass(frozen=True)
class LabelledFrames:
    """All frames of a bag's topic or of a folder, which can be read more than once.

    Attributes:
        path: The bag or folder.
        topic: The image topic; empty for a folder.
        count: How many frames there are.
        read: Starts from the first frame each time it is called.
        damage: What cannot be read of a damaged bag, a line each; complete once all frames were read.
        unused_labels: Says of the records of all frames which labels belong to none of them, a line or none.
        doubts: Says of the records of all frames what is odd about the times of the labels, a line or none.
        ignored: How many files of a folder were passed over, by the reason.
        topics: All topics of the bag; none of a folder.
        warnings: What is odd about what is evaluated, a line each; complete once all frames were read.
        faults: Why what is known of the frames cannot be right, a line each: the figures are not to be trusted then.
    """

    path: Path
    topic: str
    count: int
    read: Callable[[], Iterator[LabelledFrame]]
    damage: list[str] = field(default_factory=list)
    unused_labels: Callable[[Sequence[FrameRecord]], list[str]] = _nothing
    ignored: Mapping[str, int] = field(default_factory=dict)
    topics: tuple[Topic, ...] = ()
    warnings: Sequence[str] = ()
    faults: Sequence[str] = ()
    doubts: Callable[[Sequence[FrameRecord]], list[str]] = _nothing

    def __iter__(self) -> Iterator[LabelledFrame]:
        return self.read()


def overridden(frames: LabelledFrames, overrides: Overrides) -> LabelledFrames:
    """Returns the frames with what is known better of their images than they say themselves."""

    def read() -> Iterator[LabelledFrame]:
        for frame in frames:
            if isinstance(frame.content, FrameError):
                yield frame
            else:
                yield dataclasses.replace(frame, content=frame.content.overridden(overrides))

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
    known = _known_answers(bag, labels, start, spec, topic)

    def frames() -> Iterator[LabelledFrame]:
        zero_ns = known.origin_ns
        for index, image in enumerate(bag.images(topic)):
            zero_ns = image.log_time_ns if zero_ns is None else zero_ns
            since_zero_ns = image.log_time_ns - zero_ns
            truth = known.at(image.stamp_ns if image.has_time else None, since_zero_ns)
            record = FrameRecord(
                index,
                "",
                image.stamp_ns,
                since_zero_ns / 1e9,
                truth,
                received_ns=image.log_time_ns,
                has_time=image.has_time,
            )
            yield LabelledFrame(record, image.frame, image)

    return LabelledFrames(
        bag.path,
        topic.name,
        topic.count,
        frames,
        bag.damage,
        known.unmet,
        topics=bag.topics,
        warnings=bag.warnings,
        doubts=known.doubts,
    )


def _known_answers(
    bag: Bag, labels: str, start: Literal["bag", "image"], spec: ModelSpec, images: Topic
) -> KnownAnswers:
    """Returns what a CSV file or a topic of the bag says of the images of a topic, as far as it is for this model."""
    if not labels:
        return KnownAnswers(origin_ns=bag.start_ns)
    if not is_table(labels):
        require_topic(bag, labels)
        return _answers_of_topic(bag, labels, spec, images)
    path = Path(labels)
    truth: Labels | Measurements
    if task_of(spec.task).has_classes:
        truth = read_labels(path, bag.path).scored_as(spec, labels)
    else:
        truth = read_measurements(path, spec.class_names, bag.path)
    return KnownAnswers(truth, labels, bag.start_ns if start == "bag" else None)


def _answers_of_topic(bag: Bag, topic: str, spec: ModelSpec, images: Topic) -> KnownAnswers:
    """Returns what the messages of a topic say: classes that hold until the next one, or numbers."""
    task = task_of(spec.task)
    where = f"{bag.path}: {topic}"
    if not task.has_classes:
        numbers = bag.number_track(topic, images)
        zero_ns = 0 if numbers.is_stamped else bag.start_ns
        rows = ((time_ns - zero_ns, values) for time_ns, values in numbers.rows)
        measured = measurements_from_messages(rows, spec.class_names, where)
        return KnownAnswers(measured, topic, bag.start_ns, LabelStamps.of(numbers))
    track = bag.label_track(topic, not task.is_exclusive, images)
    zero_ns = 0 if track.is_stamped else bag.start_ns
    changes = ((time_ns - zero_ns, name) for time_ns, name in track.changes)
    scored = labels_from_changes(changes).scored_as(spec, where)
    return KnownAnswers(scored, topic, bag.start_ns, LabelStamps.of(track))


def frames_of_folder(folder: Path, labels: str, spec: ModelSpec) -> LabelledFrames:
    """Returns the frames of a folder of images.

    Args:
        folder: Without labels it has a folder of images for each class; hidden files are left out.
        labels: A CSV file with the columns path (relative to the folder, or to the CSV file) and class, or the
            numbers' names. For a multilabel model the column is classes, separated as in label files, or there is one
            of 0 and 1 for each.
            Empty for class folders.
        spec: The model.

    Raises:
        DataError: If there is no image in it, a label does not fit the model, or an image is listed twice.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; name one with a folder of images for each class")
    task = task_of(spec.task)
    if not labels and not task.is_exclusive:
        columns = ",".join(("path", *task.usual_columns(spec.class_names)))
        raise ConfigError(f"--images for a {spec.task} model needs --labels, a CSV file with the columns {columns}")
    ignored = Counter[str]()
    images = _listed(Path(labels), folder, spec) if labels else _in_class_folders(folder, spec, ignored)

    def frames() -> Iterator[LabelledFrame]:
        for index, image in enumerate(images):
            yield LabelledFrame(FrameRecord(index, image.name, 0, 0.0, image.truth), _content(image.path))

    return LabelledFrames(folder, "", len(images), frames, ignored=+ignored)


@dataclass(frozen=True)
class _Image:
    """An image file, its name in the report, and what is known of it; None if that is nothing."""

    path: Path
    name: str
    truth: Truth | None


def _content(path: Path) -> EncodedFile | FrameError:
    try:
        return EncodedFile.from_folder(read_picture(path))
    except FrameError as error:
        return FrameError(error.reason, f"{path}: {error}")
    except (OSError, ValueError) as error:  # ValueError: no file can have such a name
        return FrameError("unreadable", f"{path}: cannot be read ({one_line(error)})")


def _in_class_folders(folder: Path, spec: ModelSpec, ignored: Counter[str]) -> list[_Image]:
    """Returns the images whose folders name their classes, and counts what else there is."""
    with ProgressBar(desc="listing", unit=" files", delay=1, leave=False) as bar:
        of_class = {sub.name: image_files(sub, ignored, listed=bar.update) for sub in visible_folders(folder)}
        ignored[_OUTSIDE] += len(image_files(folder, ignored, recursive=False, listed=bar.update))
    names = [name for name, paths in of_class.items() if paths]
    if not names:
        there = f" (there are {words})" if (words := in_words(ignored)) else ""
        raise DataError(
            f"{folder}: there is no image in a class folder{there}; arrange them as {folder}/CLASS/IMAGE.jpg"
        )
    known = [name for name in names if not is_none_of_these(name, spec.class_names, str(folder))]
    require_known(known, spec.class_names, str(folder))
    return [_Image(path, path.relative_to(folder).as_posix(), name) for name in names for path in of_class[name]]


def _listed(path: Path, folder: Path, spec: ModelSpec) -> list[_Image]:
    """Returns the images of a table; those that do not exist are among them, for they count."""
    table = read_table(path, "name a CSV file").naming("path")
    columns = task_of(spec.task).label_columns(table.header, spec.class_names)
    if columns == ("class",):
        table = table.naming("class")
    require_names(table.header, ("path", *columns), str(path))
    if not table.rows:
        raise DataError(f"{path}: lists no image; write one a line as {','.join(('path', *columns))}")
    listed = ListedFiles((folder, path.parent))
    found = []
    for row, is_labelled in zip(table.rows, _labelled(table, columns), strict=True):
        file = listed.find(row) or folder / row.cells["path"]
        found.append(_Image(file, row.cells["path"], _label(row, columns, spec) if is_labelled else None))
    return found


def _labelled(table: Table, columns: Collection[str]) -> list[bool]:
    """Returns of each row whether it holds a label; without states all must."""
    cells = [row.cells for row in table.rows]
    if STATE not in table.header or not are_states(row[STATE] for row in cells):
        return [True] * len(cells)
    return [state == "labelled" for state in states_of(cells, columns)]


def _label(row: Row, columns: tuple[str, ...], spec: ModelSpec) -> Truth | None:
    task = task_of(spec.task)
    if task.is_exclusive and task.has_classes and not row.cells[columns[0]]:
        raise row.wrong(columns[0], f"is empty; write {UNLABELLED!r} for an image that is not to be scored")
    if columns in (("class",), ("classes",)):
        return task.truth_of_text(row.cells[columns[0]], spec.class_names, row.place)
    if task.has_classes:
        return task.truth_of_numbers(columns, [float(row.flag(name)) for name in columns])
    return task.truth_of_numbers(columns, [number(row, name) for name in columns])
