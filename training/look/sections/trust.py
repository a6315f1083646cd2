"""Whether the activation map that the node publishes can be trusted: removal of pixels, and randomised weights."""

from __future__ import annotations

import bisect
import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.image.messages import RgbImage
from cnn_perception.intervals import paired_mean
from training.graphs.activation_map import ActivatedClassifier, shown_logit
from training.look.drawing import heat
from training.look.methods.evidence import area, enlarged, rank_correlation, removed, shuffle, similarity
from training.look.pointing import pointing
from training.look.section import Block, CannotLookError, Picture, Section
from training.look.subject import Shown, Subject
from training.networks import backbones
from training.report import figures
from training.tasks.by_name import task_of

Numbers = npt.NDArray[np.float32]

MOST_IMAGES = 6
"""Validation images by which the map is judged where none are asked for."""
STEPS = 16
"""Parts in which the pixels of an image go or come."""
DRAWS = 2
"""Times that the weights are randomised; the figures are means."""
KEPT = 0.5
"""Rank correlation with the map of a random network from which a map owes too much to the picture itself."""
_BLUR = 1 / 20
"""Standard deviation of the blur from which insertion starts, in sides of the image."""
_SEEN_PARTS = (0, 2, 4, 8)
_PICTURES = 2
_SIDE_PX = 160
_HEAD = "the last layer"

_INTRO = (
    "The activation map that the node publishes, tested. Deletion and insertion (Petsiuk, Das and Saenko 2018): if it "
    "shows what the answer rests on, the answer falls at once when the strongest pixels go, and rises at once when "
    "they come; beside it, the same cells in random order. Randomised weights (Adebayo et al. 2018): a map of what was "
    "learned must change when what was learned is destroyed; one that stays shows the picture, not the network."
)


@dataclass(frozen=True, eq=False)
class _Judged:
    """The N images by which the map is judged.

    Attributes:
        paths: Their files.
        images: (N, 3, H, W) as the network gets them.
        maps: (N, h, w) the activation maps that the node publishes of them.
        shown: (N,) the output that each explains.
        method: How they are made.
    """

    paths: tuple[Path, ...]
    images: Tensor
    maps: Numbers
    shown: Tensor
    method: str


def look(subject: Subject) -> Section:
    """Shows the curves and the sanity check of the activation map.

    Raises:
        CannotLookError: If the network has no activation map, or one of a single cell.
    """
    judged = _judged(subject)
    removal, removal_facts = _removal(subject, judged)
    pointed, pointing_facts = pointing(subject, activated(subject))
    randomised, randomised_facts = _randomised(subject, judged)
    return Section(
        intro=_INTRO,
        blocks=(*removal, *pointed, *randomised),
        facts={"method": judged.method, "images": [str(path) for path in judged.paths]}
        | {"removal": removal_facts, "pointing": pointing_facts, "randomisation": randomised_facts},
    )


@torch.no_grad()
def _judged(subject: Subject) -> _Judged:
    network = activated(subject)
    judged = subject.shown if subject.options.images else _drawn(subject)
    if not judged:
        raise CannotLookError("there is no picture to judge the map by; give --images or --data")
    paths = tuple(one.path for one in judged)
    images = torch.stack([one.image for one in judged])
    outputs = [network(image[None]) for image in images]
    maps = torch.cat([output[2] for output in outputs]).float().cpu().numpy()
    if maps[0].size < 2:
        raise CannotLookError("the activation map is a single cell, which tells no place from another")
    logits = torch.cat([output[0] for output in outputs])
    return _Judged(paths, images, maps, shown_logit(logits, subject.checkpoint.task), str(network.method))


def activated(subject: Subject) -> ActivatedClassifier:
    """Returns the network with the activation map that the node publishes.

    Raises:
        CannotLookError: If it has none, or one of tokens, see `backbones.Tokens`.
    """
    split = subject.split()
    if not split.spatial:
        raise CannotLookError(f"{subject.checkpoint.backbone} has no spatial features whose map could be tested")
    network = ActivatedClassifier(split, subject.checkpoint.task).eval()
    return network.to(subject.device)


