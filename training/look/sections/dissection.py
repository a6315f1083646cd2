"""Units against masks of concepts: which unit is on where a concept is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import DataError, FrameError
from cnn_perception.image.messages import RgbImage, read_image
from cnn_perception.masks.class_table import VOID
from cnn_perception.masks.folder import Masks
from cnn_perception.masks.placing import placed
from cnn_perception.model.spec import InputSpec
from cnn_perception.pipeline.label_map import LabelMap, interpolation
from training.look.methods.dissection import DETECTS, ON_SHARE, Overlaps, Thresholds, by_chance, cap
from training.look.section import Block, CannotLookError, Picture, Section
from training.look.subject import Layer, Subject

_MOST_IMAGES = 200
_FINEST = 64
"""Places of the grid along a side, at most: 56 of 224 pixels."""
_DRAWN = 12
"""Concepts of which pictures are drawn, those with the largest IoU."""
_CANDIDATES = 6
_EXAMPLES = 3
_SIDE = 160
_OUTLINE = (255, 220, 0)
_GAP = 4
_DIMMED = 0.3


@dataclass(frozen=True, eq=False)
class _Example:
    """An image with a mask that fits it.

    Attributes:
        path: Its file.
        labels: (rows, columns) of the grid: which concept each place shows.
    """

    path: Path
    labels: LabelMap


@dataclass(frozen=True, eq=False)
class _Dissected:
    """What was found of a layer: thresholds (C,), IoU (C, K), and at which share of the places each unit is on (C,)."""

    layer: Layer
    thresholds: Tensor
    iou: Tensor
    on: Tensor


@dataclass(frozen=True, eq=False)
class _Best:
    """The unit that matches a concept best."""

    concept: int
    name: str
    share: float
    found: _Dissected
    unit: int

    @property
    def iou(self) -> float:
        return float(self.found.iou[self.unit, self.concept])


def look(subject: Subject) -> Section:
    """Returns the section.

    Raises:
        CannotLookError: If there are no masks, none of these images, or none that can be used; or no spatial maps.
    """
    subject.require_maps()
    masks = subject.options.masks
    if masks is None:
        raise CannotLookError(
            "needs --masks: a folder of masks of these images with a classes.csv, Penn-Fudan's, or the demo's"
        )
    examples = _examples(subject, masks)
    shares = _shares(examples, len(masks.concepts))
    dissected = _dissect(subject, examples, len(masks.concepts))
    best = _best(dissected, masks.concepts, shares)
    pictures = [picture for one in best[:_DRAWN] for picture in _drawn(subject, examples, masks, one)]
    return Section(
        intro=(
            f"A unit is on where its upsampled map exceeds the value that it exceeds at {ON_SHARE:.1%} of its cells "
            "over all images; its IoU with a concept is the number of places where the unit is on and the mask shows "
            "the concept, over those with either (Bau et al. 2017, Network Dissection). So few places are on that even "
            "a perfect detector of something large overlaps little with it: the cap is the most that a concept's size "
            "allows, and chance what a unit reaches that knows nothing of it. "
            f"{len(examples)} images with masks, compared at {examples[0].labels.shape[0]}x"
            f"{examples[0].labels.shape[1]} places each."
        ),
        blocks=(
            Block(
                "The best unit of each concept",
                "Bright where the unit is on, the mask outlined in yellow; of the images that show most of the "
                "concept, those in which they meet most.",
                tuple(pictures),
                width=380,
                table=_concept_table(best, masks.concepts, shares),
            ),
            Block(
                "Detectors by layer",
                f"Units whose IoU with some concept is above {DETECTS:g}, Bau et al.'s bound, and how many concepts "
                "have such a unit.",
                table=_layer_table(dissected),
            ),
        ),
        facts=_facts(examples, dissected, best),
    )


def _examples(subject: Subject, masks: Masks) -> list[_Example]:
    """Returns the images that have a mask and can be read, drawn by the seed where there are many."""
    images = list(dict.fromkeys([*(sample.path for sample in subject.samples), *subject.options.images]))
    try:
        pairs = masks.paired(images)
        most = min(_MOST_IMAGES, subject.options.most_images)
        if len(pairs) > most:
            rows = np.random.default_rng(subject.options.seed).choice(len(pairs), most, replace=False)
            pairs = [pairs[row] for row in np.sort(rows)]
        examples = [_example(masks, image, mask, subject.checkpoint.input) for image, mask in pairs]
    except DataError as error:
        raise CannotLookError(str(error)) from None
    found = [example for example in examples if example is not None]
    if not found:
        raise CannotLookError(f"{masks.root}: has no mask of any of the {len(images)} images; its files are NAME.png")
    if all((example.labels < 0).all() for example in found):
        raise CannotLookError(f"{masks.root}: its masks show none of the concepts that it names")
    return found


def _example(masks: Masks, image: Path, mask: Path, size: InputSpec) -> _Example | None:
    try:
        height, width = read_image(image).shape[:2]
    except FrameError:
        return None
    return _Example(image, placed(masks.labels(mask, height, width), size, _steps(size.height), _steps(size.width)))


def _steps(pixels: int) -> int:
    """Returns into how many places a side of the input is divided."""
    return round(pixels / -(-pixels // _FINEST))


def _shares(examples: Sequence[_Example], concepts: int) -> list[float]:
    """Returns how much of the places that count each concept covers."""
    counts = np.zeros(concepts, np.int64)
    places = 0
    for example in examples:
        counts += np.bincount(example.labels[example.labels >= 0], minlength=concepts)
        places += int((example.labels != VOID).sum())
    return [float(count / max(places, 1)) for count in counts]


@torch.inference_mode()
def _dissect(subject: Subject, examples: Sequence[_Example], concepts: int) -> list[_Dissected]:
    """Looks at all images twice: for the thresholds, and for the overlaps. No map outlives its batch."""
    layers = subject.layers
    tallies = [Thresholds(len(examples) * layer.shape[1] * layer.shape[2]) for layer in layers]
    for _, maps in _maps(subject, examples, "finding thresholds"):
        for tally, found in zip(tallies, maps, strict=True):
            tally.add(found)
    overlaps = [
        Overlaps(tally.result(), *_upsampling(layer, subject, examples[0].labels.shape), concepts)
        for tally, layer in zip(tallies, layers, strict=True)
    ]
    for rows, maps in _maps(subject, examples, "comparing with masks"):
        labels = torch.from_numpy(np.stack([example.labels for example in rows])).to(subject.device)
        for overlap, found in zip(overlaps, maps, strict=True):
            overlap.add(found, labels, VOID)
    return [
        _Dissected(layer, tally.result().cpu(), overlap.iou().cpu(), (overlap.on / max(overlap.places, 1)).cpu())
        for layer, tally, overlap in zip(layers, tallies, overlaps, strict=True)
    ]


def _maps(
    subject: Subject, examples: Sequence[_Example], title: str
) -> Iterator[tuple[Sequence[_Example], list[Tensor]]]:
    """Yields some of the images with the maps (N, C, h, w) of each layer."""
    with ProgressBar(total=len(examples), desc=title, unit="img", leave=False) as bar:
        for start in range(0, len(examples), subject.batch):
            batch = examples[start : start + subject.batch]
            images = torch.stack([subject.tensor(read_image(example.path)) for example in batch])
            *maps, _, _, _ = subject.opened(images)
            yield batch, maps
            bar.update(len(batch))


def _upsampling(layer: Layer, subject: Subject, grid: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Returns the weights, (rows, h) and (columns, w), that make the grid of a layer's cells.

    Each cell's value lies at the centre of its receptive field, as Bau et al. place it.
    """
    size = subject.checkpoint.input
    down, across = (
        torch.from_numpy(interpolation((np.arange(steps) + 0.5) * pixels / steps - 0.5, offset, stride, cells))
        for steps, pixels, offset, stride, cells in zip(
            grid, (size.height, size.width), layer.geometry.offset, layer.geometry.stride, layer.shape[1:], strict=True
        )
    )
    return down.to(subject.device), across.to(subject.device)


