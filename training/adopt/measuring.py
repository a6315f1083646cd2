"""What labelled images say of an adopted file: how good it is, how sure its scores are, which images it does not know.

They may show only some of its classes. Nothing is learned from them but temperature, thresholds and the unknown rule;
whether the network has learned from them before, nobody here knows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.model.spec import CLASSES_MEASURED, UNKNOWN, ModelSpec
from training.adopt import usual_preparations
from training.adopt.graph.image_input import ImageInput
from training.adopt.labels import Labels
from training.adopt.remarks import Remark
from training.calibration import exported_rule
from training.calibration.embeddings import Predictions, for_centres
from training.calibration.fit import fit
from training.calibration.unknown_rule import MOST_CENTRES
from training.checkpoint import UNCALIBRATED, Checkpoint
from training.config import UnknownChoice
from training.data.records import LabelledImages, Sample
from training.graphs.parity import prepared_image
from training.report.gain import hardly_learned
from training.scoring.scores import ScoredLogits
from training.tasks.by_name import task_of
from training.tasks.multilabel import THRESHOLD

_LITTLE_LEARNED = "see --mean, --std, --channel-order, and the order of the names in --classes"


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured.

    Attributes:
        spec: The description, with temperature, thresholds, rule and accuracy.
        images: On which all was fitted and measured.
        remarks: What its owner should know of them, and of what they say.
    """

    spec: ModelSpec
    images: tuple[Path, ...]
    remarks: tuple[Remark, ...]


def measure(file: OnnxModel, labels: Labels, image: ImageInput, is_share: bool) -> Measured:
    """Measures a file on images.

    Args:
        file: As the robot loads it, with a temperature of 1 and no rule.
        labels: The images, perhaps of some of its classes alone.
        image: The input of the original.
        is_share: Whether its logits are logarithms of shares of 1, whose energy is always 0.

    Raises:
        ParityError: If its unknown rule does not keep what it promises.
        DataError: If an image cannot be read any more.
    """
    spec = file.spec
    data = labels.images
    found = {part: _predictions(file, samples, labels.outputs, part) for part, samples in _parts(data).items()}
    val = found["val"]
    fitted = fit(found["train"], {"val": val}, None, spec.task, unknown=_rule(spec, labels, is_share)).calibration
    scored = ScoredLogits(val.logits, task_of(spec.task).targets(val.samples), data)
    checkpoint = _as_checkpoint(spec, data, val.samples)
    rule = exported_rule.refit(dataclasses.replace(checkpoint, calibration=fitted), exported_rule.run_of(file))
    training = dataclasses.replace(
        spec.training,
        data=data.name,
        data_sha256=data.sha256,
        val_images=len(val),
        metrics=_metrics(scored, fitted.thresholds) | _classes(spec, labels),
    )
    thresholds = _of_all(fitted.thresholds, labels, spec)
    measured = dataclasses.replace(
        spec, temperature=fitted.temperature, thresholds=thresholds, unknown=rule, training=training
    )
    better = usual_preparations.better(file, image, val.samples, labels.outputs)
    little = hardly_learned(scored.report(fitted.thresholds), _LITTLE_LEARNED)
    told = (
        Remark(_of_some_classes(measured, labels), covers=measured.classes_without_images()),
        Remark(better),
        Remark(little, "warning"),
    )
    return Measured(measured, tuple(sample.path for sample in val.samples), tuple(one for one in told if one.text))


def _parts(data: LabelledImages) -> dict[str, tuple[Sample, ...]]:
    return {"train": for_centres(data.part("train"), len(data.class_names)), "val": data.part("val")}


def _predictions(file: OnnxModel, samples: Sequence[Sample], outputs: Sequence[int], part: str) -> Predictions:
    """Returns what the file answers, each image alone as on the robot; of the logits those of some outputs."""
    logits = []
    embeddings = []
    for sample in ProgressBar(samples, part, unit="img", leave=False):
        (answer,) = file.run(prepared_image(sample.path, file.spec.input, "validation")[np.newaxis], activation=False)
        logits.append(answer.logits[list(outputs)])
        embeddings.append(answer.embedding)
    return Predictions(tuple(samples), np.stack(logits), np.stack(embeddings))


def _rule(spec: ModelSpec, labels: Labels, is_share: bool) -> UnknownChoice:
    """Returns which unknown rule can be fitted; `auto` is by energy where a class without images has no centre."""
    if UNKNOWN in spec.class_names:
        return "none"
    if is_share:
        can_be = labels.classes == len(spec.class_names) <= MOST_CENTRES
        return "distance" if can_be else "none"
    return "auto"


def _classes(spec: ModelSpec, labels: Labels) -> dict[str, float]:
    """Returns of how many classes there were images, where that is not all of them."""
    return {CLASSES_MEASURED: float(labels.classes)} if labels.classes < len(spec.class_names) else {}


def _of_all(thresholds: Sequence[float], labels: Labels, spec: ModelSpec) -> tuple[float, ...]:
    """Returns the thresholds of all classes, of those that were fitted: the usual one where nothing is known."""
    if not thresholds:
        return ()
    found = dict(zip(labels.outputs, thresholds, strict=True))
    return tuple(found.get(place, THRESHOLD) for place in range(len(spec.class_names)))


def _of_some_classes(measured: ModelSpec, labels: Labels) -> str:
    """Says of how many classes there were images, and what follows; empty where there were of all."""
    count = len(measured.class_names)
    if labels.classes == count:
        return ""
    told = f"measured on images of {labels.classes} of {count} classes; of the others nothing is known"
    if not task_of(measured.task).one_class or UNKNOWN in measured.class_names:
        return told
    if measured.unknown is None:
        return f"{told}; it has no unknown rule: its scores have no energy, and a class without images no centre"
    return f"{told}, nor how often the unknown rule (by {measured.unknown.method}) calls images of them unknown"


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
