"""Which frames a model was unsure of: those that are worth a human's label."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cnn_perception.errors import ConfigError
from cnn_perception.image.messages import EncodedFile, EncodedImage, RgbImage
from cnn_perception.model.spec import ModelSpec
from cnn_perception.tasks.prediction import Prediction
from cnn_perception.tasks.registry import task_of

RecordFormat = Literal["folder", "bag"]
Reason = Literal["unknown", "margin"]


@dataclass(frozen=True)
class RecorderSettings:
    """Which frames are kept, and where.

    Attributes:
        folder: Where they go; what lies in it already counts for `max_mb`.
        format: `folder`: image files and a CSV file to label them in; `bag`: a rosbag2 for each session.
        margin: A frame is kept if its margin, see `TaskRules.margin`, is less than this, in [0, 1].
        unknown: Whether frames answered `unknown` are kept.
        max_mb: Largest size of the folder, megabytes of 10^6 bytes.
        max_rate_hz: Most frames of one camera that are kept a second.

    Raises:
        ConfigError: If a value is out of range, or no frame would ever be kept.
    """

    folder: Path
    format: RecordFormat
    margin: float
    unknown: bool
    max_mb: float
    max_rate_hz: float

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= 1:
            raise ConfigError(f"the recorder's margin is {self.margin}; choose 0 to 1")
        if not (self.margin or self.unknown):
            raise ConfigError(
                "the recorder's margin is 0 and unknown frames are not wanted; choose one, or record none"
            )
        for name, value in (("max_mb", self.max_mb), ("max_rate_hz", self.max_rate_hz)):
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"the recorder's {name} is {value}; choose a number above 0")

    def check(self, spec: ModelSpec) -> None:
        """Refuses a model that is never unsure.

        Raises:
            ConfigError: If the model answers with numbers, or can only be unsure in a way that is not wanted.
        """
        if not task_of(spec.task).has_classes:
            raise ConfigError(f"the recorder keeps frames by their scores; a {spec.task} model has none: switch it off")
        if not self.margin and spec.unknown is None:
            raise ConfigError("the recorder keeps unknown frames only, but the model has no unknown rule; set a margin")


@dataclass(frozen=True)
class Origin:
    """Where a frame comes from.

    Attributes:
        camera: The camera's name; empty where there is but one.
        topic: Fully qualified name of its image topic.
        stamp_ns: Stamp of the image's header, nanoseconds.
        frame_id: Of the image's header.
    """

    camera: str
    topic: str
    stamp_ns: int
    frame_id: str


@dataclass(frozen=True, eq=False)
class UnsureFrame:
    """A frame that the model was unsure of and that is to be kept.

    Attributes:
        encoded: The image as it arrived.
        image: The same, decoded.
        prediction: What was recognised in it.
        origin: Where it comes from.
        reason: Why it is kept.
        received_ns: When it was offered, nanoseconds since 1970.
    """

    encoded: EncodedImage | EncodedFile
    image: RgbImage
    prediction: Prediction
    origin: Origin
    reason: Reason
    received_ns: int


def reason(prediction: Prediction, settings: RecorderSettings) -> Reason | None:
    """Returns why a frame is to be kept; None for one that the model was sure of, or that is not wanted."""
    if prediction.unknown:
        return "unknown" if settings.unknown else None
    return "margin" if task_of(prediction.task).margin(prediction) < settings.margin else None
