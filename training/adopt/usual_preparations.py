"""The usual preparations of images, tried on labelled ones beside the one that was said: whether another does better.

Nobody sees from a graph how its images were prepared, and a wrong mean costs accuracy without a word: the certificate
compares both sides with the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.comparison.difference import holm
from cnn_perception.errors import FrameError
from cnn_perception.intervals import Flags, paired
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD
from training.adopt.graph.image_input import ChannelOrder, ImageInput
from training.adopt.preparation import CAFFE_MEAN
from training.config.normalisation import Colours, as_text
from training.data.records import Sample
from training.graphs.parity import evenly, prepared_image
from training.tasks.by_name import task_of

_IMAGES = 64
"""On so many at most each is tried."""
_LEVEL = 0.05
"""By chance one of the usual ones seems better so often, all of them together."""
_SAME = 1e-3
"""Means and deviations that differ by less, as a share of the deviation, are taken for one."""


@dataclass(frozen=True)
class Usual:
    """A preparation.

    Attributes:
        name: What it is called.
        mean: Of pixels in [0, 1], in the order red, green, blue.
        std: Likewise.
        order: Of the colours.
    """

    name: str
    mean: Colours
    std: Colours
    order: ChannelOrder = "rgb"

    def exchanged(self) -> Usual:
        """Returns the same with red and blue exchanged."""
        return dataclasses.replace(
            self, name=f"{self.name}, red and blue exchanged", order="rgb" if self.order == "bgr" else "bgr"
        )

    def is_same(self, other: Usual) -> bool:
        """Whether it makes the same of an image."""
        allowed = _SAME * np.array(other.std)
        distance = np.maximum(np.abs(np.subtract(self.mean, other.mean)), np.abs(np.subtract(self.std, other.std)))
        return self.order == other.order and bool((distance <= allowed).all())

    @property
    def options(self) -> str:
        """The options that say it."""
        return f"--mean {as_text(self.mean)} --std {as_text(self.std)} --channel-order {self.order}"


_BYTE = (1 / 255,) * 3
USUAL = (
    Usual("0 to 1", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    Usual("-1 to 1", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    Usual("ImageNet's mean and deviation", IMAGENET_MEAN, IMAGENET_STD),
    Usual("0 to 255", (0.0, 0.0, 0.0), (_BYTE[0], _BYTE[1], _BYTE[2])),
    Usual("Caffe's, 0 to 255 less the mean, blue first", CAFFE_MEAN, (_BYTE[0], _BYTE[1], _BYTE[2]), "bgr"),
)
"""Source: keras/src/applications/imagenet_utils.py, `_preprocess_numpy_input` (modes `tf`, `torch`, `caffe`);
torchvision/transforms/_presets.py, `ImageClassification`."""


def better(file: OnnxModel, image: ImageInput, samples: Sequence[Sample]) -> str:
    """Returns which of the usual preparations answers significantly more labelled images rightly; empty if none does.

    Of an image of several classes an answer is right where it is so of all. The chance is McNemar's, corrected for the
    number of preparations by Holm's procedure.

    Args:
        file: The adopted file.
        image: The input of the original, of which the file takes no bytes otherwise prepared.
        samples: The labelled images, of which up to 64 are taken.

    Raises:
        DataError: If an image cannot be read any more.
    """
    size = file.spec.input
    given = Usual("as it is said", size.mean, size.std, image.order)
    others = _others(given, image)
    chosen = [samples[index] for index in evenly(len(samples), _IMAGES)]
    rows = []
    for sample in ProgressBar(chosen, desc="usual preparations", unit="img", leave=False):
        pixels = prepared_image(sample.path, size, "validation") * _column(size.std) + _column(size.mean)
        rows.append([_logits(file, pixels, one, image.order) for one in (given, *others)])
    hits = [_is_right(file, [row[place] for row in rows], chosen) for place in range(len(others) + 1)]
    return _best(given, others, hits)


def _others(given: Usual, image: ImageInput) -> list[Usual]:
    """Returns what is tried beside what was given, each once; what changes least comes first, and wins a tie."""
    usual = [] if image.takes_bytes else list(USUAL)
    tried = [one for known in (given, *usual) for one in (known, known.exchanged())]
    if image.channels == 1:
        tried = [one for one in tried if one.order == "rgb"]
    found: list[Usual] = []
    for one in tried:
        if not any(one.is_same(other) for other in (given, *found)):
            found.append(one)
    return found


def _logits(file: OnnxModel, pixels: FloatArray, prepared: Usual, order: ChannelOrder) -> FloatArray | None:
    """Returns what the file answers to pixels, (3, H, W) in [0, 1]; None where it cannot.

    It puts the colours in `order`.
    """
    tensor = (pixels - _column(prepared.mean)) / _column(prepared.std)
    if prepared.order != order:
        tensor = tensor[::-1]
    try:
        (outputs,) = file.run(np.ascontiguousarray(tensor, np.float32)[np.newaxis], activation=False)
    except FrameError:
        return None
    return outputs.logits if np.isfinite(outputs.logits).all() else None


def _is_right(file: OnnxModel, logits: Sequence[FloatArray | None], samples: Sequence[Sample]) -> Flags:
    task = task_of(file.spec.task)
    truth: npt.NDArray[np.float64] = np.asarray(task.targets(samples))
    found = []
    for answer, shown in zip(logits, truth, strict=True):
        if answer is None:
            found.append(False)
        elif task.one_class:
            found.append(int(answer.argmax()) == int(shown))
        else:
            found.append(bool(((answer > 0) == (shown > 0)).all()))
    return np.array(found)


def _best(given: Usual, others: Sequence[Usual], hits: Sequence[Flags]) -> str:
    ours, *theirs = hits
    compared = [paired(flags, ours) for flags in theirs]
    chances = holm([one.chance for one in compared])
    found = [row for row, one in enumerate(compared) if one.gained > one.lost and chances[row] <= _LEVEL]
    if not found:
        return ""
    best = max(found, key=lambda row: int(theirs[row].sum()))
    right, count = int(theirs[best].sum()), len(ours)
    return (
        f"prepared otherwise ({others[best].name}: {others[best].options}) it answers significantly better: {right} of "
        f"{count} labelled images right, {int(ours.sum())} as it is said, chance {chances[best]:.2g}"
    )


def _column(colours: Colours) -> FloatArray:
    return np.reshape(np.array(colours, np.float32), (3, 1, 1))
