"""What a model says of each box of an image: the one way of it, on the robot and in an evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cnn_perception.errors import ConfigError, FrameError
from cnn_perception.image.messages import RgbImage
from cnn_perception.model.spec import InputSpec
from cnn_perception.pipeline.pipeline import Pipeline, Prepared
from cnn_perception.regions.box import Box
from cnn_perception.regions.cropping import CropSettings, crop
from cnn_perception.tasks.prediction import Prediction

MOST_BOXES = 100
BEYOND = "beyond_rois_max"
"""The reason for which a box is not answered that exceeds the limit."""


@dataclass(frozen=True)
class RegionSettings:
    """Which boxes of an image are answered, and how.

    Attributes:
        crop: How much around each is shown to the network.
        most: Most boxes of one image that are answered: those with the largest scores of the detector, of equal ones
            the first.
        batch_size: Most boxes in one run of the model.

    Raises:
        ConfigError: If a number is less than 1.
    """

    crop: CropSettings = field(default_factory=CropSettings)
    most: int = MOST_BOXES
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.most < 1 or self.batch_size < 1:
            raise ConfigError(f"{self.most} boxes, {self.batch_size} at once; both are 1 at least")


def answer_boxes(
    pipeline: Pipeline, image: RgbImage, boxes: Sequence[Box], settings: RegionSettings
) -> list[Prediction | FrameError]:
    """Returns what is recognised in each box, in their order, or why it is not answered: `prepare`, then `infer`.

    Args:
        pipeline: The model.
        image: (H, W, 3) uint8.
        boxes: Of this image; each is judged by itself.
        settings: Which of them are answered, and how.

    Raises:
        FrameError: If the model fails, which costs all boxes of this image.
    """
    return infer_boxes(pipeline, prepare_boxes(pipeline, image, boxes, settings), settings.batch_size)


def prepare_boxes(
    pipeline: Pipeline, image: RgbImage, boxes: Sequence[Box], settings: RegionSettings
) -> Iterator[Prepared | FrameError]:
    """Yields each box as the model's input, in their order, or why it is not answered; see `answer_boxes`."""
    for part in crops(image, boxes, settings, pipeline.spec.input):
        yield part if isinstance(part, FrameError) else pipeline.prepare_image(part)


def crops(
    image: RgbImage, boxes: Sequence[Box], settings: RegionSettings, spec: InputSpec
) -> Iterator[RgbImage | FrameError]:
    """Yields what is shown of each box, in their order, or why it is not answered; see `answer_boxes`."""
    red, green, blue = (round(255.0 * mean) for mean in spec.mean)
    chosen = _most_sure(boxes, settings.most)
    beyond = FrameError(BEYOND, f"of {len(boxes)} boxes of one image the {settings.most} surest are answered")
    for place, box in enumerate(boxes):
        if place not in chosen:
            yield beyond
            continue
        try:
            part: RgbImage | FrameError = crop(image, box, settings.crop, (red, green, blue))
        except FrameError as refusal:
            part = refusal
        yield part


def infer_boxes(
    pipeline: Pipeline, parts: Iterable[Prepared | FrameError], batch_size: int
) -> list[Prediction | FrameError]:
    """Returns the answers to prepared boxes, in their order, by runs of so many at once.

    Raises:
        FrameError: If the model fails.
    """
    answers: dict[int, Prediction | FrameError] = {}
    waiting: dict[int, Prepared] = {}
    for place, part in enumerate(parts):
        if isinstance(part, FrameError):
            answers[place] = part
            continue
        waiting[place] = part
        if len(waiting) == batch_size:
            answers |= _inferred(pipeline, waiting)
            waiting = {}
    answers |= _inferred(pipeline, waiting)
    return [answers[place] for place in sorted(answers)]


def _most_sure(boxes: Sequence[Box], most: int) -> frozenset[int]:
    """Returns the places of the boxes of the largest scores, of equal ones those that come first."""
    return frozenset(sorted(range(len(boxes)), key=lambda place: -boxes[place].score)[:most])


def _inferred(pipeline: Pipeline, prepared: Mapping[int, Prepared]) -> dict[int, Prediction | FrameError]:
    """Returns the answers of one run of the model, by the same keys."""
    if not prepared:
        return {}
    results = pipeline.infer_batch(list(prepared.values()), activation=False)
    return {
        place: result if isinstance(result, FrameError) else result.prediction
        for place, result in zip(prepared, results, strict=True)
    }
