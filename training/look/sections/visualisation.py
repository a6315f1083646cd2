"""What units and classes look for: pictures that excite them as much as they can."""

from __future__ import annotations

import dataclasses
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.image.messages import RgbImage
from training.look.answering import answers, leading_units, shares
from training.look.drawing import resized
from training.look.methods.rectifiers import before_last_rectifier, fused
from training.look.methods.visualisation import Ascent, Normalisation, ascend
from training.look.section import Block, CannotLookError, Picture, Section
from training.look.subject import Layer, Options, Subject
from training.look.units import patches, seen

_DEPTHS = 4
_MOST_CLASSES = 8
_DIVERSE = 4
_DIVERSITY = 10.0
_SIDE = 128
_STEPS = 64
_CLASS_STEPS = 128
_BATCH = 8
_BUDGET_S = 90.0
"""For as many units as are visualised by default."""
_TIMED_STEPS = 2
_SHOWN_SIDE = 192
_GAP = 3
_PATCHES = 3


@dataclass(frozen=True, eq=False)
class _Job:
    """Units that are visualised together.

    Attributes:
        layer: Theirs; None for the outputs of the network.
        network: Images -> the map before its last rectifier, or logits.
        units: One a picture.
        ascent: How.
    """

    layer: Layer | None
    network: fx.GraphModule
    units: tuple[int, ...]
    ascent: Ascent

    @property
    def name(self) -> str:
        return self.layer.name if self.layer else "answer"

    @property
    def stem(self) -> str:
        return self.layer.stem if self.layer else self.name

    @property
    def is_diverse(self) -> bool:
        return self.ascent.diversity > 0

    @property
    def seeds(self) -> list[int]:
        """Distinguishes the pictures of one unit."""
        return list(range(len(self.units))) if self.is_diverse else [0] * len(self.units)

    def cut_to(self, share: float) -> _Job:
        """Returns a job of a share of its units, at least one; diversity needs two."""
        count = max(int(len(self.units) * share), 2 if self.is_diverse else 1)
        return dataclasses.replace(self, units=self.units[:count])


def look(subject: Subject) -> Section:
    """Visualises some units of four depths and the classes.

    Raises:
        CannotLookError: If there are no pictures whose answers say which units matter.
    """
    planned = _jobs(subject)
    if not planned:
        raise CannotLookError(f"{subject.checkpoint.backbone} takes no image that could be optimised")
    share = _affordable(subject, planned)
    jobs = [job.cut_to(share) if share < 1 else job for job in planned]
    with ProgressBar(total=sum(_cost(job) for job in jobs), desc="finding pictures", unit="step", leave=False) as bar:
        found = [_pictures(subject, job, bar) for job in jobs]
    blocks = []
    facts = []
    for job, pictures in zip(jobs, found, strict=True):
        reached = _reached(subject, job, pictures)
        blocks.append(_block(subject, job, pictures, reached))
        facts.append(_facts(subject, job, reached))
    cut = sum(len(job.units) for job in planned) - sum(len(job.units) for job in jobs)
    return Section(_intro(subject, cut), tuple(blocks), {"left_out": cut, "pictures": facts})


def _intro(subject: Subject, left_out: int) -> str:
    later = (
        f" {left_out} pictures were left out to save time: this machine is slow for this network." if left_out else ""
    )
    deep = "The units are those that the answers to the shown pictures rest on most. " if subject.layers else ""
    return (
        "Each large picture is no photograph: it was found by changing noise, step by step, so that it excites one "
        f"unit as much as it can, anywhere in the picture. {deep}Beside it stand the three images of the data, or "
        "parts of images, that excite the same unit most: what both have in common is what the unit looks for. Shallow "
        "layers look for colours and edges, deeper ones for textures, patterns and parts of objects. How often the "
        "same thing is shown, and how large, means nothing. Method: gradient ascent in Fourier space with decorrelated "
        f"colours, the picture moved a little at each step (Olah, Mordvintsev and Schubert 2017).{later}"
    )


