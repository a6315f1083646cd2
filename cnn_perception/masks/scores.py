"""Label maps scored with masks: pixel accuracy, intersection over union of each class, and their mean.

Which pixels count:

- A pixel of a concept that is called as a class of the model is, or that the class table maps to one, is of that class.
- Background, where the table maps it to no class, is right where the model answers any class that no concept is called
  as (`OTHER`); where the model has no such class, it has no word for background, and those pixels are left out.
- Pixels of other concepts and of `void` are left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnn_perception.errors import ConfigError
from cnn_perception.masks.class_table import BACKGROUND
from cnn_perception.masks.folder import Masks
from cnn_perception.pipeline.label_map import LabelMap

OTHER = "(any other class)"
"""What background counts as where nothing else is said."""
_LEFT_OUT = -1
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassOverlap:
    """How well a class is found, over all pixels that count.

    Attributes:
        name: The class.
        iou: Pixels that are and are called it, over those that are or are called it; None where there are neither.
        truth_pixels: How many are it.
        answered_pixels: How many are called it.
        right_pixels: How many are both.
    """

    name: str
    iou: float | None
    truth_pixels: int
    answered_pixels: int
    right_pixels: int


@dataclass(frozen=True)
class Overlap:
    """Label maps against masks.

    Attributes:
        pixel_accuracy: Share of the pixels that count whose class is right; None where none counts.
        mean_iou: Mean over the classes that are anywhere, in truth or in the answers; None likewise.
        classes: A row for each class that a mask can show.
    """

    pixel_accuracy: float | None
    mean_iou: float | None
    classes: tuple[ClassOverlap, ...]


@dataclass(frozen=True)
class MaskScores:
    """What the masks say of a model.

    Attributes:
        masks: Their folder.
        scale: How much larger than its own pixels the network saw each image.
        images: How many images have a mask and could be used.
        unmasked: How many have none.
        unusable: How many have one, but could not be read or made no map.
        pixels: How many pixels count.
        left_out: How many of the masks do not.
        label_map: The score map of each image, enlarged to its pixels.
        whole_image: For comparison, the class of the whole image at each of its pixels.
    """

    masks: str
    scale: float
    images: int
    unmasked: int
    unusable: int
    pixels: int
    left_out: int
    label_map: Overlap
    whole_image: Overlap


def pooled(parts: Sequence[MaskScores]) -> MaskScores:
    """Returns the figures over the pixels of all parts, at least one, each scored with the same masks and classes."""
    return dataclasses.replace(
        parts[0],
        images=sum(part.images for part in parts),
        unmasked=sum(part.unmasked for part in parts),
        unusable=sum(part.unusable for part in parts),
        pixels=sum(part.pixels for part in parts),
        left_out=sum(part.left_out for part in parts),
        label_map=_together([part.label_map for part in parts]),
        whole_image=_together([part.whole_image for part in parts]),
    )


def _together(parts: Sequence[Overlap]) -> Overlap:
    counts = np.array(
        [[(one.truth_pixels, one.answered_pixels, one.right_pixels) for one in part.classes] for part in parts],
        np.int64,
    )
    return _overlap([one.name for one in parts[0].classes], *counts.sum(0).T)


def _overlap(names: Sequence[str], truth: Counts, answered: Counts, right: Counts) -> Overlap:
    """Returns the figures of how many pixels are each class, are called it, and are both, (T,) each."""
    union = truth + answered - right
    ious = [float(one / whole) if whole else None for one, whole in zip(right, union, strict=True)]
    known = [iou for iou in ious if iou is not None]
    rows = zip(names, ious, truth.tolist(), answered.tolist(), right.tolist(), strict=True)
    return Overlap(
        pixel_accuracy=float(right.sum() / truth.sum()) if truth.sum() else None,
        mean_iou=float(np.mean(known)) if known else None,
        classes=tuple(ClassOverlap(*row) for row in rows),
    )


def in_words(scores: MaskScores) -> str:
    """Returns the figures in a line."""
    if scores.label_map.pixel_accuracy is None or scores.label_map.mean_iou is None:
        return f"{scores.images} images: none of their pixels counts"
    whole = scores.whole_image
    return (
        f"{scores.label_map.pixel_accuracy:.1%} of the pixels right, mean IoU {scores.label_map.mean_iou:.3f} over "
        f"{scores.images} images (the whole image's class everywhere: {whole.pixel_accuracy:.1%}, {whole.mean_iou:.3f})"
    )


class Matching:
    """Which labels of masks are which classes of a model.

    Attributes:
        names: The classes that masks can show, in the model's order, with `OTHER` last where background counts as it.
    """

    def __init__(self, masks: Masks, class_names: Sequence[str]) -> None:
        """Matches the names.

        Raises:
            ConfigError: If no concept counts as a class of the model.
        """
        called = {*masks.class_names, masks.background_class}
        matched = [name for name in class_names if name in called]
        if not set(matched).intersection(masks.class_names):
            raise ConfigError(
                f"{masks.root}: none of its concepts ({', '.join(masks.class_names)[:200]}) is a class of the model "
                f"({', '.join(class_names)[:200]}); add a column class to its class table that says which is which"
            )
        has_other = masks.background_class not in matched and len(matched) < len(class_names)
        self.names = (*matched, OTHER) if has_other else tuple(matched)
        background = masks.background_class if masks.background_class in matched else OTHER
        place = {name: index for index, name in enumerate(self.names)}
        other = len(matched)
        self._of_label = np.array([place.get(name, _LEFT_OUT) for name in masks.class_names])
        self._background = place.get(background, _LEFT_OUT)
        self._of_class = np.array([place.get(name, other) for name in class_names])
        self._answers = other + 1

    def truth(self, labels: LabelMap) -> npt.NDArray[np.int64]:
        """Returns the place in `names` of what a mask shows, (H, W); -1 where a pixel does not count."""
        truth: npt.NDArray[np.int64] = np.where(labels >= 0, self._of_label[labels.clip(0)], _LEFT_OUT)
        truth[labels == BACKGROUND] = self._background
        return truth

    def confusion(self, truth: npt.NDArray[np.int64], answers: LabelMap) -> Counts:
        """Returns how many pixels are what and are called what: (T, T or T + 1), the last the classes without a mask.

        Args:
            truth: (H, W), from `truth`.
            answers: (H, W) classes of the model.
        """
        counts = truth >= 0
        pairs = truth[counts] * self._answers + self._of_class[answers[counts]]
        found: Counts = np.bincount(pairs, minlength=len(self.names) * self._answers).reshape(-1, self._answers)
        return found

    def places(self, answers: LabelMap) -> npt.NDArray[np.int64]:
        """Returns the place in `names` of each answered class, (H, W); that of `OTHER`, there or not, is the last."""
        places: npt.NDArray[np.int64] = self._of_class[answers]
        return places

    def nothing(self) -> Counts:
        """Returns the counts of no pixel."""
        return np.zeros((len(self.names), self._answers), np.int64)

    def overlap(self, confusion: Counts) -> Overlap:
        """Returns the figures of the counts of all pixels, (T, T or T + 1)."""
        answered = confusion.sum(0)[: len(self.names)]
        return _overlap(self.names, confusion.sum(1), answered, np.diagonal(confusion))