def _best(dissected: Sequence[_Dissected], names: Sequence[str], shares: Sequence[float]) -> list[_Best]:
    """Returns the best unit of each concept that is anywhere, the largest IoU first; of equals the earliest layer's."""
    found = []
    for concept, (name, share) in enumerate(zip(names, shares, strict=True)):
        if share > 0:
            layer = max(dissected, key=lambda one: float(one.iou[:, concept].max()))
            found.append(_Best(concept, name, share, layer, int(layer.iou[:, concept].argmax())))
    return sorted(found, key=lambda one: -one.iou)


def _concept_table(best: Sequence[_Best], names: Sequence[str], shares: Sequence[float]) -> tuple[tuple[str, ...], ...]:
    rows = [("concept", "covers", "best unit", "IoU", "cap", "chance", "unit is on at")]
    for one in best:
        unit = f"{one.found.layer.name}:{one.unit}"
        figures = (f"{one.iou:.3f}", f"{cap(one.share):.3f}", f"{by_chance(one.share):.3f}")
        rows.append((one.name, f"{one.share:.2%}", unit, *figures, f"{float(one.found.on[one.unit]):.2%}"))
    rows += [(name, "nowhere", "-", "-", "-", "-", "-") for name, share in zip(names, shares, strict=True) if not share]
    return tuple(rows)


