"""What labelled images say of an adopted file: how good it is, how sure its scores are, which images it does not know.

Nothing is learned from these images but temperature, thresholds and the unknown rule; whether the network has learned
from them before, nobody here knows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.model.spec import UNKNOWN, ModelSpec
from training.adopt import usual_preparations
from training.adopt.graph.image_input import ImageInput
from training.calibration import exported_rule
from training.calibration.embeddings import Predictions, for_centres
from training.calibration.fit import fit
from training.calibration.unknown_rule import MOST_CENTRES
from training.checkpoint import UNCALIBRATED, Checkpoint
from training.config import UnknownChoice
from training.data.load import DataOptions, load_images
from training.data.records import LabelledImages, Sample
from training.graphs.parity import prepared_image
from training.report.gain import chance_warning
from training.scoring.scores import ScoredLogits
from training.tasks.by_name import task_of

_LITTLE_LEARNED = "see --mean, --std, --channel-order, and the order of the names in --classes"
_HELD_OUT = 0.5
"""Share of the images that are measured on; of the others the centres of the classes are made."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured.

    Attributes:
        spec: The description, with temperature, thresholds, rule and accuracy.
        images: On which all was fitted and measured.
        remarks: What they say against how images are prepared, a line each.
    """

    spec: ModelSpec
    images: tuple[Path, ...]
    remarks: tuple[str, ...]


def load(source: Sequence[Path], spec: ModelSpec) -> LabelledImages:
    """Reads the labelled images.

    Raises:
        ConfigError: If their classes are not those of the model.
        DataError: If they are no data set.
    """
    options = DataOptions(val_fraction=_HELD_OUT, task=spec.task, class_names=spec.class_names)
    return load_images(source, options)


def measure(file: OnnxModel, data: LabelledImages, image: ImageInput, is_share: bool) -> Measured:
    """Measures a file on images.

    Args:
        file: As the robot loads it, with a temperature of 1 and no rule.
        data: The images.
        image: The input of the original.
        is_share: Whether its logits are logarithms of shares of 1, whose energy is always 0.

    Raises:
        ParityError: If its unknown rule does not keep what it promises.
        DataError: If an image cannot be read any more.
    """
    spec = file.spec
    found = {part: _predictions(file, samples, part) for part, samples in _parts(data).items()}
    held_out = {"val": found["val"]}
    fitted = fit(found["train"], held_out, None, spec.task, unknown=_rule(spec, is_share)).calibration
    truth = task_of(spec.task).targets(found["val"].samples)
    scored = ScoredLogits(found["val"].logits, truth, data)
    checkpoint = _as_checkpoint(spec, data, found["val"].samples)
    rule = exported_rule.refit(dataclasses.replace(checkpoint, calibration=fitted), exported_rule.run_of(file))
    training = dataclasses.replace(
        spec.training,
        data=data.name,
        data_sha256=data.sha256,
        val_images=len(found["val"]),
        metrics=_metrics(scored, fitted.thresholds),
    )
    measured = dataclasses.replace(
        spec, temperature=fitted.temperature, thresholds=fitted.thresholds, unknown=rule, training=training
    )
    chance = chance_warning(scored.report(fitted.thresholds), _LITTLE_LEARNED)
    remarks = (usual_preparations.better(file, image, found["val"].samples), chance)
    return Measured(measured, tuple(sample.path for sample in found["val"].samples), tuple(filter(None, remarks)))


def _parts(data: LabelledImages) -> dict[str, tuple[Sample, ...]]:
    return {"train": for_centres(data.part("train"), len(data.class_names)), "val": data.part("val")}


def _predictions(file: OnnxModel, samples: Sequence[Sample], part: str) -> Predictions:
    """Returns what the file answers, each image alone as on the robot."""
    logits = []
    embeddings = []
    for sample in ProgressBar(samples, part, unit="img", leave=False):
        (outputs,) = file.run(prepared_image(sample.path, file.spec.input, "validation")[np.newaxis], activation=False)
        logits.append(outputs.logits)
        embeddings.append(outputs.embedding)
    return Predictions(tuple(samples), np.stack(logits), np.stack(embeddings))


def _rule(spec: ModelSpec, is_share: bool) -> UnknownChoice:
    """Returns which unknown rule can be fitted."""
    if UNKNOWN in spec.class_names:
        return "none"
    if is_share:
        return "distance" if len(spec.class_names) <= MOST_CENTRES else "none"
    return "auto"


def _as_checkpoint(spec: ModelSpec, data: LabelledImages, val: Sequence[Sample]) -> Checkpoint:
    """Returns what the functions that fit rules to graphs take; it has no weights."""
    return Checkpoint(
        backbone=spec.architecture,
        task=spec.task,
        class_names=spec.class_names,
        units=(),
        scaling=data.scaling,
        input=spec.input,
        model={},
        training={},
        train_images=(),
        val_images=tuple(str(sample.path) for sample in val),
        calibration=UNCALIBRATED,
        config={},
        resume=None,
        val_targets=tuple((float(sample.label),) for sample in val),
    )


def _metrics(scored: ScoredLogits, thresholds: Sequence[float]) -> dict[str, float]:
    """Returns the accuracy with its 95 % interval, and the other scores of a checkpoint."""
    name = scored.task.metric
    figures = scored.summary()
    ends = scored.report(thresholds)["intervals"].get(name)
    interval = {} if ends is None else {f"val_{name}_low": ends[0], f"val_{name}_high": ends[1]}
    return figures | interval