def _jobs(subject: Subject) -> list[_Job]:
    given = answers(subject)
    layers, counts = _depths(subject)
    contributions = shares(subject, layers, given) if layers else []
    jobs = []
    for layer, count, contributed in zip(layers, counts, contributions, strict=True):
        network = fused(before_last_rectifier(subject.cut(layer.node)))
        jobs += _job(subject, layer, network, leading_units(contributed, count), _STEPS)
    diverse = [_diverse(job) for job in jobs[-1:]]
    answered = [answer.output for answer in given]
    outputs = list(dict.fromkeys([*answered, *range(len(subject.class_names))]))[:_MOST_CLASSES]
    return jobs + diverse + _job(subject, None, fused(subject.cut(subject.logits)), outputs, _CLASS_STEPS)


def _diverse(job: _Job) -> _Job:
    ascent = dataclasses.replace(job.ascent, diversity=_DIVERSITY)
    return dataclasses.replace(job, units=job.units[:1] * _DIVERSE, ascent=ascent)


def _depths(subject: Subject) -> tuple[list[Layer], list[int]]:
    """Returns the layers and how many units of each; the first is left out, whose filters are pictures themselves."""
    layers = list(subject.layers[1:] or subject.layers)
    units = subject.options.visualised_units
    depths = min(_DEPTHS, units, len(layers))
    places = np.unique(np.linspace(len(layers) - 1, 0, depths).round().astype(int)).tolist()
    counts = [units // depths + (index >= depths - units % depths) for index in range(depths)]
    return [layers[place] for place in places], counts


def _job(
    subject: Subject, layer: Layer | None, network: fx.GraphModule, units: Sequence[int], steps: int
) -> list[_Job]:
    """Returns a job at a size that the network takes: the usual one, else its own; none where it takes neither."""
    size = subject.checkpoint.input
    for height, width in ((min(size.height, _SIDE), min(size.width, _SIDE)), (size.height, size.width)):
        try:
            with torch.inference_mode():  # a call of the graph itself would print why it cannot
                network.forward(torch.zeros(1, 3, height, width, device=subject.device))
        except (RuntimeError, AssertionError, ValueError):
            continue
        return [_Job(layer, network, tuple(units), Ascent(height, width, steps))]
    return []


def _batches(job: _Job) -> list[tuple[list[int], list[int]]]:
    """Returns units and seeds of what is computed at a time: all where pictures are pushed apart."""
    size = len(job.units) if job.is_diverse else _BATCH
    starts = range(0, len(job.units), size)
    return [(list(job.units[start : start + size]), job.seeds[start : start + size]) for start in starts]


def _cost(job: _Job) -> int:
    return job.ascent.steps * len(_batches(job))


def _affordable(subject: Subject, jobs: Sequence[_Job]) -> float:
    """Returns the share of the units for which there is time, judged by the first steps of each job; 1 for all."""
    seconds = 0.0
    for job in jobs:
        units, seeds = _batches(job)[0]
        began_s = time.monotonic()
        _ascend(subject, job, units, seeds, dataclasses.replace(job.ascent, steps=_TIMED_STEPS), None)
        seconds += (time.monotonic() - began_s) / _TIMED_STEPS / len(units) * len(job.units) * job.ascent.steps
    budget_s = _BUDGET_S * max(subject.options.visualised_units / Options.visualised_units, 1)
    return min(budget_s / seconds, 1.0)


def _pictures(subject: Subject, job: _Job, bar: ProgressBar[Any]) -> Tensor:
    return torch.cat([_ascend(subject, job, units, seeds, job.ascent, bar) for units, seeds in _batches(job)])


def _ascend(
    subject: Subject,
    job: _Job,
    units: Sequence[int],
    numbers: Sequence[int],
    ascent: Ascent,
    bar: ProgressBar[Any] | None,
) -> Tensor:
    size = subject.checkpoint.input
    # By the layer's name, the unit and the picture's number, so that none depends on what else was asked for.
    layer = zlib.crc32(job.name.encode())
    seeds = [(subject.options.seed, layer, unit, number) for unit, number in zip(units, numbers, strict=True)]
    advance = (lambda: None) if bar is None else bar.update
    return ascend(job.network, units, seeds, Normalisation(size.mean, size.std), ascent, subject.device, advance)


def _reached(subject: Subject, job: _Job, pictures: Tensor) -> list[float]:
    """Returns how strongly each picture excites its unit: at its best cell as in the survey, or its logit."""
    size = subject.checkpoint.input
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (size.mean, size.std))
    network = subject.cut(job.layer.node if job.layer else subject.logits)
    with torch.inference_mode():
        images = ((pictures - mean) / std).to(subject.device)
        values = torch.cat([network(images[first : first + _BATCH]) for first in range(0, len(images), _BATCH)])
    found = values.flatten(2).amax(2) if job.layer else values
    return [float(row[unit]) for row, unit in zip(found.cpu(), job.units, strict=True)]