def _layer_table(dissected: Sequence[_Dissected]) -> tuple[tuple[str, ...], ...]:
    rows = [("layer", "units", "detectors", "concepts with one", "largest IoU")]
    for one in dissected:
        detectors, concepts = _detectors(one)
        counts = (str(one.layer.shape[0]), str(detectors), str(concepts))
        rows.append((one.layer.name, *counts, f"{float(one.iou.max()):.3f}"))
    return tuple(rows)


def _detectors(one: _Dissected) -> tuple[int, int]:
    """Returns how many units detect a concept, each counted for the one that it matches best, and how many concepts."""
    largest, concepts = one.iou.max(1)
    is_one = largest > DETECTS
    return int(is_one.sum()), len(set(concepts[is_one].tolist()))


def _facts(examples: Sequence[_Example], dissected: Sequence[_Dissected], best: Sequence[_Best]) -> dict[str, Any]:
    layers = {}
    for one in dissected:
        detectors, concepts = _detectors(one)
        layers[one.layer.name] = {"units": one.layer.shape[0], "detectors": detectors, "concepts": concepts}
    return {
        "images": len(examples),
        "grid": list(examples[0].labels.shape),
        "on_share": ON_SHARE,
        "concepts": {
            one.name: {
                "share": one.share,
                "layer": one.found.layer.name,
                "unit": one.unit,
                "iou": one.iou,
                "cap": cap(one.share),
                "chance": by_chance(one.share),
                "unit_on": float(one.found.on[one.unit]),
            }
            for one in best
        },
        "layers": layers,
    }


@torch.inference_mode()
def _drawn(subject: Subject, examples: Sequence[_Example], masks: Masks, best: _Best) -> list[Picture]:
    """Draws images that show a concept, bright where its best unit is on."""
    areas = [int((example.labels == best.concept).sum()) for example in examples]
    order = sorted(range(len(examples)), key=lambda row: -areas[row])[:_CANDIDATES]
    chosen = [examples[row] for row in order if areas[row]]
    size = subject.checkpoint.input
    images = torch.stack([subject.tensor(read_image(example.path)) for example in chosen])
    maps = subject.cut(best.found.layer.node)(images)[:, best.unit].float()
    down, across = _upsampling(best.found.layer, subject, (size.height, size.width))
    is_on = (down @ maps @ across.T > float(best.found.thresholds[best.unit])).cpu().numpy()
    views = []
    for example, image, on in zip(chosen, images, is_on, strict=True):
        shown = _shown(masks, example.path, size) == best.concept
        views.append((int((on & shown).sum()), _view(subject.as_picture(image), on, shown)))
    views.sort(key=lambda view: -view[0])
    picture = _side_by_side([view for _, view in views[:_EXAMPLES]])
    unit = f"{best.found.layer.name}:{best.unit}"
    caption = f"{best.name}: {unit}, IoU {best.iou:.3f} of at most {cap(best.share):.3f}"
    return [Picture(f"concept_{best.concept:02}", picture, caption)]


def _shown(masks: Masks, image: Path, size: InputSpec) -> LabelMap:
    """Returns what each pixel of the network's input shows."""
    mask = masks.path_of(image)
    assert mask is not None
    return placed(masks.labels(mask, *read_image(image).shape[:2]), size)


def _view(picture: RgbImage, on: np.ndarray, shown: np.ndarray) -> RgbImage:
    """Returns a picture, dark where a unit is off, with the outline of a mask, enlarged to a readable size."""
    factor = max(1, round(_SIDE / min(picture.shape[:2])))
    lit = (picture * np.where(on, 1.0, _DIMMED)[..., None]).astype(np.uint8)
    large = np.ascontiguousarray(lit.repeat(factor, 0).repeat(factor, 1))
    mask = shown.astype(np.uint8).repeat(factor, 0).repeat(factor, 1)
    outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(large, outlines, -1, _OUTLINE, max(1, min(large.shape[:2]) // 112))
    return RgbImage(large)


def _side_by_side(views: Sequence[RgbImage]) -> RgbImage:
    gap = np.full((views[0].shape[0], _GAP, 3), 255, np.uint8)
    parts = [part for view in views for part in (view, gap)]
    return RgbImage(np.concatenate(parts[:-1], axis=1))
