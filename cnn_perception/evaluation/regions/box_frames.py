"""The boxes of another detector in a bag as frames: what is shown of each, by the node's own way, and what is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cnn_perception.bag.message_types import DETECTIONS_TYPE
from cnn_perception.bag.reader import Bag, StampedImage
from cnn_perception.errors import DataError, FrameError
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.labelled_frames import LabelledFrame, LabelledFrames
from cnn_perception.evaluation.regions.known_boxes import known_boxes
from cnn_perception.image.messages import EncodedImage, Overrides, RgbImage, decode, nanoseconds
from cnn_perception.label_text import Truth
from cnn_perception.model.spec import ModelSpec
from cnn_perception.regions.answering import RegionSettings, crops
from cnn_perception.regions.box import Box
from cnn_perception.regions.matching import is_same_frame
from cnn_perception.tasks.registry import task_of


@dataclass(frozen=True)
class BoxOptions:
    """Which boxes are evaluated.

    Attributes:
        rois: Topic of the boxes, vision_msgs/Detection2DArray.
        labels: A CSV file with the classes of ids; empty for none.
        truth: A topic of boxes whose classes are true; empty for none.
        regions: Which boxes of an image are answered, and how.
        overrides: What is known better of the images than they say themselves.
    """

    rois: str
    labels: str
    truth: str
    regions: RegionSettings
    overrides: Overrides


@dataclass(frozen=True)
class _Boxes:
    """The boxes of one image, and what is known of each."""

    boxes: Sequence[Box]
    truths: Sequence[Truth | None]


def frames_of_boxes(bag: Bag, topic_name: str | None, options: BoxOptions, spec: ModelSpec) -> LabelledFrames:
    """Returns the boxes in the images of a bag's topic, each as a frame of its own.

    Args:
        bag: The open bag.
        topic_name: Its image topic; None takes the only one there is.
        options: Which boxes.
        spec: The model.

    Raises:
        DataError: If there is no such topic, no box belongs to an image, or the labels cannot be used.
    """
    topic = bag.image_topic(topic_name)
    frame_ids: dict[int, list[str]] = {}
    for image in bag.images(topic):
        frame_ids.setdefault(image.stamp_ns, []).append(image.frame_id)
    ignored: Counter[str] = Counter()
    of_stamp = _read_boxes(bag, options.rois, frame_ids, ignored)
    if not of_stamp:
        raise DataError(
            f"{bag.path}: no message of {options.rois} has the stamp of an image of {topic.name}; name its images with "
            "--topic"
        )
    known = known_boxes(bag, options.labels, options.truth, task_of(spec.task).is_exclusive, frame_ids)
    where = options.labels or options.truth
    found = {}
    for stamp_ns, boxes in of_stamp.items():
        texts = known.texts(stamp_ns, boxes)
        truths = [task_of(spec.task).truth_of_text(text, spec.class_names, where) if text else None for text in texts]
        found[stamp_ns] = _Boxes(boxes, truths)

    if left := known.unfound():
        ignored["known boxes that the detector has not found"] = left

    def read() -> Iterator[LabelledFrame]:
        index = 0
        for number, image in enumerate(bag.images(topic)):
            if image.stamp_ns in found:
                for frame in _frames_of_image(image, number, index, found[image.stamp_ns], options, spec, bag.start_ns):
                    yield frame
                    index += 1

    def unused(_records: Sequence[FrameRecord]) -> list[str]:
        return [known.unused()] if known.unused() else []

    count = sum(len(one.boxes) for one in found.values())
    return LabelledFrames(bag.path, topic.name, count, read, bag.damage, unused, dict(ignored), bag.topics)


def _read_boxes(
    bag: Bag, rois: str, frame_ids: Mapping[int, Sequence[str]], ignored: Counter[str]
) -> dict[int, list[Box]]:
    """Returns the boxes of each stamp, and counts those that nobody can tell the image of.

    Args:
        bag: The open bag.
        rois: Their topic.
        frame_ids: Of the images of each stamp.
        ignored: Is added to, by reason.
    """
    found: dict[int, list[Box]] = {}
    for _, message in bag.stamped_messages(rois, (DETECTIONS_TYPE,), "topics of boxes"):
        stamp_ns = nanoseconds(message.header.stamp)
        images = frame_ids.get(stamp_ns, ())
        if stamp_ns <= 0 or not images:
            ignored["messages of boxes with a stamp of no image"] += 1
        elif not is_same_frame(str(message.header.frame_id), images[0]):
            ignored["messages of boxes of another frame_id"] += 1
        elif len(images) > 1:
            ignored["messages of boxes with a stamp of several images"] += 1
        elif stamp_ns in found:
            ignored["messages of boxes after the first of an image"] += 1
        else:
            found[stamp_ns] = [Box.from_message(one) for one in message.detections]
    return found


def _frames_of_image(
    image: StampedImage,
    number: int,
    first: int,
    known: _Boxes,
    options: BoxOptions,
    spec: ModelSpec,
    zero_ns: int,
) -> Iterator[LabelledFrame]:
    """Yields the boxes of one image; of one that cannot be used each says why."""
    contents = _contents(image, known, options, spec)
    for place, (box, truth, content) in enumerate(zip(known.boxes, known.truths, contents, strict=True)):
        record = FrameRecord(
            index=first + place,
            name=f"image {number}, box {box.id or place}",
            stamp_ns=image.stamp_ns,
            time_s=(image.log_time_ns - zero_ns) / 1e9,
            truth=truth,
            received_ns=image.log_time_ns,
        )
        yield LabelledFrame(record, content if isinstance(content, FrameError) else _encoded(content))


def _contents(
    image: StampedImage, known: _Boxes, options: BoxOptions, spec: ModelSpec
) -> Iterator[RgbImage | FrameError]:
    try:
        if isinstance(image.frame, FrameError):
            raise image.frame
        pixels = decode(image.frame.overridden(options.overrides))
    except FrameError as refusal:
        return iter([refusal] * len(known.boxes))
    return crops(pixels, known.boxes, options.regions, spec.input)


def _encoded(pixels: RgbImage) -> EncodedImage:
    height, width = pixels.shape[:2]
    return EncodedImage(pixels.tobytes(), "rgb8", height, width, 3 * width, is_bigendian=False)
