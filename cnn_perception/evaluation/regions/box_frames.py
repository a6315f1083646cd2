"""The boxes of another detector in a bag as frames: what is shown of each, by the node's own way, and what is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cnn_perception.bag.reader import Bag, StampedImage
from cnn_perception.errors import DataError, FrameError
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.labelled_frames import LabelledFrame, LabelledFrames
from cnn_perception.evaluation.regions.known_boxes import known_boxes
from cnn_perception.evaluation.regions.recorded_boxes import detections_of_images
from cnn_perception.image.listing import in_words
from cnn_perception.image.messages import EncodedImage, Overrides, RgbImage, decode_frame
from cnn_perception.label_text import Truth
from cnn_perception.model.spec import ModelSpec
from cnn_perception.regions.answering import RegionSettings, crops
from cnn_perception.regions.box import Box
from cnn_perception.regions.box_scale import BoxScale
from cnn_perception.regions.matching import require_upright
from cnn_perception.regions.refusals import Refusals
from cnn_perception.stream.frozen import PictureSample
from cnn_perception.stream.odd_pictures import OddPictures
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


class _Shown:
    """What is odd about the boxes of a recording, and about the pictures that have some, while they are read.

    Attributes:
        pictures: Takes what each of those showed.
    """

    def __init__(self) -> None:
        self._scale = BoxScale()
        self._refusals = Refusals()
        self.pictures = OddPictures()

    def add(self, box: Box, content: RgbImage | FrameError, height: int, width: int) -> None:
        """Takes what is shown of a box in an image of so many rows and columns, or why nothing is."""
        if isinstance(content, FrameError):
            self._refusals.add(content)
        else:
            self._scale.add(box, height, width)

    def warnings(self) -> list[str]:
        """Returns a line for each kind; none where nothing is odd."""
        found = self._refusals
        lines = [f"{count} boxes: {reason}: {found.examples[reason]}" for reason, count in found.counts.items()]
        return [*lines, *filter(None, [self._scale.suspicion]), *self.pictures.warnings("images")]


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
    recorded = detections_of_images(bag, options.rois, frame_ids, ignored, "boxes")
    if not recorded:
        raise DataError(
            f"{bag.path}: no message of {options.rois} belongs to an image of {topic.name} ({in_words(ignored)}); name "
            "its images with --topic"
        )
    of_stamp = {stamp_ns: [Box.from_message(one) for one in found] for stamp_ns, found in recorded.items()}
    known = known_boxes(bag, options.labels, options.truth, task_of(spec.task).is_exclusive, frame_ids)
    where = options.labels or options.truth
    found = {}
    for stamp_ns, boxes in of_stamp.items():
        texts = known.texts(stamp_ns, boxes)
        truths = [task_of(spec.task).truth_of_text(text, spec.class_names, where) if text else None for text in texts]
        found[stamp_ns] = _Boxes(boxes, truths)

    ignored += known.ignored()
    doubts = known.doubts()
    warnings = [doubt.text for doubt in doubts if not doubt.prevails]
    said = len(warnings)

    def read() -> Iterator[LabelledFrame]:
        index = 0
        shown = _Shown()
        for number, image in enumerate(bag.images(topic)):
            if image.stamp_ns in found:
                boxes = found[image.stamp_ns]
                for frame in _frames_of_image(image, number, index, boxes, options, spec, bag.start_ns, shown):
                    yield frame
                    index += 1
        warnings[said:] = [*bag.warnings, *shown.warnings()]

    def unused(_records: Sequence[FrameRecord]) -> list[str]:
        return [known.unused()] if known.unused() else []

    count = sum(len(one.boxes) for one in found.values())
    faults = [doubt.text for doubt in doubts if doubt.prevails]
    return LabelledFrames(
        bag.path, topic.name, count, read, bag.damage, unused, dict(ignored), bag.topics, warnings, faults
    )


def _frames_of_image(
    image: StampedImage,
    number: int,
    first: int,
    known: _Boxes,
    options: BoxOptions,
    spec: ModelSpec,
    zero_ns: int,
    shown: _Shown,
) -> Iterator[LabelledFrame]:
    """Yields the boxes of one image; of one that cannot be used each says why."""
    contents = _contents(image, known, options, spec, shown)
    for place, (box, truth, content) in enumerate(zip(known.boxes, known.truths, contents, strict=True)):
        record = FrameRecord(
            index=first + place,
            name=f"image {number}, box {box.id or place}",
            stamp_ns=image.stamp_ns,
            time_s=(image.log_time_ns - zero_ns) / 1e9,
            truth=truth,
            received_ns=image.log_time_ns,
            has_time=image.has_time,
        )
        yield LabelledFrame(record, content if isinstance(content, FrameError) else _encoded(content))


def _contents(
    image: StampedImage, known: _Boxes, options: BoxOptions, spec: ModelSpec, shown: _Shown
) -> Iterator[RgbImage | FrameError]:
    try:
        if isinstance(image.frame, FrameError):
            raise image.frame
        decoded = decode_frame(image.frame.overridden(options.overrides))
        require_upright(decoded.seen)
    except FrameError as refusal:
        yield from [refusal] * len(known.boxes)
        return
    pixels = decoded.image
    shown.pictures.add(decoded.seen, PictureSample.of(pixels, image.stamp_ns))
    contents = crops(pixels, known.boxes, options.regions, spec.input)
    for box, content in zip(known.boxes, contents, strict=True):
        shown.add(box, content, *pixels.shape[:2])
        yield content


def _encoded(pixels: RgbImage) -> EncodedImage:
    height, width = pixels.shape[:2]
    return EncodedImage(pixels.tobytes(), "rgb8", height, width, 3 * width, is_bigendian=False)