def _strongest(subject: Subject, job: _Job, unit: int) -> float | None:
    """Returns what the strongest image does to a unit; None without images."""
    if not subject.samples:
        return None
    if job.layer:
        return float(subject.survey.units[job.layer.name].largest[unit])
    return float(subject.survey.logits[:, unit].max())


def _block(subject: Subject, job: _Job, pictures: Tensor, reached: Sequence[float]) -> Block:
    side = f"{job.ascent.height}x{job.ascent.width} pixels, {job.ascent.steps} steps"
    drawn = tuple(
        _picture(subject, job, place, pixels, value)
        for place, (pixels, value) in enumerate(zip(pictures, reached, strict=True))
    )
    if job.is_diverse:
        note = f"the same unit, its pictures pushed apart in style: what they share is what it needs; {side}"
        return Block(f"{job.name}: unit {job.units[0]}, several ways", note, drawn, _SHOWN_SIDE)
    title = job.name if job.layer else "What the answers look for"
    return Block(title, side, drawn, _SHOWN_SIDE + 66)


def _picture(subject: Subject, job: _Job, place: int, pixels: Tensor, reached: float) -> Picture:
    unit = job.units[place]
    large = RgbImage((pixels * 255).round().permute(1, 2, 0).numpy().astype(np.uint8))
    shown = resized(large, _SHOWN_SIDE, _SHOWN_SIDE)
    if job.is_diverse:
        return Picture(f"{job.stem}_{unit}_way_{place + 1}", shown, _compared(subject, job, unit, reached))
    name = f"unit {unit}" if job.layer else subject.class_names[unit]
    caption = f"{name}: {_compared(subject, job, unit, reached)}"
    return Picture(f"{job.stem}_{unit}", _beside(shown, _examples(subject, job, unit)), caption)


def _compared(subject: Subject, job: _Job, unit: int, reached: float) -> str:
    strongest = _strongest(subject, job, unit)
    return f"{reached:.3g}" if strongest is None else f"{reached:.3g}; strongest image {strongest:.3g}"


def _examples(subject: Subject, job: _Job, unit: int) -> list[RgbImage]:
    if not subject.samples:
        return []
    if job.layer:
        return patches(subject, job.layer, unit, _PATCHES)
    rows = np.argsort(-subject.survey.logits[:, unit], kind="stable")[:_PATCHES]
    return [seen(subject, subject.survey.samples[row].path) for row in rows]


def _beside(shown: RgbImage, examples: Sequence[RgbImage]) -> RgbImage:
    """Returns the picture with a column of small ones at its right."""
    side = (_SHOWN_SIDE - (_PATCHES - 1) * _GAP) // _PATCHES
    sheet = np.full((_SHOWN_SIDE, _SHOWN_SIDE + _GAP + side, 3), 255, np.uint8)
    sheet[:, :_SHOWN_SIDE] = shown
    for index, example in enumerate(examples):
        top = index * (side + _GAP)
        sheet[top : top + side, -side:] = resized(example, side, side)
    return RgbImage(sheet)


def _facts(subject: Subject, job: _Job, reached: Sequence[float]) -> dict[str, Any]:
    return {
        "of": job.name,
        "units": list(job.units),
        "size": [job.ascent.height, job.ascent.width],
        "steps": job.ascent.steps,
        "diversity": job.ascent.diversity,
        "reached": [round(value, 5) for value in reached],
        "strongest_image": [_strongest(subject, job, unit) for unit in job.units],
    }
