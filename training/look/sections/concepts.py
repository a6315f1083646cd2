"""What makes a class: directions of the last features that its images share, and their part in its output."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.image.messages import RgbImage, read_image
from training.data.records import Sample
from training.graphs.activation_map import is_exact_cam
from training.look.drawing import crop, grid, lit, square
from training.look.methods.evidence import enlarged
from training.look.methods.factors import Account, Factors, account, factorise, non_negative
from training.look.section import Block, CannotLookError, Picture, Section
from training.look.subject import Subject
from training.networks import backbones
from training.tasks.by_name import task_of

CONCEPTS = 5
MOST_CLASSES = 4
"""Classes that are shown, those with the most images."""
STABLE = 0.9
"""Cosine between the directions of two starts below which a concept is called unstable."""
_FEWEST_IMAGES = 5
_ROWS = 10_000
"""Places of images that are factorised, about: more cost time and change little."""
_PATCHES = 6
_PATCH_PX = 80
_CELLS = 3
"""Side of a patch, in cells: those that touch the strongest one."""
_BATCH = 64

Numbers = npt.NDArray[np.float32]

_HOW_EXACT = (
    "The head is pooling and a linear layer: the parts are exact, since the output is the sum over the cells of the "
    "gradient times the features, plus the bias."
)
_HOW_FIRST_ORDER = (
    "The head is not pooling and a linear layer: the parts are those of the gradient times the features, a first-order "
    "account, and the rest is what it leaves out, biases included."
)
_SIGNED = " The features are negative in places: above and below 0 count as features of their own."


@dataclass(frozen=True, eq=False)
class _Concepts:
    """What was found of one class over N images: the account, the factors, and (N, h, w, k) how much where."""

    output: int
    samples: tuple[Sample, ...]
    factors: Factors
    account: Account
    amounts: Numbers


def look(subject: Subject) -> Section:
    """Shows the concepts of up to four classes.

    Raises:
        CannotLookError: If the network has no spatial features, or no class has enough images.
    """
    features = subject.survey.features
    if not features.size or features.shape[2] * features.shape[3] < 2:
        raise CannotLookError("the last features have no places that could be compared; it needs a network with a grid")
    if not features.any():
        raise CannotLookError(
            "the last features are 0 everywhere, whatever the image: the network has died; train again"
        )
    chosen = _chosen(subject)
    if not chosen:
        raise CannotLookError(f"no class has {_FEWEST_IMAGES} images; concepts are what images of a class share")
    split = backbones.split(
        copy.deepcopy(subject.model).cpu(), subject.checkpoint.input.height, subject.checkpoint.input.width
    )
    is_exact = is_exact_cam(split)
    found = [
        _concepts(subject, output, rows, split, is_exact)
        for output, rows in ProgressBar(chosen.items(), desc="finding concepts", unit="class", leave=False)
    ]
    how = (_HOW_EXACT if is_exact else _HOW_FIRST_ORDER) + (_SIGNED if features.min() < 0 else "")
    return Section(
        intro=f"The last features at every place of the images of a class, as sums of {CONCEPTS} non-negative factors "
        "(Lee and Seung 1999): what the class's images share. Each picture shows where one of them is strongest, and "
        f"its part in the class's mean output. {how}",
        blocks=tuple(_block(subject, concepts) for concepts in found),
        facts={
            "exact": is_exact,
            "signed_features": bool(features.min() < 0),
            "classes": {subject.class_names[concepts.output]: _facts(concepts) for concepts in found},
            "not_shown": [name for k, name in enumerate(subject.class_names) if k not in chosen],
        },
    )


def _chosen(subject: Subject) -> dict[int, npt.NDArray[np.int64]]:
    """Returns the rows of the mapped images of each output that is shown."""
    samples = subject.survey.mapped
    rows = {output: _rows_of(subject, samples, output) for output in range(len(subject.class_names))}
    usable = [output for output in rows if len(rows[output]) >= _FEWEST_IMAGES]
    most = sorted(usable, key=lambda output: (-len(rows[output]), output))[:MOST_CLASSES]
    rng = np.random.default_rng(subject.options.seed)
    cells = subject.survey.features.shape[2] * subject.survey.features.shape[3]
    limit = max(_ROWS // cells, _FEWEST_IMAGES)
    return {output: _drawn(rows[output], limit, rng) for output in sorted(most)}


def _rows_of(subject: Subject, samples: Sequence[Sample], output: int) -> npt.NDArray[np.int64]:
    """Returns the rows of the images that show a class; of numbers, which every image has, all."""
    task = task_of(subject.checkpoint.task)
    if not task.has_probabilities:
        return np.arange(len(samples))
    shows: Callable[[Sample], bool] = (
        (lambda sample: sample.label == output) if task.one_class else (lambda sample: sample.values[output] > 0.5)
    )
    return np.flatnonzero([shows(sample) for sample in samples])


def _drawn(rows: npt.NDArray[np.int64], limit: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    return rows if len(rows) <= limit else np.sort(rng.choice(rows, limit, replace=False))


def _concepts(
    subject: Subject, output: int, rows: npt.NDArray[np.int64], split: backbones.Split, is_exact: bool
) -> _Concepts:
    maps = subject.survey.features[rows].astype(np.float32)  # (N, C, h, w)
    outputs, gradients = _outputs_and_gradients(split.head, maps, output)
    count, _, height, width = maps.shape
    cells = maps.transpose(0, 2, 3, 1).reshape(count, height * width, -1)
    slopes = gradients.transpose(0, 2, 3, 1).reshape(cells.shape)
    positive = non_negative(cells)
    if positive.shape != cells.shape:
        slopes = np.concatenate([slopes, -slopes], axis=-1)
    factors = factorise(positive.reshape(count * height * width, -1), CONCEPTS)
    amounts = factors.amounts.reshape(count, height * width, -1)
    bias = float(split.classifier.bias[output]) if is_exact and split.classifier.bias is not None else 0.0
    return _Concepts(
        output=output,
        samples=tuple(subject.survey.mapped[row] for row in rows),
        factors=factors,
        account=account(amounts, factors.directions, slopes, outputs, bias),
        amounts=amounts.reshape(count, height, width, -1),
    )


def _outputs_and_gradients(head: nn.Module, maps: Numbers, output: int) -> tuple[Numbers, Numbers]:
    """Returns an output (N,) of features (N, C, h, w), and its gradient to them."""
    outputs: list[Tensor] = []
    gradients: list[Tensor] = []
    for start in range(0, len(maps), _BATCH):
        batch = torch.from_numpy(maps[start : start + _BATCH]).requires_grad_()
        logits, _ = head(batch.clone())  # heads of torchvision work in place
        outputs.append(logits[:, output].detach())
        gradients += torch.autograd.grad(logits[:, output].sum(), batch)
    return torch.cat(outputs).numpy(), torch.cat(gradients).numpy()


def _block(subject: Subject, found: _Concepts) -> Block:
    name = subject.class_names[found.output]
    order = np.argsort(-found.account.contributions, kind="stable")
    pictures = tuple(_picture(subject, found, int(concept), place) for place, concept in enumerate(order, 1))
    return Block(
        title=f"What makes {name!r}", note=_note(found), pictures=pictures, width=220, table=_table(found, order)
    )


def _note(found: _Concepts) -> str:
    account = found.account
    r2 = "its output does not vary" if np.isnan(account.r2) else f"they explain {account.r2:.0%} of how it varies (R²)"
    text = f"{len(found.samples)} images, mean output {account.output:+.2f}; {r2}"
    text += f" and {found.factors.kept:.0%} of the features' energy."
    if account.shares is None:
        text += " The mean output is too near 0 for percentages."
    unstable = int((found.factors.matches < STABLE).sum())
    return text + (f" {unstable} of them depend on where the search starts (marked ~)." if unstable else "")


def _name(found: _Concepts, concept: int, place: int) -> str:
    return f"{place}{'~' if found.factors.matches[concept] < STABLE else ''}"


def _picture(subject: Subject, found: _Concepts, concept: int, place: int) -> Picture:
    amounts = found.amounts[..., concept]
    images = np.argsort(-amounts.max(axis=(1, 2)), kind="stable")[:_PATCHES]
    patches = [_patch(subject, found.samples[image], amounts[image]) for image in images]
    part = found.account.contributions[concept]
    share = "" if found.account.shares is None else f"{found.account.shares[concept]:.0%} · "
    caption = f"concept {_name(found, concept, place)}: {share}{part:+.2f}"
    return Picture(f"{found.output}_{place}", grid(patches, 3), caption)


def _patch(subject: Subject, sample: Sample, amounts: Numbers) -> RgbImage:
    """Returns what the network got around the strongest place, dark where the concept is weak."""
    picture = subject.as_picture(subject.tensor(read_image(sample.path)))
    height, width = picture.shape[:2]
    row, column = np.unravel_index(int(amounts.argmax()), amounts.shape)
    middle = _middle(subject, int(row), int(column), amounts.shape)
    side = max(round(_CELLS * max(height / amounts.shape[0], width / amounts.shape[1])), 16)
    rows, columns = crop(picture, *middle, side)
    # an image without the concept is dark as a whole
    strength = enlarged(amounts / max(float(amounts.max()), 1e-30), height, width)
    return square(RgbImage(lit(picture, strength)[rows, columns]), _PATCH_PX)


def _middle(subject: Subject, row: int, column: int, shape: Sequence[int]) -> tuple[float, float]:
    """Returns the centre of a cell in the network's input, where the overlay of the whole map shows it, too."""
    size = subject.checkpoint.input
    return (row + 0.5) * size.height / shape[0] - 0.5, (column + 0.5) * size.width / shape[1] - 0.5


def _table(found: _Concepts, order: npt.NDArray[np.int64]) -> tuple[tuple[str, ...], ...]:
    account = found.account
    shares = account.shares

    def row(name: str, value: float, match: str = "") -> tuple[str, ...]:
        return (name, f"{value:+.2f}", "" if shares is None else f"{value / account.output:.0%}", match)

    concepts = [
        row(
            f"concept {_name(found, concept, place)}",
            account.contributions[concept],
            f"{found.factors.matches[concept]:.2f}",
        )
        for place, concept in enumerate(order, 1)
    ]
    sums = [row("not in them", account.rest), row("bias", account.bias), row("mean output", account.output)]
    return (("part", "in the output", "share", "cosine between starts"), *concepts, *sums)


def _facts(found: _Concepts) -> dict[str, Any]:
    account = found.account
    return {
        "images": len(found.samples),
        "contributions": [round(float(value), 4) for value in account.contributions],
        "rest": round(account.rest, 4),
        "bias": round(account.bias, 4),
        "output": round(account.output, 4),
        "r2": None if np.isnan(account.r2) else round(account.r2, 4),
        "energy_kept": round(found.factors.kept, 4),
        "cosine_between_starts": [round(float(value), 4) for value in found.factors.matches],
    }
