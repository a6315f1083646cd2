"""Mean scores of an image: over its ten crops, and over the networks of an ensemble."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from cnn_perception.errors import ConfigError, FrameError
from cnn_perception.image.limits import read_picture
from cnn_perception.image.messages import RgbImage, decode_file_bytes
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import InputSpec, Task
from cnn_perception.pipeline.preprocess import InputTensor, input_region, preprocess
from training.batches.cache import FILTERS
from training.batches.loader import Batch, Images, Item, Key
from training.checkpoint import Checkpoint
from training.scoring.predict import Predicted, predict, together
from training.tasks.by_name import task_of
from training.tasks.probabilities import Doubles
from training.tasks.scaling import in_units

VIEWS = 10


def require_different(members: Sequence[Checkpoint], names: Sequence[str], option: str) -> None:
    """Checks that no two networks are copies of each other, which would count twice in a mean score.

    Raises:
        ConfigError: If two are; names them, and the option by which they were given.
    """
    for (name, one), (copy, other) in itertools.combinations(zip(names, members, strict=True), 2):
        if one.backbone == other.backbone and _are_equal(one.model, other.model):
            raise ConfigError(f"{option} {copy}: holds the weights of {name}; name each network once")


def _are_equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def ten_views(image: RgbImage, spec: InputSpec) -> list[RgbImage]:
    """Cuts the four corners and the centre out of the resized image, and mirrors each.

    Args:
        image: (H, W, 3) uint8.
        spec: The model's preprocessing; its resize_mode must be `crop`.

    Returns:
        Ten images (height, width, 3) uint8: top left, top right, bottom left, bottom right and centre as they are,
        then mirrored in the same order. The centre is what `preprocess` keeps.

    Source: Krizhevsky et al. 2012, ImageNet Classification with Deep Convolutional Neural Networks, section 4.1.
    """
    height, width = image.shape[:2]
    centre = input_region(height, width, spec)
    right, bottom = width - (centre.right - centre.left), height - (centre.bottom - centre.top)
    source = Image.fromarray(image)
    views = []
    for left, top in ((0.0, 0.0), (right, 0.0), (0.0, bottom), (right, bottom), (centre.left, centre.top)):
        box = (left, top, left + width - right, top + height - bottom)
        # in floating point any edge may lie a hair outside, which Pillow refuses
        inside = (max(0.0, box[0]), max(0.0, box[1]), min(box[2], width), min(box[3], height))
        resized = source.resize((spec.width, spec.height), FILTERS[spec.interpolation], box=inside)
        views.append(RgbImage(np.asarray(resized)))
    return [*views, *(RgbImage(np.ascontiguousarray(view[:, ::-1])) for view in views)]


@dataclass(frozen=True)
class TenViews(Images):
    """The ten views of each image, (10, 3, height, width) each, as batches (N, 10, 3, height, width)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """What an item's tensor is."""
        return (10, *super().shape)

    def item(self, key: Key, out: npt.NDArray[np.float32]) -> Item:
        """Loads the views of an image into `out`, which is of `shape`."""
        try:
            image = decode_file_bytes(read_picture(self.samples[key.row].path))
        except (FrameError, OSError):
            return Item(key.row, None)
        as_it_is = dataclasses.replace(self.spec, resize_mode="squash", crop_fraction=1.0)
        for view, slot in zip(ten_views(image, self.spec), out, strict=True):
            preprocess(view, as_it_is, slot)
        return Item(key.row, InputTensor(out))


def require_ten_crop(spec: InputSpec, task: Task, name: str) -> None:
    """Checks that ten crops of an image have a meaning.

    Raises:
        ConfigError: If the model sees the whole image, or gives numbers.
    """
    if spec.resize_mode != "crop":
        raise ConfigError(f"{name}: --ten-crop needs a model of resize mode crop, this one has {spec.resize_mode}")
    if not task_of(task).has_probabilities:
        raise ConfigError(f"{name}: --ten-crop votes on classes; a number may change sign in a mirrored image")


@dataclass(frozen=True, eq=False)
class ImageScores:
    """Rows (n,) of the images that could be read, and their scores (n, K) in [0, 1]; for regression their numbers."""

    rows: npt.NDArray[np.int64]
    scores: Doubles


def predict_scores(
    model: nn.Module, loader: DataLoader[Batch], device: torch.device, saved: Checkpoint, title: str
) -> ImageScores:
    """Returns the scores of a network on images, or the mean over the ten views of each.

    Args:
        model: The network.
        loader: The images, of `Images` or `TenViews`.
        device: Where the network is.
        saved: Its checkpoint, for what the logits mean and their temperature.
        title: What the progress bar says.

    Raises:
        DataError: If none of the images can be read.
    """
    batches = (_with_scores(batch, saved) for batch in predict(model, loader, device, title))
    found = together(batches, title)
    return ImageScores(found.rows.numpy(), found.outputs.numpy())


def _with_scores(batch: Predicted, saved: Checkpoint) -> Predicted:
    """The batch with the mean score over the views of each image in place of the logits."""
    of_views = _scores(batch.outputs.numpy(), saved)
    scores = of_views.reshape(len(batch.rows), -1, of_views.shape[1]).mean(axis=1)
    return batch._replace(outputs=torch.from_numpy(scores))


def _scores(logits: FloatArray, saved: Checkpoint) -> Doubles:
    return in_units(task_of(saved.task).probabilities(logits, saved.calibration.temperature), saved.scaling)


def average(members: Sequence[ImageScores]) -> ImageScores:
    """Returns the mean of the scores, of the images that all networks could read."""
    rows = members[0].rows
    for other in members[1:]:
        rows = np.intersect1d(rows, other.rows)
    scores = [member.scores[np.isin(member.rows, rows)] for member in members]
    return ImageScores(rows, np.mean(scores, axis=0))
