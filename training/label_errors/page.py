"""The page of a data set's suspicious labels: pictures in groups, each label with the one that is suggested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cnn_perception.image.messages import RgbImage
from cnn_perception.intervals import Estimate
from cnn_perception.pages import data_url
from cnn_perception.pages.rendering import render
from training.data.records import Listing
from training.data.scan import picture
from training.label_errors.record import KINDS, OF_LABELS, TITLES, Finding, Giveaway, Result, worst_first
from training.tasks.by_name import task_of

MOST_SHOWN = 240
MOST_OF_GROUP = 24
"""Findings shown as pictures, in all and of one group."""
MOST_TOLD = 24
"""Properties that are shown, the best first."""
_LONGEST = 160
"""Pixels of a picture's longer side."""


@dataclass(frozen=True)
class Shown:
    """A finding as the page shows it; a picture that can no longer be read is empty."""

    name: str
    url: str
    other_url: str
    doubt: str
    text: str


@dataclass(frozen=True)
class Group:
    """Findings of one kind, of one label for which one other is suggested where an image has one class."""

    title: str
    shown: tuple[Shown, ...]
    not_shown: int


@dataclass(frozen=True)
class Told:
    """A property and how well it tells the labels."""

    name: str
    score: str
    chance: str
    share: float
    is_far: bool


def of(result: Result, command: str) -> str:
    """Returns the page.

    Args:
        result: What it shows.
        command: That makes it again.
    """
    counts = result.counts()
    groups = _groups(result)
    figures = [
        ("images judged", str(len(result.listing.samples))),
        ("labels estimated to be wrong", f"{result.noise:.1%}"),
        *((TITLES[kind], str(counts[kind])) for kind in KINDS if counts[kind]),
    ]
    return render(
        "training.label_errors",
        "labels.html",
        title=f"Labels of {result.listing.source.name}",
        subtitle=f"{result.listing.source}: {result.listing.task}, judged by {result.source}",
        figures=figures,
        notes=result.notes,
        groups=groups,
        told=[_told(one) for one in result.giveaways[:MOST_TOLD]],
        not_told=max(0, len(result.giveaways) - MOST_TOLD),
        shown=sum(len(group.shown) for group in groups),
        all=len(result.findings),
        command=command,
    )


def _groups(result: Result) -> list[Group]:
    """Findings in groups, those of labels first, and of these the one with the worst finding."""
    gathered: dict[str, list[Finding]] = {}
    for kind in KINDS:
        for one in worst_first([finding for finding in result.findings if finding.kind == kind]):
            gathered.setdefault(_title(result.listing, one), []).append(one)
    room = MOST_SHOWN
    groups = []
    for title, found in gathered.items():
        shown = [_shown(result.listing, one) for one in found[: min(room, MOST_OF_GROUP)]]
        room -= len(shown)
        groups.append(Group(title, tuple(shown), len(found) - len(shown)))
    return groups


def _title(listing: Listing, finding: Finding) -> str:
    if finding.kind != "label" or not task_of(listing.task).one_class:
        return TITLES[finding.kind]
    return f"{listing.words(listing.samples[finding.row])} \N{RIGHTWARDS ARROW} {finding.guess}"


def _shown(listing: Listing, finding: Finding) -> Shown:
    path = listing.samples[finding.row].path
    other = _url(finding.other) if finding.other else ""
    return Shown(path.name, _url(path), other, f"{finding.doubt:.3f}", finding.text)


def _url(path: Path) -> str:
    image = picture(path)
    return "" if image is None else data_url.of_image(_small(image))


def _small(image: RgbImage) -> RgbImage:
    scale = min(1.0, _LONGEST / max(image.shape[:2]))
    height, width = (max(1, round(pixels * scale)) for pixels in image.shape[:2])
    return RgbImage(np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8))


def _told(one: Giveaway) -> Told:
    name = f"{one.name}, {one.of}" if one.of else one.name
    return Told(name, _score(one.told), f"{one.chance:.3f}", one.told.value, one.is_far)


def _score(told: Estimate) -> str:
    return f"{told.value:.3f} ({told.low:.3f} to {told.high:.3f})"


def lines(result: Result, most: int) -> Sequence[str]:
    """Returns what is said in the terminal, at most so many findings of labels."""
    counts = result.counts()
    images = len(result.listing.samples)
    told = [f"  {counts[kind]} {TITLES[kind]}" for kind in KINDS if counts[kind]] or ["  nothing stands out"]
    worst = [one for one in worst_first(list(result.findings)) if one.kind in OF_LABELS][:most]
    far = [
        f"  warning: {one.name} alone tells {one.of or 'the classes'}: {_score(one.told)}, by chance {one.chance:.3f}; "
        "a network may learn it in place of what is shown"
        for one in result.giveaways
        if one.is_far
    ]
    return [
        f"{result.listing.source}: {images} images judged by {result.source}; about {result.noise:.1%} of the labels "
        "are estimated to be wrong",
        *told,
        *(f"    {one.doubt:.3f} {result.listing.samples[one.row].path}: {one.text}" for one in worst),
        *far,
        *(f"  note: {note}" for note in result.notes),
    ]
