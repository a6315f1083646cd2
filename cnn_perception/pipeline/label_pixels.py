"""The label map as an image whose pixels are numbers of classes: 0 for none, the classes from 1 on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cnn_perception.model.spec import ModelSpec
from cnn_perception.pipeline.label_map import upsampled_labels
from cnn_perception.pipeline.score_map import ScoreMap
from cnn_perception.tasks.registry import task_of

NONE = "none"
"""What a pixel is called that has no class."""
LabelPixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
"""(H, W), 0 for none, or the index of a class and 1."""


def has_label_map(spec: ModelSpec) -> bool:
    """Whether a model has a score map, and of classes."""
    return spec.score_map is not None and task_of(spec.task).has_classes


def label_pixels(found: ScoreMap, threshold: float, height: int, width: int) -> LabelPixels:
    """Returns the class of each pixel of the image.

    Args:
        found: The scores all over the image.
        threshold: Where the largest interpolated score is not above it, a pixel has no class; 0 gives each one.
        height: Rows of the image.
        width: Columns of the image.

    Returns:
        (height, width) uint8; uint16 where there are more than 255 classes.
    """
    labels = upsampled_labels(found.logits, found.cells, height, width) + 1
    if threshold > 0.0:
        # As a class of its own, before all others, the threshold is as high everywhere.
        rivals = np.concatenate([np.full_like(found.scores[:1], threshold), found.scores])
        labels[upsampled_labels(rivals, found.cells, height, width) == 0] = 0
    return labels.astype(np.uint8) if len(found.class_names) <= 255 else labels.astype(np.uint16)
