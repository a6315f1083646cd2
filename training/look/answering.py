"""What the network answers about the pictures shown, which units its answers rest on, and what these respond to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training.look.section import CannotLookError
from training.look.subject import Layer, Subject
from training.tasks.by_name import task_of
from training.tasks.scaling import in_units


@dataclass(frozen=True, eq=False)
class Answer:
    """What the network says of a picture.

    Attributes:
        path: The picture's.
        image: (3, height, width) as the network gets it.
        logits: (K,).
        output: Which of the K is explained: the highest, or of numbers the first.
    """

    path: Path
    image: Tensor
    logits: Tensor
    output: int


def answers(subject: Subject) -> tuple[Answer, ...]:
    """Returns what the network says of the pictures shown.

    Raises:
        CannotLookError: If there are none.
    """
    if not subject.shown:
        raise CannotLookError("there are no pictures to show; give --data or --images")
    network = subject.cut(subject.logits)
    with torch.inference_mode():
        logits = torch.cat([network(one.image[None]) for one in subject.shown])
    probable = task_of(subject.checkpoint.task).has_probabilities
    outputs = logits.argmax(1).tolist() if probable else [0] * len(logits)
    rows = zip(subject.shown, logits, outputs, strict=True)
    return tuple(Answer(one.path, one.image, found, output) for one, found, output in rows)


def in_words(subject: Subject, logits: Tensor, output: int) -> str:
    """Returns an output with its probability, or the number with its unit, of logits (K,)."""
    saved = subject.checkpoint
    task = task_of(saved.task)
    values = logits[None].float().cpu().numpy()
    if task.has_probabilities:
        return f"{saved.class_names[output]} {task.probabilities(values, saved.calibration.temperature)[0, output]:.0%}"
    return f"{saved.class_names[output]} {in_units(values, saved.scaling)[0, output]:.3g} {saved.units[output]}".strip()


def certainty(subject: Subject, output: int) -> Callable[[Tensor], Tensor]:
    """Returns what makes of logits (N, K) one number each that grows with an answer: (N,).

    The logarithm of its odds against all other classes, or the number in its unit. Probabilities will not do: near 1
    they hide how much is lost.
    """
    saved = subject.checkpoint
    if not task_of(saved.task).has_probabilities:
        scale = saved.scaling[output][1] if saved.scaling else 1.0
        return lambda logits: logits[:, output] * scale
    if not task_of(saved.task).one_class:
        return lambda logits: logits[:, output]
    others = [index for index in range(len(saved.class_names)) if index != output]
    return lambda logits: logits[:, output] - logits[:, others].logsumexp(1)


def shares(subject: Subject, layers: Sequence[Layer], given: Sequence[Answer]) -> list[Tensor]:
    """Returns what each unit contributes to each answer, (N, C) a layer: activation times gradient over its cells.

    Of a network that pools and ends in a linear layer they add up to the logit without its bias, at the last layer.
    """
    network = subject.cut((*(layer.node for layer in layers), subject.logits))
    found = [_shares(network, answer) for answer in given]
    return [torch.stack(of_layer) for of_layer in zip(*found, strict=True)]


def _shares(network: nn.Module, answer: Answer) -> list[Tensor]:
    with torch.enable_grad():
        *maps, logits = network(answer.image[None].requires_grad_())
        gradients = torch.autograd.grad(logits[0, answer.output], maps)
    return [(found * slope).sum((0, 2, 3)).detach().cpu() for found, slope in zip(maps, gradients, strict=True)]


def leading_units(contributions: Tensor, count: int) -> list[int]:
    """Returns the units that contribute most to the answers (N, C), for the pictures in turn, each unit once."""
    ranked = contributions.argsort(dim=1, descending=True, stable=True)
    return list(itertools.islice(dict.fromkeys(ranked.T.flatten().tolist()), count))
