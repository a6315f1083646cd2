"""Large networks as the teachers of a small one.

A teacher sees the view of an image that its pupil sees, drawn by the same random numbers, prepared as its own training
was: at its own size, with its own colours. What it says of an unchanged image is no lesson for a changed one.

Source: Beyer et al. 2022, Knowledge distillation: A good teacher is patient and consistent, section 3.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cnn_perception.errors import ConfigError
from cnn_perception.model.spec import InputSpec
from training import checkpoint
from training.batches.recolour import recoloured
from training.checkpoint import Checkpoint
from training.config import TrainConfig
from training.data.records import LabelledImages
from training.networks import build
from training.tasks.scaling import Scaling


@dataclass(frozen=True, eq=False)
class _Teacher:
    """A teacher: its network, which of the views it looks at, and how that view gets its colours.

    `place` is None for the view of the pupil itself.
    """

    saved: Checkpoint
    network: nn.Module
    place: int | None
    colours: nn.Module


class Teachers:
    """The networks that a run imitates, in evaluation mode.

    Attributes:
        inputs: Preprocessing of the views that batches must bring beside the pupil's own; mostly none.
        saved: The checkpoint of each.
        names: Their paths.
    """

    def __init__(self, names: Sequence[str], pupil: InputSpec, device: torch.device, *, channels_last: bool) -> None:
        self.names = tuple(names)
        self.saved = tuple(checkpoint.load(Path(name)) for name in names)
        self._require_one_answer()
        different = [one.input for one in self.saved if not _is_same_view(one.input, pupil)]
        self.inputs: tuple[InputSpec, ...] = tuple(dict.fromkeys(different))
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self._teachers = [_teacher(one, pupil, self.inputs, device, layout) for one in self.saved]

    def _require_one_answer(self) -> None:
        first = self.saved[0]
        for name, other in zip(self.names[1:], self.saved[1:], strict=True):
            if (other.task, other.class_names, other.units) != (first.task, first.class_names, first.units):
                raise ConfigError(f"--teacher {name}: has other classes or numbers than {self.names[0]}; leave it out")

    @property
    def where(self) -> str:
        """The teachers, as people are told of them."""
        return " and ".join(self.names)

    def require_classes(self, data: LabelledImages) -> None:
        """Checks that the teachers know what a data set shows.

        Raises:
            ConfigError: If they have another task, or other classes, numbers or units.
        """
        first = self.saved[0]
        if first.task != data.task:
            raise ConfigError(f"--teacher {self.names[0]}: is {first.task}, {data.where} is {data.task}; take another")
        if (first.class_names, first.units) != (data.class_names, data.units):
            different = ", ".join(map(repr, sorted(set(first.class_names) ^ set(data.class_names)))) or "their order"
            raise ConfigError(
                f"--teacher {self.names[0]}: differs from {data.where} in its classes ({different}); take another, or "
                "give folders that are no classes as --unlabelled"
            )

    def network(self, number: int) -> nn.Module:
        """Returns the network of a teacher, for images that are prepared as its own training was."""
        return self._teachers[number].network

    @torch.no_grad()
    def __call__(self, images: Tensor, views: Sequence[Tensor], scaling: Scaling) -> Tensor:
        """Returns what each teacher gives for images, (M, N, K); numbers are standardised as the pupil's.

        Args:
            images: (N, 3, height, width), as the pupil sees them.
            views: The same as each of `inputs` has them.
            scaling: Of the pupil's numbers.
        """
        seen = [(one, images if one.place is None else views[one.place]) for one in self._teachers]
        return torch.stack([rescaled(one.network(one.colours(own)), one.saved, scaling) for one, own in seen])


def of_run(config: TrainConfig, device: torch.device) -> Teachers | None:
    """Reads the networks that a run imitates; None if it imitates none.

    Raises:
        ConfigError: If they do not answer the same question.
        DataError: If a checkpoint cannot be read.
    """
    if not config.teacher:
        return None
    return Teachers(config.teacher, config.input, device, channels_last=config.channels_last)


def _teacher(
    saved: Checkpoint, pupil: InputSpec, inputs: Sequence[InputSpec], device: torch.device, layout: torch.memory_format
) -> _Teacher:
    network = build.restore(saved).to(device).eval().requires_grad_(False).to(memory_format=layout)
    if saved.input in inputs:
        return _Teacher(saved, network, inputs.index(saved.input), nn.Identity())
    return _Teacher(saved, network, None, recoloured(pupil, saved.input).to(device))


def _is_same_view(one: InputSpec, other: InputSpec) -> bool:
    """Whether two inputs differ in mean and standard deviation alone; a letterbox is padded with its own mean."""
    if one.resize_mode == "letterbox" and one.mean != other.mean:
        return False
    return dataclasses.replace(one, mean=other.mean, std=other.std) == other


def rescaled(outputs: Tensor, saved: Checkpoint, scaling: Scaling) -> Tensor:
    """Returns a teacher's numbers standardised by the training images of its pupil; other outputs as they are."""
    if not saved.scaling or saved.scaling == tuple(scaling):
        return outputs
    mean, deviation = torch.tensor(saved.scaling, dtype=outputs.dtype, device=outputs.device).T
    own_mean, own_deviation = torch.tensor(scaling, dtype=outputs.dtype, device=outputs.device).T
    own: Tensor = (outputs * deviation + mean - own_mean) / own_deviation
    return own
