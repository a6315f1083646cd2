"""Segments images with the classifier alone, and tallies how well that fits their masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnn_perception.errors import DataError, FrameError
from cnn_perception.image.messages import EncodedFile, EncodedImage, RgbImage, decode
from cnn_perception.masks.folder import Masks
from cnn_perception.masks.scores import MaskScores, Matching, Overlap
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.pipeline.label_map import LabelMap, upsampled_labels
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.pipeline.score_map import dense_scores

_WORST = 4
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class MaskedPicture:
    """An image, what it shows and what was answered.

    Attributes:
        name: Its file, or the stamp of its message.
        image: (H, W, 3) uint8.
        truth: (H, W) places in `Matching.names`; -1 where a pixel does not count.
        answers: (H, W) likewise; classes that no mask can show are beyond the last, or at `OTHER`.
        accuracy: Share of the pixels that count that are right.
    """

    name: str
    image: RgbImage
    truth: Places
    answers: Places
    accuracy: float


def segmented(model: OnnxModel, image: RgbImage, scale: float = 1.0) -> LabelMap:
    """Returns the class of each pixel of an image, from the model's score map.

    Args:
        model: A model with a score map.
        image: (H, W, 3) uint8.
        scale: How much larger than its own pixels the network sees the image.

    Returns:
        (H, W) int32 indices of the model's classes.

    Raises:
        ModelError: If the model has no score map.
        ConfigError: If the scale is out of range.
        FrameError: If the map would be too large, or is not finite.
    """
    found = dense_scores(model, image, scale)
    return upsampled_labels(found.logits, found.cells, *image.shape[:2])


@dataclass(frozen=True, eq=False)
class _Counted:
    """What the images so far come to; replaced whole, for Ctrl-C may come at any time.

    Attributes:
        confusion: Pixels by truth and answer, see `Matching.confusion`.
        of_whole_images: The same of the class of the whole image.
        images: How many.
        mask_pixels: Of their masks.
        worst: See `MaskTally.worst`.
    """

    confusion: Places
    of_whole_images: Places
    images: int
    mask_pixels: int
    worst: list[MaskedPicture]


class MaskTally:
    """Counts, image by image, the pixels that are right.

    Attributes:
        matching: Which labels are which classes.
        complete: Whether all images have been taken.
    """

    def __init__(self, pipeline: Pipeline, masks: Masks, scale: float) -> None:
        """Begins with no image.

        Args:
            pipeline: Of a model with a score map, whose task is one class an image.
            masks: The masks.
            scale: How much larger than its own pixels the network sees each image.

        Raises:
            ModelError: If the model has no score map.
            ConfigError: If no concept is one of its classes.
        """
        self.complete = False
        pipeline.model.score_map_place()
        self.matching = Matching(masks, pipeline.spec.class_names)
        self._pipeline = pipeline
        self._masks = masks
        self._scale = scale
        self._names: dict[Path, str] = {}
        self._counted = _Counted(self.matching.nothing(), self.matching.nothing(), 0, 0, [])
        self._unmasked = 0
        self._unusable = 0

    def add(self, name: str, path: Path, content: EncodedImage | EncodedFile | FrameError) -> None:
        """Takes an image.

        Args:
            name: By which it is told from the others.
            path: As whose its mask is looked for.
            content: It, or why there is none.

        Raises:
            DataError: If its mask cannot be used, or is another image's, too.
        """
        mask = self._masks.path_of(path)
        if mask is None:
            self._unmasked += 1
            return
        if self._names.setdefault(mask, name) != name:
            raise DataError(
                f"{mask}: is the mask of both {self._names[mask]} and {name}; put masks into folders as the images are"
            )
        try:
            if isinstance(content, FrameError):
                raise content
            image = decode(content)
            answers = segmented(self._pipeline.model, image, self._scale)
            whole = int(self._pipeline.recognise(image).scores.argmax())
        except FrameError:
            self._unusable += 1
            return
        self._count(name, image, self._masks.labels(mask, *image.shape[:2]), answers, whole)

    def _count(self, name: str, image: RgbImage, labels: LabelMap, answers: LabelMap, whole: int) -> None:
        matching = self.matching
        truth = matching.truth(labels)
        confusion = matching.confusion(truth, answers)
        of_whole_image = matching.confusion(truth, np.full_like(answers, whole))
        accuracy = matching.overlap(confusion).pixel_accuracy
        worst = self.worst
        if accuracy is not None:
            picture = MaskedPicture(name, image, truth, matching.places(answers), accuracy)
            worst = sorted([*worst, picture], key=lambda one: one.accuracy)[:_WORST]
        before = self._counted
        self._counted = _Counted(
            before.confusion + confusion,
            before.of_whole_images + of_whole_image,
            before.images + 1,
            before.mask_pixels + truth.size,
            worst,
        )

    @property
    def worst(self) -> list[MaskedPicture]:
        """The images with the smallest shares of right pixels, the worst first."""
        return self._counted.worst

    @property
    def scores(self) -> MaskScores:
        """The figures so far."""
        counted = self._counted
        pixels = int(counted.confusion.sum())
        return MaskScores(
            masks=str(self._masks.root),
            scale=self._scale,
            images=counted.images,
            unmasked=self._unmasked,
            unusable=self._unusable,
            pixels=pixels,
            left_out=counted.mask_pixels - pixels,
            label_map=self._overlap(counted.confusion),
            whole_image=self._overlap(counted.of_whole_images),
        )

    def _overlap(self, confusion: Places) -> Overlap:
        return self.matching.overlap(confusion)
