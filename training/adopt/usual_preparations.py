"""The usual preparations of images, tried on labelled ones beside the one that was said: whether another does better.

Nobody sees from a graph how its images were prepared, and a wrong mean, or a crop where the network has seen the whole
image, costs accuracy without a word: the certificate compares both sides with the same. Colours and geometry are varied
one at a time, each beside the rest as it was said.
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
from cnn_perception.image.messages import RgbImage
from cnn_perception.intervals import Flags, paired
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec, Interpolation, ResizeMode
from cnn_perception.pipeline.preprocess import input_region, preprocess
from training.adopt.graph.image_input import ChannelOrder, ImageInput
from training.adopt.preparation import CAFFE_MEAN
from training.config.normalisation import Colours, as_text
from training.data.records import Sample
from training.graphs.parity import decoded_image, evenly
from training.tasks.by_name import task_of

_IMAGES = 64
"""On so many at most each is tried."""
_LEVEL = 0.05
"""By chance one of the usual ones seems better so often, all of them together."""
_SAME = 1e-3
"""Means and deviations that differ by less, as a share of the deviation, are taken for one."""
Geometry = tuple[ResizeMode, float, Interpolation]
"""How an image is resized and cropped; the fields of these types of an `InputSpec`."""


@dataclass(frozen=True)
class Usual:
    """A preparation.

    Attributes:
        name: What it is called.
        input: How an image is resized and normalised.
        order: Of the colours that the original takes.
    """

    name: str
    input: InputSpec
    order: ChannelOrder

    @property
    def geometry(self) -> Geometry:
        """How it resizes and crops."""
        return self.input.resize_mode, self.input.crop_fraction, self.input.interpolation

    def exchanged(self) -> Usual:
        """Returns the same with red and blue exchanged."""
        return dataclasses.replace(
            self, name=f"{self.name}, red and blue exchanged", order="rgb" if self.order == "bgr" else "bgr"
        )

    def has_colours_of(self, other: Usual) -> bool:
        """Whether it makes the same of the colours."""
        ours, theirs = self.input, other.input
        allowed = _SAME * np.array(theirs.std)
        distance = np.maximum(np.abs(np.subtract(ours.mean, theirs.mean)), np.abs(np.subtract(ours.std, theirs.std)))
        return self.order == other.order and bool((distance <= allowed).all())

    def is_same(self, other: Usual) -> bool:
        """Whether it makes the same of an image."""
        return self.geometry == other.geometry and self.has_colours_of(other)

    def options(self, given: Usual) -> str:
        """Returns the options that say it where another one is given."""
        size = self.input
        said = []
        if (size.resize_mode, size.crop_fraction) != (given.input.resize_mode, given.input.crop_fraction):
            said += ["--resize-mode", size.resize_mode, "--crop-fraction", f"{size.crop_fraction:g}"]
        if size.interpolation != given.input.interpolation:
            said += ["--interpolation", size.interpolation]
        if not self.has_colours_of(given):
            said += ["--mean", as_text(size.mean), "--std", as_text(size.std), "--channel-order", self.order]
        return " ".join(said)


_BYTE: Colours = (1 / 255, 1 / 255, 1 / 255)
_ZERO: Colours = (0.0, 0.0, 0.0)
_ONE: Colours = (1.0, 1.0, 1.0)
COLOURS: tuple[tuple[str, Colours, Colours, ChannelOrder], ...] = (
    ("0 to 1", _ZERO, _ONE, "rgb"),
    ("-1 to 1", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "rgb"),
    ("ImageNet's mean and deviation", IMAGENET_MEAN, IMAGENET_STD, "rgb"),
    ("0 to 255", _ZERO, _BYTE, "rgb"),
    ("Caffe's, 0 to 255 less the mean, blue first", CAFFE_MEAN, _BYTE, "bgr"),
)
"""What is usual of colours: name, mean, deviation, order. Source: keras/src/applications/imagenet_utils.py,
`_preprocess_numpy_input` (modes `tf`, `torch`, `caffe`); torchvision/transforms/_presets.py, `ImageClassification`."""
GEOMETRIES: tuple[tuple[str, ResizeMode, float], ...] = (
    ("centre crop of 0.875 of the shorter side", "crop", 0.875),
    ("centre crop of the whole shorter side", "crop", 1.0),
    ("all of the image, squashed", "squash", 1.0),
    ("all of the image, fitted and padded with the mean colour", "letterbox", 1.0),
)
"""What is usual of resizing: name, mode, crop fraction. Source: torchvision/transforms/_presets.py,
`ImageClassification`; ultralytics/data/augment.py, `classify_transforms`; keras/src/utils/image_dataset_utils.py,
`image_dataset_from_directory`; ultralytics/data/augment.py, `LetterBox`."""
INTERPOLATIONS: tuple[Interpolation, ...] = ("bilinear", "bicubic")


def better(file: OnnxModel, image: ImageInput, samples: Sequence[Sample], outputs: Sequence[int]) -> str:
    """Returns which of the usual preparations answers significantly more labelled images rightly; empty if none does.

    Of an image of several classes an answer is right where it is so of all. The chance is McNemar's, corrected for the
    number of preparations by Holm's procedure.

    Args:
        file: The adopted file.
        image: The input of the original, of which the file takes no bytes otherwise normalised.
        samples: The labelled images, of which up to 64 are taken.
        outputs: Of the file's outputs those that are labelled, see `labels.Labels`.

    Raises:
        DataError: If an image cannot be read any more.
    """
    given = Usual("as it is said", file.spec.input, image.order)
    tried = [given, *_others(given, image)]
    sizes = {one.geometry: dataclasses.replace(one.input, mean=_ZERO, std=_ONE) for one in tried}
    chosen = [samples[index] for index in evenly(len(samples), _IMAGES)]
    rows = []
    for sample in ProgressBar(chosen, desc="usual preparations", unit="img", leave=False):
        picture = decoded_image(sample.path, "validation")
        seen = {geometry: _Pixels.of(picture, size) for geometry, size in sizes.items()}
        rows.append([_logits(file, seen[one.geometry].prepared(one, image.order), outputs) for one in tried])
    hits = [_is_right(file, [row[place] for row in rows], chosen) for place in range(len(tried))]
    return _best(tried, hits)


def _others(given: Usual, image: ImageInput) -> list[Usual]:
    """Returns what is tried beside what was given, each once; what changes least comes first, and wins a tie."""
    size = given.input
    colours = [given.exchanged()]
    if not image.takes_bytes:
        usual = [Usual(name, dataclasses.replace(size, mean=m, std=s), order) for name, m, s, order in COLOURS]
        colours += [one for known in usual for one in (known, known.exchanged())]
    if image.channels == 1:
        colours = [one for one in colours if one.order == "rgb"]
    geometries = [
        (name, dataclasses.replace(size, resize_mode=mode, crop_fraction=share)) for name, mode, share in GEOMETRIES
    ]
    geometries += [(f"{one} interpolation", dataclasses.replace(size, interpolation=one)) for one in INTERPOLATIONS]
    found: list[Usual] = []
    for one in (*colours, *(Usual(name, other, given.order) for name, other in geometries)):
        if not any(one.is_same(other) for other in (given, *found)):
            found.append(one)
    return found


@dataclass(frozen=True, eq=False)
class _Pixels:
    """An image of the size of the input, before its colours are normalised.

    Attributes:
        values: (3, H, W) float32, RGB in [0, 1].
        is_image: (H, W), which of them show it; the others are padding.
    """

    values: FloatArray
    is_image: Flags

    @classmethod
    def of(cls, picture: RgbImage, size: InputSpec) -> _Pixels:
        """Resizes and crops an image; mean and deviation of `size` change nothing."""
        height, width = picture.shape[:2]
        region = input_region(height, width, size)
        rows = region.top + (np.arange(size.height) + 0.5) * (region.bottom - region.top) / size.height
        columns = region.left + (np.arange(size.width) + 0.5) * (region.right - region.left) / size.width
        is_image = np.outer((rows > 0) & (rows < height), (columns > 0) & (columns < width))
        return cls(preprocess(picture, size), is_image)

    def prepared(self, usual: Usual, order: ChannelOrder) -> FloatArray:
        """Returns what a file that puts the colours in `order` would take of it, (1, 3, H, W) float32."""
        normalised = (self.values - _column(usual.input.mean)) / _column(usual.input.std)
        tensor = np.where(self.is_image, normalised, 0)  # a letterbox pads with the mean colour
        if usual.order != order:
            tensor = tensor[::-1]
        return np.ascontiguousarray(tensor, np.float32)[np.newaxis]


def _logits(file: OnnxModel, tensor: FloatArray, outputs: Sequence[int]) -> FloatArray | None:
    """Returns what the file answers to an image; None where it cannot."""
    try:
        (answer,) = file.run(tensor, activation=False)
    except FrameError:
        return None
    found = answer.logits[list(outputs)]
    return found if np.isfinite(found).all() else None


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


def _best(tried: Sequence[Usual], hits: Sequence[Flags]) -> str:
    """Returns which of the others than the first one does best, in words; empty where none is significantly better."""
    given, *others = tried
    ours, *theirs = hits
    compared = [paired(flags, ours) for flags in theirs]
    chances = holm([one.chance for one in compared])
    found = [row for row, one in enumerate(compared) if one.gained > one.lost and chances[row] <= _LEVEL]
    if not found:
        return ""
    best = max(found, key=lambda row: int(theirs[row].sum()))
    right, count = int(theirs[best].sum()), len(ours)
    return (
        f"prepared otherwise ({others[best].name}: {others[best].options(given)}) it answers significantly better: "
        f"{right} of {count} labelled images right, {int(ours.sum())} as it is said, chance {chances[best]:.2g}"
    )


def _column(colours: Colours) -> FloatArray:
    return np.reshape(np.array(colours, np.float32), (3, 1, 1))
