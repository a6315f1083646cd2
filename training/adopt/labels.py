"""Labelled images of some of a model's classes: what their labels say of its outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnn_perception.model.spec import ModelSpec
from training.data.load import DataOptions, load_images
from training.data.records import LabelledImages
from training.tasks.by_name import task_of

_HELD_OUT = 0.5
"""Share of the images that are measured on; of the others the centres of the classes are made."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Labelled images, and which of a model's outputs they are labels of.

    Attributes:
        images: Their classes are those of `outputs`, in this order.
        outputs: Indices of outputs. Where an image shows one class these are all, of which its label names one; where
            it shows several they are those that the labels speak of: of the others they do not even say that they are
            not shown.
        classes: How many of the model's classes there are images of, or labels.
    """

    images: LabelledImages
    outputs: tuple[int, ...]
    classes: int


def load(source: Sequence[Path], spec: ModelSpec) -> Labels:
    """Reads labelled images, whose classes are all of a model's or some of them.

    Raises:
        ConfigError: If one of their classes is none of the model's.
        DataError: If they are no data set.
    """
    options = DataOptions(
        val_fraction=_HELD_OUT,
        task=spec.task,
        class_names=spec.class_names,
        may_lack_classes=True,
        can_choose=False,
    )
    images = load_images(source, options)
    there = tuple(spec.class_names.index(name) for name in images.class_names)
    if not task_of(spec.task).one_class:
        return Labels(images, there, len(there))
    samples = tuple(dataclasses.replace(sample, label=there[sample.label]) for sample in images.samples)
    whole = dataclasses.replace(images, class_names=spec.class_names, samples=samples)
    return Labels(whole, tuple(range(len(spec.class_names))), len(there))