def _drawn(subject: Subject) -> tuple[Shown, ...]:
    """Returns some validation images, drawn by the seed; of a run without, training images."""
    pool = [sample.path for sample in subject.samples if sample.part == "val"]
    pool = pool or [sample.path for sample in subject.samples]
    rng = np.random.default_rng(subject.options.seed)
    drawn = (pool[row] for row in rng.permutation(len(pool)).tolist())
    return tuple(itertools.islice(subject.readable(drawn), MOST_IMAGES))


# deletion and insertion


def _removal(subject: Subject, judged: _Judged) -> tuple[list[Block], dict[str, Any]]:
    if not task_of(subject.checkpoint.task).has_probabilities:
        return [], {"missing": "numbers have no probability that could fall or rise"}
    curves = removal_curves(subject, judged)
    areas = {
        way: {order: [area(curve) for curve in found] for order, found in orders.items()}
        for way, orders in curves.items()
    }
    gains = {way: _gain(way, areas[way]) for way in areas}
    panels = {
        f"{way}: {gains[way]['better_by']:+.2f} against chance": {
            f"{order}, area {np.mean(areas[way][order]):.2f}": found for order, found in orders.items()
        }
        for way, orders in curves.items()
    }
    plot = Picture("removal", figures.removal_curves(panels, "probability of the answer"))
    note = f"{len(judged.paths)} images (thin) and their mean. " + " ".join(_verdict(way, gains[way]) for way in gains)
    blocks = [Block("Pixels that go and come", note, (plot,), width=0), *_strips(subject, judged, curves)]
    return blocks, {way: {"area": areas[way], **gains[way]} for way in areas}


