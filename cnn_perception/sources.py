"""Labelled frames from a bag or from a folder of images: what the evaluation runs over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cnn_perception.bag import Bag, Topic
from cnn_perception.errors import DataError, FrameError
from cnn_perception.image import EncodedFile, EncodedImage
from cnn_perception.labels import Labels, require_known
from cnn_perception.results import FrameRecord

_IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True, eq=False)
class LabelledFrame:
    """A frame with what is known of it; `source` may be the reason why there is no image."""

    record: FrameRecord
    source: EncodedImage | EncodedFile | FrameError


@dataclass(frozen=True)
class Source:
    """Where the frames come from: `frames()` starts from the first one each time it is called."""

    path: Path
    topic: str
    count: int
    frames: Callable[[], Iterator[LabelledFrame]]
    damage: list[str] = field(default_factory=list)


def bag_source(bag: Bag, topic: Topic, labels: Labels | None, is_stamped: bool, origin_ns: int | None) -> Source:
    """Makes the frames of a bag's image topic.

    Args:
        bag: The open bag.
        topic: Its image topic.
        labels: Intervals on the time axis that the next two arguments give; None without labels.
        is_stamped: Whether the labels' times are header stamps, not times of reception.
        origin_ns: What is 0 s; None for the reception of the topic's first image.
    """

    def frames() -> Iterator[LabelledFrame]:
        zero_ns = origin_ns
        for index, image in enumerate(bag.images(topic)):
            zero_ns = image.log_time_ns if zero_ns is None else zero_ns
            since_zero_ns = image.log_time_ns - zero_ns
            truth = labels.at(image.stamp_ns if is_stamped else since_zero_ns) if labels else None
            yield LabelledFrame(FrameRecord(index, "", image.stamp_ns, since_zero_ns / 1e9, truth), image.frame)

    return Source(bag.path, topic.name, topic.count, frames, bag.damage)


def folder_source(folder: Path, classes: Sequence[str]) -> Source:
    """Makes the frames of a folder that has a folder of images for each class; hidden files are left out.

    Raises:
        DataError: If there is no image in it, or a folder is no class of the model.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; name one with a folder of images for each class")
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in _IMAGE_SUFFIXES and path.is_file()]
    parts = [(path, path.relative_to(folder).parts) for path in files]
    images = [(path, names) for path, names in parts if len(names) > 1 and not any(n.startswith(".") for n in names)]
    if not images:
        raise DataError(f"{folder}: there is no image in a class folder; arrange them as {folder}/CLASS/IMAGE.jpg")
    require_known({names[0] for _, names in images}, classes, str(folder))

    def frames() -> Iterator[LabelledFrame]:
        for index, (path, names) in enumerate(images):
            content: EncodedFile | FrameError
            try:
                content = EncodedFile(path.read_bytes(), "")
            except OSError as error:
                content = FrameError("unreadable", f"{path}: cannot be read ({error.strerror})")
            yield LabelledFrame(FrameRecord(index, "/".join(names), 0, 0.0, names[0]), content)

    return Source(folder, "", len(images), frames)
