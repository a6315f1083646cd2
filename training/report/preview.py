"""What a data set looks like before anything is learned from it: batches as the network gets them, the split, findings.

    python -m training.check --data DIR --preview preview.html

The pictures of the batches are PNG and made of the very tensors that training feeds to the network, the normalisation
undone: what is not right there is not right in training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cnn_perception.errors import ConfigError, PerceptionError
from cnn_perception.image.messages import RgbImage
from cnn_perception.model.spec import InputSpec
from cnn_perception.pages import data_url
from cnn_perception.pages.rendering import render
from training.batches import mixup
from training.batches.loader import Images, Key
from training.batches.mixup import Mixing
from training.config import TrainConfig
from training.data.conflicts import NO_IMAGE, NOT_IN_PART
from training.data.look_alikes import ACROSS
from training.data.records import PARTS, ImageFinding, LabelledImages, Part, in_words
from training.data.scan import picture
from training.loop.run import training_images, training_order
from training.report import figures
from training.report.output_table import OutputTable
from training.run_files import make_folder, write_text
from training.tasks.by_name import task_of
from training.tasks.scaling import in_units

SHOWN = 12
"""Images of a batch."""
EPOCHS = 2
"""Of which the first batch is shown, since an image looks otherwise in each."""
FINDINGS = 24
OF_ONE_KIND = 6
"""Findings shown as pictures, in all and of each kind."""
TITLE = "Preview of "
_LONGEST = 320
"""Pixels of a found picture's longer side."""


@dataclass(frozen=True)
class ShownImage:
    """A picture with what is said of it; `url` is empty where it cannot be shown."""

    url: str
    text: str


@dataclass(frozen=True)
class ShownBatch:
    """Images of a batch, or of a part, as the network gets them."""

    title: str
    images: tuple[ShownImage, ...]


@dataclass(frozen=True)
class ShownFinding:
    """Something that was noticed about an image, beside the image that it is a copy of; or about a class, without."""

    text: str
    action: str
    pictures: tuple[ShownImage, ...]


@dataclass(frozen=True)
class Preview:
    """What the page shows of a data set.

    Attributes:
        template: What shows it.
        batches: Of training, then images of validation.
        split: How many images of what are in each part.
        balance: The same as a figure.
        findings: The gravest.
        not_shown: How many others there are.
    """

    template: ClassVar[str] = "preview_parts.html"
    batches: tuple[ShownBatch, ...]
    split: OutputTable | None
    balance: str
    findings: tuple[ShownFinding, ...]
    not_shown: int


def write(path: Path, data: LabelledImages, config: TrainConfig) -> None:
    """Writes the page of a data set that can be trained with.

    Raises:
        ConfigError: If there is another file already.
    """
    warnings = list(data.warnings)
    if data.rejected:
        warnings.append(f"left out: {len(data.rejected)} images that cannot be used")
    _write(path, data.name, data.where, "", warnings, preview(data, config))


def write_refused(path: Path, sources: Sequence[Path], why: PerceptionError, findings: Sequence[ImageFinding]) -> None:
    """Writes the page of a data set that cannot be trained with: what was found in it.

    Raises:
        ConfigError: If there is another file already.
    """
    shown, not_shown = _findings(findings)
    name = "+".join(source.name for source in sources)
    _write(path, name, in_words(sources), str(why), (), Preview((), None, "", shown, not_shown))


def _write(path: Path, name: str, where: str, refused: str, warnings: Sequence[str], shown: Preview) -> None:
    require_own(path)
    text = render(
        "training.report",
        "preview.html",
        title=f"{TITLE}{name}",
        subtitle=where,
        refused=refused,
        warnings=warnings,
        preview=shown,
    )
    make_folder(path.parent)
    write_text(path, text)


def require_own(path: Path) -> None:
    """Refuses to take the place of a file that is no preview.

    Raises:
        ConfigError: If it would.
    """
    try:
        with path.open("rb") as file:
            is_own = f"title>{TITLE}".encode() in file.read(1000)
    except FileNotFoundError:
        return
    except OSError:
        is_own = False
    if not is_own:
        raise ConfigError(f"{path}: is there already and no preview; choose another place for it")


def preview(data: LabelledImages, config: TrainConfig) -> Preview:
    """Collects what is shown of a data set that is, or would be, trained with by some settings."""
    shown, not_shown = _findings(data.findings)
    batches = [] if config.mode == "probe" else [_training_batch(data, config, epoch) for epoch in range(EPOCHS)]
    if config.mode == "probe":
        batches.append(_as_they_are(data, config, "train"))
    batches.append(_as_they_are(data, config, "val"))
    return Preview(tuple(batches), _split(data), _balance(data), shown, not_shown)


def _training_batch(data: LabelledImages, config: TrainConfig, epoch: int) -> ShownBatch:
    """The first batch of an epoch, exactly as training makes it."""
    images = training_images(data, config)
    order = training_order(data, config)
    order.epoch = epoch
    batch = images.collate(images.__getitems__(next(iter(order))))
    tensors, targets = batch.images, batch.labels
    texts = [task_of(data.task).label_text(images.samples[row], data) for row in batch.rows.tolist()]
    mixing = Mixing.of(config, data.task)
    if mixing is not None and len(tensors):
        tensors, targets = mixup.mix(tensors, targets, len(data.class_names), mixing, epoch, 0)
        texts = [_shares(row, data.class_names) for row in targets]
    return ShownBatch(f"first batch of epoch {epoch + 1}", _shown(tensors, texts, config.input))


