"""What is needed before a frame is read: who looks at it, what is to be labelled, and what the data set has already."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import ConfigError, FrameError
from cnn_perception.evaluation.replay import in_order
from cnn_perception.files import require_outside
from cnn_perception.image.messages import read_image
from cnn_perception.tasks.registry import TASKS, task_of
from training.collect import description
from training.collect.description import Describer, Features, Vector
from training.collect.options import CollectOptions
from training.collect.set_folder import Fingerprint, Labels, fingerprint_of_row
from training.data_set import classes, columns
from training.data_set.table import DataSetTable, read

Say = Callable[[str], object]


def require_folder(output: Path) -> None:
    """Refuses a data set where a file lies.

    Raises:
        ConfigError: If the path is there and no folder.
    """
    if os.path.lexists(output) and not output.is_dir():
        raise ConfigError(f"--output {output}: is no folder; choose another")


def require_separate(output: Path, source: Path) -> None:
    """Refuses a data set in a folder that is read, and the other way round.

    Raises:
        ConfigError: If one lies in the other.
    """
    require_outside(output, source)
    if output.is_dir() and source.resolve().is_relative_to(output.resolve()):
        raise ConfigError(f"{source}: lies in --output {output}; choose another --output")


def make_describer(options: CollectOptions) -> Describer:
    """Loads what looks at the frames.

    Raises:
        PerceptionError: If a model or network cannot be had.
    """
    models = description.load_models(options.model, options.shadow) if options.model is not None else None
    return Describer(models, _features(options))


def _features(options: CollectOptions) -> Features | None:
    """Returns the network that says what looks alike; None where none was named."""
    if options.checkpoint is None and options.backbone is None:
        return None
    from training.collect import network_features  # takes seconds, and is not needed with a model file

    if options.checkpoint is not None:
        return network_features.of_checkpoint(options.checkpoint)
    assert options.backbone is not None
    assert options.weights is not None
    return network_features.of_backbone(options.backbone, options.weights, options.weight_classes)


def labels_of(options: CollectOptions, describer: Describer) -> Labels:
    """Returns what is to be labelled: as the model says, or a file of classes, or the data set itself.

    Raises:
        ConfigError: If the file cannot be read, or lacks a class of the model.
        DataError: If the data set cannot be read.
    """
    named = _named(options.classes) if options.classes is not None else ()
    if describer.models is None:
        return _labels_without_model(options, named)
    spec = describer.models.spec
    if named and (missing := [name for name in spec.class_names if name not in named]):
        raise ConfigError(f"--classes {options.classes}: lacks {missing[0]!r}, which --model knows; add it")
    return Labels(spec.task, named or spec.class_names, str(options.classes or options.model))


def _named(file: Path) -> tuple[str, ...]:
    from training.data import classes_file  # imports torch

    return classes_file.read(str(file))


def _labels_without_model(options: CollectOptions, named: tuple[str, ...]) -> Labels:
    there = classes.read(options.output)
    task = options.task or _task_of_set(options.output)
    names = named or there
    if not task_of(task).has_classes and not names:
        raise ConfigError(f"--task {task}: needs --classes, a file with the names of the numbers, one a line")
    return Labels(task, names, str(options.classes or options.output))


def _task_of_set(folder: Path) -> str:
    """Returns the task whose labels a data set has columns for; one class an image for a new one."""
    header = read(folder).header if (folder / columns.TABLE).exists() else ()
    names = classes.read(folder)
    usual = {task.name: set(task.usual_columns(names)) for task in TASKS.values()}
    fitting = [name for name, labels in usual.items() if labels and labels <= set(header)]
    return fitting[0] if fitting else next(task.name for task in TASKS.values() if task.is_exclusive)


@dataclass
class KnownImages:
    """The images that a data set has already.

    Attributes:
        vectors: (D,) each, what those that can be read are like.
        bags: The recording that each is of, as the table calls it, by its fingerprint.
    """

    vectors: list[Vector] = field(default_factory=list)
    bags: dict[Fingerprint, str] = field(default_factory=dict)


def known_images(table: DataSetTable, describer: Describer, say: Say) -> KnownImages:
    """Looks at the images that the data set has already; those that cannot be read any more are left out."""
    known = KnownImages()
    if not table.rows:
        return known
    say(f"looking at the {len(table.rows)} images of {table.file.parent}")

    def look(row: Mapping[str, str]) -> tuple[Fingerprint, str, Vector] | None:
        try:
            image = read_image(table.file.parent / row[columns.PATH])
            return fingerprint_of_row(row, image), row[columns.BAG], describer.vector(image)
        except FrameError:
            return None

    seen = in_order(look, table.rows)
    for found in ProgressBar(seen, total=len(table.rows), desc="data set", unit="image"):
        if found is not None:
            known.bags[found[0]] = found[1]
            known.vectors.append(found[2])
    return known
