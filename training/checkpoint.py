"""A checkpoint: everything about trained weights, in one file that is complete or absent.

Only tensors and plain values are stored, so reading needs no pickled code (`weights_only=True`). Every file of a run
is written as `files.replacing` does: a crash at any moment leaves the old file or the new one, never half of one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnn_perception.errors import DataError, ModelError
from cnn_perception.model.spec import InputSpec, Task, UnknownRule
from training.run_files import replacing
from training.torch_files import require_unpacked, what_else

FORMAT = "cnn_perception.checkpoint/2"
_ADDED = frozenset({"train_targets", "source", "unlabelled_images", "learned_pixels"})
"""Fields that a checkpoint of an earlier version may lack."""
_FOREIGN = "weights of other programs are given as --weights, with the name of their network as --backbone"


@dataclass(frozen=True)
class Calibration:
    """What was fitted on the validation images after training; see the fields of the same names of `spec.ModelSpec`."""

    temperature: float
    thresholds: tuple[float, ...]
    unknown: UnknownRule | None


UNCALIBRATED = Calibration(temperature=1.0, thresholds=(), unknown=None)


@dataclass(frozen=True)
class Checkpoint:
    """Weights, and all that is needed to use, export or go on training them.

    Attributes:
        backbone: Name of the architecture.
        task: What the logits mean.
        class_names: The K classes, or the names of the K numbers, in the order of the logits.
        units: Of each number, for regression.
        scaling: (mean, standard deviation) of each number over the training images, for regression: the network gives
            (number - mean) / deviation, and the export folds both into its last layer.
        input: The preprocessing.
        model: State of what `networks.build.restore` builds.
        training: Fields of `spec.TrainingRecord`, without code_version and created.
        train_images: Absolute paths of the training images.
        val_images: Absolute paths of the validation images.
        calibration: What was fitted after training.
        config: The settings of the run, `TrainConfig.to_dict()`.
        resume: State of the optimiser, the schedule and the random numbers; None in best.pt.
        val_targets: What each of `val_images` shows: (class,) for multiclass, `data.records.Sample.values` otherwise.
        train_targets: The same of `train_images`; empty in a checkpoint of before they were kept.
        source: Of a network from a user's own file where that came from, `own_module.Source`; None of others.
        unlabelled_images: Absolute paths of the images that were trained on beside them, by what teachers say.
        learned_pixels: Of each of `learned_images`, in their order, the first 64 bits of the digest of its size and
            pixels (`data.records.Sample.pixels`), some 10 bytes of the file each, by which it is known again wherever
            it lies; empty in a checkpoint of before they were kept.
    """

    backbone: str
    task: Task
    class_names: tuple[str, ...]
    units: tuple[str, ...]
    scaling: tuple[tuple[float, float], ...]
    input: InputSpec
    model: dict[str, Tensor]
    training: dict[str, Any]
    train_images: tuple[str, ...]
    val_images: tuple[str, ...]
    calibration: Calibration
    config: dict[str, Any]
    resume: dict[str, Any] | None
    val_targets: tuple[tuple[float, ...], ...] = ()
    train_targets: tuple[tuple[float, ...], ...] = ()
    source: dict[str, str] | None = None
    unlabelled_images: tuple[str, ...] = ()
    learned_pixels: tuple[int, ...] = ()

    @property
    def learned_images(self) -> tuple[str, ...]:
        """Absolute paths of all images that were trained on, with labels or without."""
        return (*self.train_images, *self.unlabelled_images)

    @property
    def labelled_by(self) -> str:
        """The teachers whose answers are its labels; empty where people labelled its images."""
        is_taught = self.config.get("unlabelled") and not self.config.get("data")
        return " and ".join(self.config["teacher"]) if is_taught else ""


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint, replacing an older one only when the new one is on the disk.

    Raises:
        DataError: If the disk is full or the folder cannot be written to; an older file stays as it was.
    """
    values = {f.name: getattr(checkpoint, f.name) for f in dataclasses.fields(checkpoint)}
    values |= {"format": FORMAT, "input": dataclasses.asdict(checkpoint.input)}
    values["calibration"] = dataclasses.asdict(checkpoint.calibration)
    with replacing(path) as file:
        torch.save(values, file)


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint, all tensors on the CPU.

    Raises:
        DataError: If the file is missing, truncated, or no checkpoint of this package.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such checkpoint; name the best.pt or last.pt of a training run")
    try:
        require_unpacked(path)
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch runs the file's instructions, of which damaged ones fail in any way
        what = what_else(path) or "truncated, or no checkpoint of this package; train again or take another"
        raise DataError(f"{path}: {what}; {_FOREIGN}") from None
    names = {f.name for f in dataclasses.fields(Checkpoint)} | {"format"}
    if not isinstance(values, dict) or values.get("format") != FORMAT or values.keys() | _ADDED != names:
        raise DataError(f"{path}: {_what_instead(values)}")
    del values["format"]
    spec = values["input"]
    try:
        values["input"] = InputSpec(**{**spec, "mean": tuple(spec["mean"]), "std": tuple(spec["std"])})
        values["calibration"] = _calibration(values["calibration"])
    except (TypeError, KeyError, ModelError) as error:
        raise DataError(f"{path}: its settings cannot be used ({error}); train again") from None
    if not _is_source(values.get("source")):
        raise DataError(f"{path}: it does not say where its network came from; train again")
    return Checkpoint(**values)


def is_own(values: object) -> bool:
    """Returns whether the content of a file is a checkpoint of this package, of any version."""
    made_by = values.get("format") if isinstance(values, dict) else None
    return isinstance(made_by, str) and made_by.startswith(FORMAT.partition("/")[0])


def _what_instead(values: Any) -> str:  # noqa: ANN401 - whatever was in the file
    """Returns what a file of plain values is that is no checkpoint of this version."""
    if is_own(values) and values["format"] != FORMAT:
        made_by = values["format"][:80]
        return f"a checkpoint of another version of this package ({made_by}); export it with that one, or train again"
    return f"not a checkpoint of this package; name the best.pt or last.pt of a training run; {_FOREIGN}"


def _is_source(value: object) -> bool:
    """Returns whether a value is the `source` of a checkpoint."""
    if not isinstance(value, dict):
        return value is None
    is_text = all(isinstance(text, str) for text in value.values())
    return is_text and value.keys() == {"path", "function", "sha256", "text"}


def _calibration(values: dict[str, Any]) -> Calibration:
    unknown = None if values["unknown"] is None else UnknownRule(**values["unknown"])  # an older one says less
    return Calibration(values["temperature"], tuple(values["thresholds"]), unknown)