def _gain(way: str, areas: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Returns by how much the area is better than that of a random order: smaller in deletion, larger in insertion."""
    sign = -1 if way == "deletion" else 1
    found = paired_mean(sign * (np.array(areas["the map"]) - np.array(areas["random cells"])))
    return {"better_by": round(found.value, 4), "from": round(found.low, 4), "to": round(found.high, 4)}


def _verdict(way: str, gain: Mapping[str, float]) -> str:
    interval = f"{gain['better_by']:+.2f} ({gain['from']:+.2f} to {gain['to']:+.2f})"
    if gain["from"] > 0:
        return f"{way.capitalize()}: better than chance by {interval}."
    if gain["to"] < 0:
        return f"{way.capitalize()}: worse than chance, {interval}."
    return f"{way.capitalize()}: no better than chance, {interval}."


def removal_curves(subject: Subject, judged: _Judged) -> dict[str, dict[str, Numbers]]:
    """Returns the probability of each answer while pixels go or come: (N, STEPS + 1) by way and order."""
    rng = np.random.default_rng(subject.options.seed)
    network = subject.cut(subject.logits)
    curves: dict[str, dict[str, list[Numbers]]] = {
        way: {"the map": [], "random cells": []} for way in ("deletion", "insertion")
    }
    rows = ProgressBar(range(len(judged.maps)), desc="taking pixels away", unit="img", leave=False)
    for row in rows:
        image, cells, output = judged.images[row], judged.maps[row], int(judged.shown[row])
        orders = {"the map": cells, "random cells": rng.permutation(cells.size).reshape(cells.shape).astype(np.float32)}
        for order, strengths in orders.items():
            strength = enlarged(strengths, *image.shape[1:])
            for way, (first, last) in _ways(image).items():
                steps = removed(first, last, strength, STEPS)
                curves[way][order].append(_probabilities(subject, network, steps)[:, output])
    return {way: {order: np.stack(found) for order, found in orders.items()} for way, orders in curves.items()}


def _ways(image: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Returns where each way begins and ends; the mean colour is 0 to the network."""
    return {"deletion": (image, torch.zeros_like(image)), "insertion": (_blurred(image), image)}


def _blurred(image: Tensor) -> Tensor:
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    smooth = cv2.GaussianBlur(pixels, (0, 0), max(pixels.shape[:2]) * _BLUR)
    return torch.from_numpy(smooth).permute(2, 0, 1).to(image.device)


@torch.inference_mode()
def _probabilities(subject: Subject, network: torch.nn.Module, images: Tensor) -> Numbers:
    batches = torch.split(images.contiguous(memory_format=torch.channels_last), subject.batch)
    logits = torch.cat([network(batch) for batch in batches]).float().cpu().numpy()
    return np.asarray(task_of(subject.checkpoint.task).probabilities(logits, 1.0), np.float32)


def _strips(subject: Subject, judged: _Judged, curves: Mapping[str, Mapping[str, Numbers]]) -> list[Block]:
    """Returns the first image while its pixels go and come."""
    image, cells = judged.images[0], judged.maps[0]
    strength = enlarged(cells, *image.shape[1:])
    name = subject.class_names[int(judged.shown[0])]
    blocks = []
    for way, (first, last) in _ways(image).items():
        steps = removed(first, last, strength, STEPS)
        pictures = tuple(
            Picture(
                f"{way}_{part}",
                subject.as_picture(steps[part]),
                f"{part / STEPS:.0%}: {name} {curves[way]['the map'][0, part]:.0%}",
            )
            for part in _SEEN_PARTS
        )
        blocks.append(Block("", f"{way.capitalize()} of {judged.paths[0].name}:", pictures, _SIDE_PX))
    return blocks


# randomised weights


def _randomised(subject: Subject, judged: _Judged) -> tuple[list[Block], dict[str, Any]]:
    stages = stages_from_the_top(subject)
    found = [randomised_maps(subject, judged, stages, subject.options.seed + draw) for draw in range(DRAWS)]
    ranks = _mean_over_draws(judged.maps, found, rank_correlation)
    looks = _mean_over_draws(judged.maps, found, similarity)
    curves = {"rank correlation (Spearman)": ranks, "structural similarity (SSIM)": looks}
    plot = Picture("randomisation", figures.fall_by_stage(curves, list(stages)))
    left = float(ranks[:, -1].mean())
    verdict = (
        "the map shows the picture more than what was learned"
        if left >= KEPT
        else "the map depends on what was learned"
    )
    note = (
        f"Values of the weights in another order, stage after stage, {DRAWS} draws; the output that is explained "
        f"stays. With all of them randomised the rank correlation is {left:+.2f}: {verdict}."
    )
    blocks = [
        Block("Weights that are destroyed", note, (plot,), width=0),
        *_rows(subject, judged, found[0], list(stages)),
    ]
    facts = {
        stage: {
            "rank_correlation": round(float(ranks[:, index].mean()), 4),
            "ssim": round(float(looks[:, index].mean()), 4),
        }
        for index, stage in enumerate(stages)
    }
    return blocks, {"stages": facts}


def stages_from_the_top(subject: Subject) -> dict[str, list[str]]:
    """Returns the names of the parameters of each stage, the last first; stages without parameters are left out."""
    nodes = list(subject.traced.graph.nodes)
    ends = [nodes.index(layer.node) for layer in subject.layers]
    names = [*(layer.name for layer in subject.layers), _HEAD]
    stages: dict[str, list[str]] = {name: [] for name in reversed(names)}
    known: set[str] = set()
    for place, node in enumerate(nodes):
        fresh = [name for name in _parameters(node, subject.traced) if name not in known]
        known.update(fresh)
        stages[names[bisect.bisect_left(ends, place)]] += fresh
    for name, _ in subject.model.named_parameters():
        if name not in known:  # used inside of a function that the graph calls as a whole
            _stage_beside(name, stages).append(name)
    return {name: found for name, found in stages.items() if found}


def _stage_beside(name: str, stages: Mapping[str, list[str]]) -> list[str]:
    """Returns the stage that holds the other parameters of the smallest module that a parameter belongs to."""
    path = name.split(".")
    prefixes = [".".join(path[:depth]) + "." for depth in range(len(path) - 1, 0, -1)]
    beside = (found for prefix in prefixes for found in stages.values() if any(p.startswith(prefix) for p in found))
    return next(beside, next(iter(stages.values())))


def _parameters(node: fx.Node, traced: fx.GraphModule) -> list[str]:
    module = backbones.module_of(node, traced)
    if module is not None:
        return [f"{node.target}.{name}" for name, _ in module.named_parameters()]
    return [str(node.target)] if node.op == "get_attr" and node.target in dict(traced.named_parameters()) else []


def randomised_maps(subject: Subject, judged: _Judged, stages: Mapping[str, Sequence[str]], seed: int) -> Numbers:
    """Returns the maps (stages, N, h, w) of a network whose stages are randomised one after the other, and stay so."""
    model = copy.deepcopy(subject.model)
    size = subject.checkpoint.input
    split = backbones.split(model, size.height, size.width)
    parameters = dict(model.named_parameters())
    generator = torch.Generator().manual_seed(seed)
    maps = []
    for names in ProgressBar(stages.values(), desc="randomising weights", leave=False):
        shuffle([parameters[name] for name in names], generator)
        parts = (torch.split(values, subject.batch) for values in (judged.images, judged.shown))
        maps.append(np.concatenate([maps_of(split, *batch) for batch in zip(*parts, strict=True)]))
    return np.stack(maps)


def maps_of(split: backbones.Split, images: Tensor, outputs: Tensor) -> Numbers:
    """Returns the activation maps (N, h, w) of given outputs (N,), whichever is the highest.

    They are those of `ActivatedClassifier` but for a factor: the mean gradient of a channel is its weight in both.
    """
    with torch.no_grad():
        features = split.body(images)
    features = features.detach().requires_grad_()
    logits, _ = split.head(features.clone())  # heads of torchvision work in place
    (gradient,) = torch.autograd.grad(logits.gather(1, outputs[:, None]).sum(), features)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return np.asarray((weights * features.detach()).sum(dim=1).float().cpu().numpy(), np.float32)


def _mean_over_draws(maps: Numbers, draws: Sequence[Numbers], measure: Any) -> npt.NDArray[np.float64]:  # noqa: ANN401
    """Returns how similar the maps of each stage are to the original ones: (N, stages)."""
    values = [
        [[measure(one, other) for one, other in zip(maps, stage, strict=True)] for stage in draw] for draw in draws
    ]
    return np.asarray(np.mean(values, axis=0).T)


def _rows(subject: Subject, judged: _Judged, maps: Numbers, stages: Sequence[str]) -> list[Block]:
    """Returns the first images under their map, and under those of the randomised networks."""
    blocks = []
    for index in range(min(_PICTURES, len(judged.paths))):
        picture = subject.as_picture(judged.images[index])
        shown = [("as it was learned", judged.maps[index]), *zip(stages, maps[:, index], strict=True)]
        pictures = tuple(
            Picture(f"randomised_{index}_{place}", _under(picture, cells), caption)
            for place, (caption, cells) in enumerate(shown)
        )
        blocks.append(Block("", f"{judged.paths[index].name}, randomised down to:", pictures, _SIDE_PX))
    return blocks


def _under(picture: RgbImage, cells: Numbers) -> RgbImage:
    clipped = np.maximum(cells, np.float32(0))
    peak = float(clipped.max())
    height, width = picture.shape[:2]
    return heat(picture, enlarged(np.asarray(clipped / np.float32(peak or 1)), height, width))
