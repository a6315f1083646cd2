"""The description that every model file carries in its own metadata: task, classes, preprocessing, provenance.

A model file is one ONNX graph whose metadata key `cnn_perception.spec` holds a `ModelSpec` as JSON.
Preprocessing, labels and provenance are written there once, at export, and nowhere else; the robot needs no
other file. Reading is strict: a missing, unknown or mistyped field is an error, never a default.
"""

from __future__ import annotations

import dataclasses
import json
import math
import reprlib
from dataclasses import dataclass
from typing import Any, Literal

from cnn_perception.errors import ModelError
from cnn_perception.model.spec_json import parsed, read_json

METADATA_KEY = "cnn_perception.spec"
GALLERY_KEY = "cnn_perception.gallery"
"""Metadata key of the gallery's embeddings: base64 of (names, dimensions) little-endian float32, rows of length 1."""
SPEC_VERSION = 4
OLDEST_VERSION = 3
"""Of a description that can still be read; what it does not say is then unknown, see `from_json`."""
UNKNOWN = "unknown"
"""What is answered where the unknown rule applies; then no class may have this name."""
ADOPTED = "adopted"
"""Mode of the training of a network that others have trained and exported, see `training.adopt`."""
ENSEMBLE = "ensemble"
"""Mode of the training of several networks whose mean score is answered, see `training.export`."""
CLASSES_MEASURED = "val_classes"
"""Among the metrics of an adopted network of how many of its classes there were images, where that is not all."""
TAKEN_FOR_EXCLUSIVE = (
    "that its classes exclude each other and its numbers are their logits, where no softmax at the end of its graph "
    "says so: it is what they were taken for at adoption"
)
"""What the certificate of any adopted network of one class an image leaves open."""

