"""What is said of a data set: findings about images, and what measures of pictures give away of their labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from cnn_perception.intervals import Estimate
from training.data.records import LabelledImages, Listing

Kind = Literal["label", "copy", "outlier", "blurred", "dark", "bright"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""In the order in which they are told: the label contradicts what the others teach; a copy has another label; the image
is far from all others; nothing sharp is in it; it is too dark, or too bright, to see much."""
TITLES: dict[Kind, str] = {
    "label": "labels that the other images contradict",
    "copy": "copies with another label",
    "outlier": "images unlike all others",
    "blurred": "blurred images",
    "dark": "dark images",
    "bright": "overexposed images",
}
OF_LABELS: tuple[Kind, ...] = ("label", "copy")
"""Kinds that say that the label is wrong; the others say that the image is unusual."""


@dataclass(frozen=True)
class Finding:
    """Something about one image.

    Attributes:
        row: Which of the images.
        kind: What it is.
        guess: The label that is suggested, as its cell would be written; empty where none is.
        doubt: How much speaks against the label, in [0, 1]. Of a `label` one less its probability; of numbers from 0.5
            on, with the residual. Of a `copy` 1 where the pixels are the same, otherwise 0.95. Of the other kinds at
            most 0.5, the more the more unusual the image is: nothing contradicts the label.
        text: The same as a sentence.
        other: The image that it is a copy of.

    Raises:
        ValueError: If the doubt is out of its range.
    """

    row: int
    kind: Kind
    guess: str
    doubt: float
    text: str
    other: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.doubt <= 1:
            raise ValueError(f"a doubt of {self.doubt} is not within 0 and 1")


@dataclass(frozen=True)
class Giveaway:
    """How well one property of the pictures alone tells their labels.

    Attributes:
        name: Of the property.
        of: What it tells: a class or a number; empty for all classes.
        told: The cross-validated score with its interval: balanced accuracy, of numbers R2.
        chance: What a property that has nothing to do with the labels would reach.
    """

    name: str
    of: str
    told: Estimate
    chance: float

    @property
    def is_far(self) -> bool:
        """Whether even the low end is far above chance: more than a fifth of the way from there to 1."""
        return self.told.low > self.chance + (1 - self.chance) / 5


@dataclass(frozen=True)
class Result:
    """All that is said of a data set.

    Attributes:
        listing: The images that could be read.
        findings: What is said of them.
        giveaways: What their properties give away.
        noise: Estimated share of wrong labels.
        source: What the features are.
        notes: What has to be said besides, a line each.
    """

    listing: Listing
    findings: tuple[Finding, ...]
    giveaways: tuple[Giveaway, ...]
    noise: float
    source: str
    notes: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Returns how many findings there are of each kind."""
        return {kind: sum(one.kind == kind for one in self.findings) for kind in KINDS}


def meaning_of(listing: Listing) -> LabelledImages:
    """Returns the images with the meaning of their labels; numbers are in their units, and nothing is divided."""
    return LabelledImages(
        root=listing.source,
        task=listing.task,
        class_names=listing.class_names,
        units=listing.units,
        scaling=((0.0, 1.0),) * len(listing.units),
        samples=listing.samples,
        sha256="",
        rejected=(),
        ignored=dict(listing.ignored),
    )


def worst_first(findings: list[Finding]) -> list[Finding]:
    """Returns findings in the order in which a person should see them."""
    return sorted(findings, key=lambda one: (-one.doubt, KINDS.index(one.kind), one.row))


def of_each_image(findings: list[Finding]) -> dict[int, list[Finding]]:
    """Returns the findings of each image, by its row, the worst image first."""
    rows: dict[int, list[Finding]] = {}
    for finding in worst_first(findings):
        rows.setdefault(finding.row, []).append(finding)
    return rows
