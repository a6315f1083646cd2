"""What is collected from where: the options of `training.collect`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cnn_perception.errors import ConfigError
from cnn_perception.image.messages import Overrides
from cnn_perception.model.spec import Task
from training.collect.parts import Division

Trigger = Literal["rate", "key", "service"]
"""When a frame of a running camera is taken: so often, at Enter in the terminal, at a call of the service."""

MIN_DISTANCE = 0.2
"""Of two frames of a camera that is driven, one in three is kept; of one that stands, as long as nothing moves, none.
See `description.edges_and_colours`."""
DOUBT_SHARE = 0.5


@dataclass(frozen=True)
class CollectOptions:
    """What is collected from where.

    Attributes:
        output: Folder of the data set; made if needed, and added to where it is there.
        bags: Recordings, folders of them, and patterns.
        images: Folders of images.
        recorded: Folders that perception nodes recorded unsure frames in.
        topics: Image topics of the recordings, or one of a running camera where there is no other source.
        model: Model file that guesses; None for none.
        shadow: Model file that may disagree with it.
        checkpoint: Of a training run, whose features say what looks alike; None for none.
        backbone: Name of a network whose features say it.
        weights: Of that network, as for training.train.
        weight_classes: How many classes the weights are for, where they do not say it.
        classes: File of the names that may be chosen, one a line.
        task: What is labelled, where no model says it; None for what the data set says, or one class an image.
        budget: How many frames are wanted; None takes all that differ.
        doubt_share: Share of the budget for the frames in most doubt, in [0, 1].
        min_distance: Frames nearer than this to the last one kept are left out, in [0, 2]; 0 keeps all.
        division: How recordings are divided into parts.
        overrides: What is known better of the recordings' images.
        rate_hz: How often a frame of a running camera is taken.
        seconds: How long; None until Ctrl-C.
        trigger: What takes it.

    Raises:
        ConfigError: If they contradict each other, or a value is out of range; names the option.
    """

    output: Path
    bags: tuple[Path, ...] = ()
    images: tuple[Path, ...] = ()
    recorded: tuple[Path, ...] = ()
    topics: tuple[str, ...] = ()
    model: Path | None = None
    shadow: Path | None = None
    checkpoint: Path | None = None
    backbone: str | None = None
    weights: str | None = None
    weight_classes: str | None = None
    classes: Path | None = None
    task: Task | None = None
    budget: int | None = None
    doubt_share: float = DOUBT_SHARE
    min_distance: float = MIN_DISTANCE
    division: Division = field(default_factory=Division)
    overrides: Overrides = field(default_factory=Overrides)
    rate_hz: float = 1.0
    seconds: float | None = None
    trigger: Trigger = "rate"

    def __post_init__(self) -> None:
        if not (self.bags or self.images or self.recorded or self.topics):
            raise ConfigError("name what to collect from: --bag, --images, --recorded, or --topic of a running camera")
        if self.topics and (self.images or self.recorded) and not self.bags:
            raise ConfigError("--topic belongs to --bag, or stands alone for a running camera")
        if self.is_live and len(self.topics) > 1:
            raise ConfigError("--topic: one running camera at a time; start another command for the next")
        self._check_numbers()
        self._check_networks()

    @property
    def is_live(self) -> bool:
        """Whether a running camera is meant."""
        return not (self.bags or self.images or self.recorded)

    def _check_numbers(self) -> None:
        if self.budget is not None and self.budget < 1:
            raise ConfigError(f"--budget is {self.budget}; choose 1 or more, or leave it out to take all that differ")
        if not 0.0 <= self.doubt_share <= 1.0:
            raise ConfigError(f"--doubt-share is {self.doubt_share}; choose 0 to 1")
        if not 0.0 <= self.min_distance <= 2.0:
            raise ConfigError(f"--min-distance is {self.min_distance}; choose 0 to 2")
        if not 0.0 < self.rate_hz <= 1000.0:
            raise ConfigError(f"--rate is {self.rate_hz}; choose a number of frames a second above 0, up to 1000")
        if self.seconds is not None and not 0.0 < self.seconds < math.inf:
            raise ConfigError(f"--seconds is {self.seconds}; choose a number above 0")

    def _check_networks(self) -> None:
        if self.shadow is not None and self.model is None:
            raise ConfigError("--shadow disagrees with --model; give both")
        if self.checkpoint is not None and self.backbone is not None:
            raise ConfigError("--checkpoint and --backbone both say what looks alike; leave one out")
        if (self.backbone is None) != (self.weights is None):
            raise ConfigError("--backbone and --weights belong together; give both")
        if self.model is not None and self.task is not None:
            raise ConfigError("--task: the model says it; leave it out")