Task = Literal["multiclass", "multilabel", "regression"]
ResizeMode = Literal["crop", "letterbox", "squash"]
Interpolation = Literal["bilinear", "bicubic"]
ActivationMethod = Literal["cam", "grad-cam"]
ParitySource = Literal["validation", "noise"]
CheckedOutput = Literal["logits", "scores", "activation", "embedding", "score_map"]
UnknownMethod = Literal["energy", "distance"]
Precision = Literal["fp32", "fp16", "int8"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""RGB mean of ImageNet in [0, 1]. Source: torchvision.transforms._presets.ImageClassification."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""RGB standard deviation of ImageNet in [0, 1]. Source: as IMAGENET_MEAN."""


def _require(condition: bool, field: str, value: object) -> None:
    if not condition:
        raise ModelError(f"model spec: {field} is out of range: {value}")


@dataclass(frozen=True)
class InputSpec:
    """How an RGB image becomes the model's input tensor (see `preprocess`).

    Attributes:
        height: Rows of the input tensor, pixels.
        width: Columns of the input tensor, pixels.
        resize_mode: `crop` scales the image to cover the input and keeps the centre (torchvision's evaluation
            transform); `letterbox` scales it to fit inside and pads with the mean colour; `squash` ignores the
            aspect ratio. Crop loses the edges of a wide camera image, the other two do not.
        crop_fraction: Share of the covered image's shorter side that the centre crop keeps, in (0, 1];
            224 / 256 = 0.875 is torchvision's. Must be 1 for the other modes.
        interpolation: Antialiased filter of the resize.
        mean: RGB mean subtracted after scaling pixels to [0, 1].
        std: RGB divisor applied after that.
    """

    height: int
    width: int
    resize_mode: ResizeMode
    crop_fraction: float
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        _require(1 <= self.height <= 8192 and 1 <= self.width <= 8192, "input size", f"{self.height}x{self.width}")
        _require(0.0 < self.crop_fraction <= 1.0, "crop_fraction", self.crop_fraction)
        _require(self.resize_mode == "crop" or self.crop_fraction == 1.0, "crop_fraction", self.crop_fraction)
        _require(all(math.isfinite(v) for v in self.mean), "mean", self.mean)
        _require(all(math.isfinite(v) and v > 0 for v in self.std), "std", self.std)


@dataclass(frozen=True)
class ActivationSpec:
    """What one cell of the activation map means, in pixels of the model's input.

    Cell (r, c) sees the square of side `receptive_field` centred at `offset + stride * (r, c)`.

    Attributes:
        method: `cam` is the exact class activation map (Zhou et al. 2016) of a pooling + linear head: its mean
            over the cells plus the bias of the class is the logit. `grad-cam` weighs the features by the gradient
            of the head (Selvaraju et al. 2017).
        rows: Cells from top to bottom.
        columns: Cells from left to right.
        stride: Input pixels between neighbouring cells, (vertical, horizontal).
        receptive_field: Input pixels a cell depends on, (vertical, horizontal); 0 means the whole input.
        offset: Input pixel at the centre of cell (0, 0), (vertical, horizontal).
    """

    method: ActivationMethod
    rows: int
    columns: int
    stride: tuple[float, float]
    receptive_field: tuple[int, int]
    offset: tuple[float, float]

    def __post_init__(self) -> None:
        _require(self.rows >= 1 and self.columns >= 1, "activation grid", f"{self.rows}x{self.columns}")
        _require(all(v > 0 for v in self.stride), "activation stride", self.stride)
        _require(all(v >= 0 for v in self.receptive_field), "receptive_field", self.receptive_field)


@dataclass(frozen=True)
class TrainingRecord:
    """Where the weights come from.

    Attributes:
        mode: `probe`, `finetune`, `scratch`, `none` for an export of untrained weights, or `ADOPTED` for a network that
            others have trained, nobody here knows how: then `data` and `data_sha256` are of the images that it was
            measured on.
        weights: What training started from: `imagenet`, `none`, or a file name with its SHA-256; of an adopted network
            the file that it was adopted from.
        data: Name of the data set's folder, empty if there was none.
        data_sha256: Digest of the file names, labels and contents trained on, empty if there was none.
        train_images: Images trained on.
        val_images: Images the metrics were measured on.
        metrics: Validation metrics by name (`top1`, `top5`, ... in [0, 1]); of an adopted network that was measured on
            images of some of its classes alone their number, too, as `val_classes`.
        code_version: Version of this package.
        created: UTC time of the export, ISO 8601.
    """

    mode: str
    weights: str
    data: str
    data_sha256: str
    train_images: int
    val_images: int
    metrics: dict[str, float]
    code_version: str
    created: str

    def __post_init__(self) -> None:
        _require(self.train_images >= 0 and self.val_images >= 0, "training images", self.train_images)

    @property
    def is_adopted(self) -> bool:
        """Whether others have trained the network."""
        return self.mode == ADOPTED

    @property
    def is_ensemble(self) -> bool:
        """Whether it is several networks, whose mean score is answered."""
        return self.mode == ENSEMBLE


@dataclass(frozen=True)
class OutputCheck:
    """How far one output of the file is from what torch computes, by the measure of its precision.

    Of an adopted network torch stands for the graph that it was adopted from, here and in `ParityRecord`.

    Attributes:
        output: Which output; `scores` are those that the robot makes of the logits, over the temperature.
        difference: Of logits the largest difference: in fp32 as it is, in a smaller precision as a share of their
            range. Of scores the largest of an image, a mean over the images. Of all others the root of the mean
            squared difference as a share of torch's root mean square.
        tolerance: The largest difference that was accepted; fixed before anything was measured.
    """

    output: CheckedOutput
    difference: float
    tolerance: float

    def __post_init__(self) -> None:
        _require(0 <= self.difference <= self.tolerance, f"difference of {self.output}", self.difference)


@dataclass(frozen=True)
class ParityRecord:
    """Certificate of the export: how far the graph of the file computes what torch computed, whatever its precision is.

    It was measured on the file as it was written, and says nothing of another execution provider.

    Attributes:
        source: `validation` images, or seeded `noise` where there were none.
        images: How many inputs were compared.
        max_logit_difference: Largest absolute difference of a logit; of a number, in its standard deviations.
        tolerance: What was accepted of the logits, see `OutputCheck`; of a description of version 3 always of fp32.
        top1_agreement: Share of inputs with the same top class, the same set of labels over their thresholds, or all
            numbers within the tolerance, in [0, 1].
        provider: Execution provider that it was measured on; empty for a description of version 3.
        runtime: ONNX Runtime's version; empty likewise.
        outputs: Every output that the robot uses; empty likewise.
    """

    source: ParitySource
    images: int
    max_logit_difference: float
    tolerance: float
    top1_agreement: float
    provider: str = ""
    runtime: str = ""
    outputs: tuple[OutputCheck, ...] = ()

    def __post_init__(self) -> None:
        _require(self.images >= 0, "parity images", self.images)
        _require(self.max_logit_difference >= 0, "max_logit_difference", self.max_logit_difference)
        _require(self.tolerance >= 0, "tolerance", self.tolerance)
        _require(0 <= self.top1_agreement <= 1, "top1_agreement", self.top1_agreement)

    def beyond(self, provider: str) -> str:
        """Returns what has to be said where the file runs on another execution provider; empty where it does not."""
        if not self.provider or provider == self.provider:
            return ""
        measured = f"{self.provider} (ONNX Runtime {self.runtime})"
        return f"the model file was verified on {measured}, which says nothing of {provider}"


@dataclass(frozen=True)
class UnknownRule:
    """The rule by which an image shows none of the classes.

    Attributes:
        method: `energy`: the rule's score is logsumexp of the raw logits (Liu et al. 2020, with temperature 1);
            `distance`: minus the cosine distance of the embedding to the nearest of `centres`.
        threshold: An image whose score is below is unknown.
        false_alarm_rate: Share of the known validation images that the rule calls unknown, in [0, 1): of each by a
            threshold that was fitted to others. In a description of version 3 by the one that it was fitted to.
        auroc: How well the score tells known validation images from images of something else, in [0, 1]; None where
            no other images were given.
        outside_images: How many other images that was measured on.
        centres: One embedding of length 1 a class, for `distance`; empty for `energy`.
        promised_rate: The share that was asked for, in [0, 1); None in a description of version 3.
        known_images: How many known images this file's own answers were measured on, for `threshold` and
            `false_alarm_rate`; 0 where they are those of the network in torch.
    """

    method: UnknownMethod
    threshold: float
    false_alarm_rate: float
    auroc: float | None
    outside_images: int
    centres: tuple[tuple[float, ...], ...]
    promised_rate: float | None = None
    known_images: int = 0

    def __post_init__(self) -> None:
        _require(math.isfinite(self.threshold), "unknown threshold", self.threshold)
        _require(0 <= self.false_alarm_rate < 1, "false_alarm_rate", self.false_alarm_rate)
        _require(self.promised_rate is None or 0 <= self.promised_rate < 1, "promised_rate", self.promised_rate)
        _require(self.known_images >= 0, "known_images", self.known_images)
        _require(self.auroc is None or 0 <= self.auroc <= 1, "auroc", self.auroc)
        _require(self.outside_images >= 0, "outside_images", self.outside_images)
        _require((self.method == "distance") == bool(self.centres), "unknown centres", len(self.centres))
        _require(len({len(centre) for centre in self.centres}) <= 1, "unknown centres", "of different lengths")


@dataclass(frozen=True)
class PrecisionRecord:
    """In which arithmetic the graph computes, and the accuracy that this costs.

    Attributes:
        precision: `fp32`; `fp16` weights and activations; `int8` weights and 8-bit activations.
        calibration_images: Training images that the ranges of the 8-bit activations were measured on.
        images: Validation images on which both were compared; 0 where there were none.
        metric: What was compared, such as `top1`; empty for fp32.
        before: The metric of the fp32 graph.
        after: The metric of this graph.
    """

    precision: Precision
    calibration_images: int
    images: int
    metric: str
    before: float
    after: float

    def __post_init__(self) -> None:
        _require(self.calibration_images >= 0 and self.images >= 0, "precision images", self.images)


@dataclass(frozen=True)
class ScoreMapSpec:
    """What one cell of the score map means, in pixels of the image that the network is run on, at any size.

    The graph has the output `score_map` (N, K, rows, columns): cell (r, c) holds the logits of the classifier put at
    the window of `window` pixels centred at `offset + stride * (r, c)`. An image of the model's own input size has
    one cell, whose logits are `logits`.

    Attributes:
        stride: Pixels between neighbouring cells, (vertical, horizontal).
        window: Pixels of the window, (vertical, horizontal): the model's input size.
        offset: Pixel at the centre of cell (0, 0), (vertical, horizontal).
    """

    stride: tuple[float, float]
    window: tuple[int, int]
    offset: tuple[float, float]

    def __post_init__(self) -> None:
        _require(all(v > 0 for v in self.stride), "score map stride", self.stride)
        _require(all(v >= 1 for v in self.window), "score map window", self.window)


@dataclass(frozen=True)
class GallerySpec:
    """Reference images whose embeddings travel with the model, under the metadata key `GALLERY_KEY`.

    Attributes:
        names: One a reference image, such as `bees/092.jpg`, in the order of the embeddings.
        dimensions: Numbers of one embedding.
    """

    names: tuple[str, ...]
    dimensions: int

    def __post_init__(self) -> None:
        _require(bool(self.names) and all(self.names), "gallery names", f"{len(self.names)} names")
        _require(self.dimensions >= 1, "gallery dimensions", self.dimensions)


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of a quantity over images."""

    mean: float
    std: float

    def __post_init__(self) -> None:
        _require(math.isfinite(self.mean) and math.isfinite(self.std) and self.std >= 0, "moments", self)


@dataclass(frozen=True)
class TrainingStatistics:
    """Statistics of the training data, with which the node compares its camera's images to notice drift.

    Attributes:
        images: Validation images that the moments were measured on.
        class_shares: Share of the training images in each class, in [0, 1]; empty for regression.
        brightness: Mean of the model's input over pixels and channels before the normalisation, in [0, 1].
        entropy: Entropy of the calibrated scores, in nats; None unless multiclass.
    """

    images: int
    class_shares: tuple[float, ...]
    brightness: Moments
    entropy: Moments | None

    def __post_init__(self) -> None:
        _require(self.images >= 1, "statistics images", self.images)
        _require(all(0 <= share <= 1 for share in self.class_shares), "class_shares", self.class_shares)


FP32 = PrecisionRecord(precision="fp32", calibration_images=0, images=0, metric="", before=0.0, after=0.0)


@dataclass(frozen=True)
class ModelSpec:
    """Everything the runtime knows about a model.

    The graph has one input, `image` (N, 3, height, width) float32, and the outputs `logits` (N, K), `embedding`
    (N, D) and, unless `activation` is None, `activation` (N, rows, columns), all float32. Where `score_map` is given,
    height and width of the graph's input are free, for the output `score_map` (N, K, rows, columns) alone.

    Attributes:
        version: Version of this layout; always `SPEC_VERSION`.
        task: What the logits mean. `multiclass`: one class an image, scores are their softmax over the temperature;
            `multilabel`: any number of classes, scores are the sigmoid of each over the temperature; `regression`: the
            logits are K numbers in their units.
        architecture: Name of the backbone, such as `resnet18`.
        class_names: The K classes, or the names of the K numbers, in the order of the logits.
        units: Of each number, empty texts allowed, for `regression`; empty otherwise.
        input: The preprocessing.
        activation: The activation map; None where the network keeps no places, or none that were found.
        temperature: Logits are divided by it before softmax or sigmoid; 1 is uncalibrated.
        thresholds: Score from which each class counts as seen, for `multilabel`; empty otherwise.
        unknown: When a `multiclass` image shows none of the classes; None where no rule was fitted.
        training: Provenance of the weights.
        parity: Certificate of the export.
        precision: In which arithmetic the graph computes.
        score_map: The classifier run over a whole image; None where the network is not convolutional throughout.
        gallery: Reference images to compare an embedding with; None where none were exported.
        statistics: What the training images looked like; None where there were none.
    """

    version: int
    task: Task
    architecture: str
    class_names: tuple[str, ...]
    units: tuple[str, ...]
    input: InputSpec
    activation: ActivationSpec | None
    temperature: float
    thresholds: tuple[float, ...]
    unknown: UnknownRule | None
    training: TrainingRecord
    parity: ParityRecord
    precision: PrecisionRecord
    score_map: ScoreMapSpec | None
    gallery: GallerySpec | None
    statistics: TrainingStatistics | None

    def __post_init__(self) -> None:
        _require(self.version == SPEC_VERSION, "version", f"{self.version}, this package reads {SPEC_VERSION}")
        count = len(self.class_names)
        needed = 2 if self.task == "multiclass" else 1
        _require(count >= needed, "class_names", f"{count} names, at least {needed} are needed")
        _require(all(self.class_names), "class_names", "one is empty")
        _require(len(set(self.class_names)) == len(self.class_names), "class_names", "one occurs twice")
        _require(math.isfinite(self.temperature) and self.temperature > 0, "temperature", self.temperature)
        _require(len(self.units) == (count if self.task == "regression" else 0), "units", self.units)
        _require(len(self.thresholds) == (count if self.task == "multilabel" else 0), "thresholds", self.thresholds)
        _require(all(0 <= value <= 1 for value in self.thresholds), "thresholds", self.thresholds)
        _require(self.unknown is None or self.task == "multiclass", "unknown", f"set for {self.task}")
        shares = 0 if self.task == "regression" else count
        _require(self.statistics is None or len(self.statistics.class_shares) == shares, "class_shares", "their number")
        clash = self.unknown is not None and UNKNOWN in self.class_names
        _require(not clash, "class_names", f"{UNKNOWN!r}, which the unknown rule answers; rename the class")

    @property
    def reference(self) -> str:
        """What the certificate compares the file with."""
        return "the original graph" if self.training.is_adopted else "torch"

    @property
    def is_calibrated(self) -> bool:
        """Whether its scores were fitted to labelled images, so that they hold as often as they say.

        They were not where there were none: of an adopted network without `--data`, of untrained weights, of several
        networks without an image that none has learned from, of a training that was interrupted. Numbers have none.
        The temperature tells it: a fit to images does not end at just 1.
        """
        return self.temperature != 1.0

    def unproven(self) -> tuple[str, ...]:
        """Returns what the certificate of an adopted network leaves open, a line each; of one trained here nothing."""
        training = self.training
        if not training.is_adopted:
            return ()
        told = [
            f"how and on what {training.weights} was trained: unknown",
            "whether those who trained it prepared images as this description says: it is what was said at adoption",
        ]
        if self.task == "multiclass":
            told.append(TAKEN_FOR_EXCLUSIVE)
        if self.input.resize_mode == "letterbox":
            told.append(
                "whether those who trained it padded as a letterbox does here, with the mean colour, which is 0 behind "
                "the normalisation: many programs pad with grey or black"
            )
        if self.parity.source == "noise":
            told.append("that it answers real images as the original does: they were compared on noise alone")
        if training.val_images:
            told.append(f"that the {training.val_images} images of {training.data} are none that it was trained on")
        else:
            told.append("how often it is right, and how sure its scores are: no labelled images were given")
        return (*told, *filter(None, [self.classes_without_images()]))

    def classes_without_images(self) -> str:
        """Returns of how many classes of an adopted network there were no images, in words; empty where of none."""
        if CLASSES_MEASURED not in self.training.metrics:
            return ""
        there, count = int(self.training.metrics[CLASSES_MEASURED]), len(self.class_names)
        return f"anything of {count - there} of its {count} classes: no images of them were given"

    def to_json(self) -> str:
        """Returns the JSON text that `from_json` reads."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Returns the spec that `to_json` wrote.

        Raises:
            ModelError: If it is no JSON, or a field is missing, unknown, of the wrong type or out of range.
        """
        try:
            value = read_json(text)
        except ValueError as error:
            raise ModelError(f"the model's spec is not JSON ({error}); export the model again") from None
        version = value.get("version") if isinstance(value, dict) else None
        if version not in range(OLDEST_VERSION, SPEC_VERSION + 1) or isinstance(version, bool | float):
            found = reprlib.repr(version)
            raise ModelError(
                f"the model's spec has version {found}, this package reads {OLDEST_VERSION} to {SPEC_VERSION}; export "
                "the model again"
            )
        spec: ModelSpec = parsed(cls, _as_now(value), "spec")
        return spec


_SINCE_4: dict[str, dict[str, object]] = {
    "parity": {"provider": "", "runtime": "", "outputs": []},
    "unknown": {"promised_rate": None, "known_images": 0},
}
"""What a record says since version 4, and what that is where an older description does not say it."""


def _as_now(value: dict[str, Any]) -> dict[str, Any]:
    """Returns a description of an older version as one of this version; a field that it cannot have stays an error."""
    if value["version"] == SPEC_VERSION:
        return value
    newer = dict(value) | {"version": SPEC_VERSION}
    for name, added in _SINCE_4.items():
        record = value.get(name)
        if isinstance(record, dict):
            if early := sorted(record.keys() & added.keys()):
                raise ModelError(
                    f"model spec.{name}: missing fields [], unknown fields {early}; export the model again"
                )
            newer[name] = record | added
    return newer