def _shares(target: Tensor, names: Sequence[str]) -> str:
    """What an image mixed of two shows."""
    parts = [(float(share), name) for share, name in zip(target, names, strict=True) if share > 0]
    return ", ".join(f"{name} {share:.2f}" for share, name in sorted(parts, reverse=True))


def _as_they_are(data: LabelledImages, config: TrainConfig, part: Part) -> ShownBatch:
    """Some images of a part, evenly taken, as the robot sees them."""
    samples = data.part(part)
    taken = tuple(samples[k] for k in np.linspace(0, len(samples) - 1, min(SHOWN, len(samples))).round().astype(int))
    images = Images(taken, config.input)
    batch = images.collate(images.__getitems__([Key(0, row) for row in range(len(taken))]))
    texts = [task_of(data.task).label_text(taken[row], data) for row in batch.rows.tolist()]
    return ShownBatch(f"{part} images, as the robot sees them", _shown(batch.images, texts, config.input))


def _shown(tensors: Tensor, texts: Sequence[str], spec: InputSpec) -> tuple[ShownImage, ...]:
    pixels = denormalised(tensors[:SHOWN], spec)
    return tuple(ShownImage(_png(image), text) for image, text in zip(pixels, texts[:SHOWN], strict=True))


def denormalised(tensors: Tensor, spec: InputSpec) -> npt.NDArray[np.uint8]:
    """Returns (N, height, width, 3) RGB of what a network gets, (N, 3, height, width)."""
    std, mean = (torch.tensor(values).reshape(3, 1, 1) for values in (spec.std, spec.mean))
    pixels = ((tensors * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())


def _png(image: npt.NDArray[np.uint8]) -> str:
    return data_url.of_png(cv2.imencode(".png", image[..., ::-1])[1].tobytes())


def _split(data: LabelledImages) -> OutputTable:
    """How many images of what are in each part; of numbers how they are spread."""
    names = data.class_names
    task = task_of(data.task)
    parts = [part for part in PARTS if data.part(part)]
    counts = {part: task.class_counts(data.part(part), len(names)) for part in parts}
    if counts["train"]:
        rows = [(name, tuple(str(counts[part][row]) for part in parts)) for row, name in enumerate(names)]
    else:
        spread = _numbers(data)
        rows = [(name, tuple(_spread(spread[part][:, row]) for part in parts)) for row, name in enumerate(names)]
    rows.append(("images", tuple(str(len(data.part(part))) for part in parts)))
    return OutputTable(unit="images of each part", columns=tuple(parts), rows=tuple(rows))


def _spread(values: npt.NDArray[np.float64]) -> str:
    return f"{values.mean():.4g} \N{PLUS-MINUS SIGN} {values.std():.3g} ({values.min():.4g} to {values.max():.4g})"


def _numbers(data: LabelledImages) -> Mapping[str, npt.NDArray[np.float64]]:
    """The numbers of each part's images, (n, K), in their units."""
    rows = {part: np.array([sample.values for sample in data.part(part)]) for part in PARTS if data.part(part)}
    return {part: np.asarray(in_units(values, data.scaling), np.float64) for part, values in rows.items()}


def _balance(data: LabelledImages) -> str:
    names = data.class_names
    task = task_of(data.task)
    counts: dict[str, list[int]] = {
        part: task.class_counts(data.part(part), len(names)) for part in PARTS if data.part(part)
    }
    if counts["train"]:
        return data_url.of_png(figures.class_balance(counts, names))
    return data_url.of_png(figures.number_spread(_numbers(data), names, data.units))


def _findings(findings: Iterable[ImageFinding]) -> tuple[tuple[ShownFinding, ...], int]:
    """The gravest findings as pictures, not too many of one kind, and how many are not among them."""
    everything = sorted(findings, key=_gravity)
    of_kind: dict[str, int] = {}
    shown: list[ShownFinding] = []
    for finding in everything:
        kind = _kind(finding)
        of_kind[kind] = of_kind.get(kind, 0) + 1
        if of_kind[kind] <= OF_ONE_KIND and len(shown) < FINDINGS:
            shown.append(_shown_finding(finding))
    return tuple(shown), len(everything) - len(shown)


def _kind(finding: ImageFinding) -> str:
    return finding.reason.partition(":")[0].partition(" of ")[0]


def _gravity(finding: ImageFinding) -> tuple[int, str]:
    """What sorts findings: what stops training, what is not used, what leaks, the rest."""
    if finding.action == "error":
        return 0, _kind(finding)
    if finding.action != "warning":
        return 1, _kind(finding)
    return 2 if ACROSS in finding.reason else 3, _kind(finding)


def _shown_finding(finding: ImageFinding) -> ShownFinding:
    is_of_class = finding.reason.startswith((NO_IMAGE, NOT_IN_PART))  # and its path that of the data set
    paths = [] if is_of_class else [finding.path] if finding.other is None else [finding.path, finding.other]
    return ShownFinding(finding.reason, finding.action, tuple(_found(path) for path in paths))


def _found(path: Path) -> ShownImage:
    image = picture(path)
    return ShownImage("" if image is None else data_url.of_image(_small(image)), str(path))


def _small(image: RgbImage) -> RgbImage:
    scale = min(1.0, _LONGEST / max(image.shape[:2]))
    height, width = (max(1, round(pixels * scale)) for pixels in image.shape[:2])
    return RgbImage(np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8))
