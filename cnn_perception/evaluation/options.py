"""What is evaluated on what, and what it has to reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cnn_perception.comparison.baseline import sources_of
from cnn_perception.comparison.verdict import Doubt
from cnn_perception.errors import ConfigError
from cnn_perception.evaluation.replay import WORKERS
from cnn_perception.evaluation.report_record import Target
from cnn_perception.image.messages import Overrides
from cnn_perception.label_table import is_table, require_table_for_start
from cnn_perception.model.onnx_model import DEFAULT_PROVIDERS
from cnn_perception.model.spec import ModelSpec
from cnn_perception.regions.answering import MOST_BOXES, RegionSettings
from cnn_perception.regions.cropping import CropSettings
from cnn_perception.results_bag.frame_messages import ImagesAs
from cnn_perception.tasks.multiclass import KEPT_CLASSES
from cnn_perception.tasks.registry import GATES, TASKS, task_of
from cnn_perception.tasks.rules import Gate


@dataclass(frozen=True)
class EvaluationOptions:
    """What is evaluated on what, and what it has to reach: the options of `evaluate_bag`.

    Attributes:
        model: Model file made by training.export.
        output: Folder for the results; made if needed.
        bag: A rosbag2 folder, or a single .mcap or .db3 file; either this or `images`.
        images: A folder with a folder of images for each class.
        topic: Image topic of the bag; None takes the only one there is.
        encoding: What the pixels are, in place of what the messages say; empty for what they say.
        significant_bits: How many bits of 16-bit images are used; 0 for what the encoding says.
        labels: A CSV file or a topic of the bag; empty for none, or for class folders.
        labels_start: What 0 s in the CSV file is: the bag's first message of any topic, or its first image.
        min_accuracy: Required top-1 accuracy of a multiclass model, in [0, 1].
        min_map: Required mean average precision of a multilabel model, in [0, 1].
        max_mae: Largest allowed mean absolute error of each number of a regression model, in its unit.
        threshold: Score in [0, 1] below which the robot publishes nothing; multiclass only.
        top_k: Classes listed in pictures and video.
        providers: ONNX Runtime execution providers, the preferred first.
        video: Whether a bag's frames are drawn into an overlay video, which takes longest.
        masks: Folder of masks that the score map is scored with; multiclass only.
        mask_scale: How much larger than its own pixels the network sees each image for that, above 0.
        baseline: What the model is compared with: report.json of an earlier evaluation, its folder, or a model file.
        max_loss: The loss that is allowed beside it, in points: hundredths of right answers, or of its mean error.
        on_doubt: Whether a model passes of which a larger loss is neither proven nor ruled out.
        results_bag: Whether the results are left as a bag, too, with each image copied or only said where it is; None
            for no such bag.
        workers: Frames in work at the same time, each on a core.
        is_one_of_several: Whether other bags are evaluated at the same time, so that latencies would mean nothing.
        needs_all_labels: Whether each label must meet a frame, as where something is required of this bag anyway.
        rois: Topic of another detector's boxes, each of which is then a frame of its own; empty for none.
        truth: Topic of boxes whose classes are true, for `rois`; empty for none, or where `labels` says them by ids.
        rois_padding: What is shown on each side of a box, as a share of it.
        rois_square: Whether boxes are made square.
        rois_max: Most boxes of one image, the surest first.

    Raises:
        ConfigError: If they contradict each other, or a value is out of range; names the option.
    """

    model: Path
    output: Path
    bag: Path | None = None
    images: Path | None = None
    topic: str | None = None
    encoding: str = ""
    significant_bits: int = 0
    labels: str = ""
    labels_start: Literal["bag", "image"] = "bag"
    min_accuracy: float | None = None
    min_map: float | None = None
    max_mae: float | None = None
    threshold: float = 0.0
    top_k: int = 3
    providers: Sequence[str] = DEFAULT_PROVIDERS
    video: bool = True
    masks: Path | None = None
    mask_scale: float = 1.0
    baseline: Path | None = None
    max_loss: float = 0.0
    on_doubt: Doubt = "pass"
    results_bag: ImagesAs | None = None
    workers: int = WORKERS
    is_one_of_several: bool = False
    needs_all_labels: bool = False
    rois: str = ""
    truth: str = ""
    rois_padding: float = 0.0
    rois_square: bool = False
    rois_max: int = MOST_BOXES

    def __post_init__(self) -> None:
        if (self.bag is None) == (self.images is None):
            raise ConfigError("name either a bag (--bag) or a folder of images (--images)")
        if self.images is not None and self.topic:
            raise ConfigError("--topic belongs to --bag")
        if self.images is not None and self.results_bag:
            raise ConfigError("--results-bag belongs to --bag: images in a folder have no times")
        if self.images is not None and self.labels and not is_table(self.labels):
            raise ConfigError(f"--labels {self.labels}: for --images name a CSV file of their paths and labels")
        require_table_for_start(self.labels, self.labels_start)
        try:
            self.overrides  # noqa: B018 - made to be checked
        except ConfigError as error:
            raise ConfigError(f"--{error}".replace("significant_bits", "significant-bits")) from None
        if not 0.0 <= self.threshold <= 1.0:
            raise ConfigError(f"--threshold is {self.threshold}; choose 0 to 1")
        for gate, limit in self._required():
            if not gate.accepts(limit):
                raise ConfigError(f"{self._flag(gate)} is {limit}; choose {gate.limits}")
        self._require_fitting_rois()
        given = [self._flag(gate) for gate, _ in self._required()]
        if given and not (self.labels or self.truth or self.images):
            raise ConfigError(f"{' or '.join(given)} needs --labels: without them there is nothing to compare with")
        if self.baseline is not None and not (self.labels or self.images):
            raise ConfigError("--baseline needs --labels: without them nobody knows which answer is right")
        if self.baseline is None and (self.max_loss or self.on_doubt != "pass"):
            raise ConfigError("--max-loss and --on-doubt belong to --baseline; name what is compared with")
        if not 0.0 <= self.max_loss <= 100.0:
            raise ConfigError(f"--max-loss is {self.max_loss}; choose 0 to 100 points")
        if not 0.0 < self.mask_scale < math.inf:
            raise ConfigError(f"--mask-scale is {self.mask_scale}; choose a number above 0, such as 1")
        if not 1 <= self.top_k <= KEPT_CLASSES:
            raise ConfigError(f"--top-k is {self.top_k}; choose 1 to {KEPT_CLASSES}")

    def _require_fitting_rois(self) -> None:
        """Makes sure that what is said of boxes, and beside them, makes sense."""
        if not self.rois:
            if self.truth or self.rois_padding or self.rois_square or self.rois_max != MOST_BOXES:
                raise ConfigError(
                    "--truth, --rois-padding, --rois-square and --rois-max belong to --rois; name a topic"
                )
            return
        beside = {"--images": self.images, "--masks": self.masks, "--baseline": self.baseline}
        foreign = [name for name, value in beside.items() if value is not None]
        foreign += ["--results-bag"] if self.results_bag is not None else []
        if foreign:
            raise ConfigError(f"leave {', '.join(foreign)} out: with --rois each box is a frame of its own")
        if self.labels and self.truth:
            raise ConfigError("--labels and --truth both say what the boxes show; choose one")
        try:
            self.regions  # noqa: B018 - made to be checked
        except ConfigError as error:
            raise ConfigError(f"--rois-padding or --rois-max: {error}") from None

    @property
    def regions(self) -> RegionSettings:
        """Which boxes of an image are evaluated, and how."""
        return RegionSettings(CropSettings(self.rois_padding, self.rois_square), self.rois_max)

    @property
    def overrides(self) -> Overrides:
        """What is known better of the images than they say themselves."""
        return Overrides(self.encoding, self.significant_bits)

    @property
    def target(self) -> Target | None:
        """What has to be reached; None if nothing has."""
        return next((Target(gate.metric, limit) for gate, limit in self._required()), None)

    def require_fit(self, spec: ModelSpec) -> None:
        """Makes sure that what is required can be told of a model.

        Raises:
            ConfigError: If an option is for models of another task.
        """
        gates = task_of(spec.task).gates
        right = self._flag(gates[0]) if gates else "leave it out"
        if self.rois and not task_of(spec.task).has_classes:
            raise ConfigError(f"--rois answers boxes with classes, this model is {spec.task}; leave it out")
        if self.threshold and not task_of(spec.task).is_exclusive:
            raise ConfigError(f"--threshold is for one class an image, this model is {spec.task}; leave it out")
        if self.masks and not task_of(spec.task).is_exclusive:
            raise ConfigError(f"--masks is for one class a pixel, this model is {spec.task}; leave it out")
        for name, task in TASKS.items():
            for gate, _ in self._required():
                if name != spec.task and gate in task.gates:
                    raise ConfigError(f"{self._flag(gate)} is for {name} models; {self.model} is {spec.task}: {right}")

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The files that are read beside the frames."""
        labels = (Path(self.labels),) if self.labels else ()
        return (self.model, *labels, *(sources_of(self.baseline) if self.baseline else ()))

    def _flag(self, gate: Gate) -> str:
        """Returns how a limit is written on the command line; that of one of several bags is of each."""
        each = "-each" if self.is_one_of_several else ""
        return f"--{gate.option.replace('_', '-')}{each}"

    def _required(self) -> list[tuple[Gate, float]]:
        """Returns the limits that were given."""
        limits = [(gate, getattr(self, gate.option)) for gate in GATES]
        return [(gate, limit) for gate, limit in limits if limit is not None]
