"""Images and classes that contradict each other, and what becomes of them: an error, or what `--on-conflict` says.

A conflict is one picture (the same pixels, whatever the file) under two labels or in two parts, a class without any
image, and a class that a part lacks. With `drop` all of it goes: every copy of such a picture, and such a class from
every part. With `first` the first stays: of a picture the copy in train, then in val, then the first of the list; of
the classes those that train has images of, also where val or test have none.

A picture that two tables label alike is no conflict: it counts once, where it is said which part it is of.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Sequence

from training.data.duplicates import Pairs
from training.data.records import PARTS, Action, ImageFinding, Listing, Part, Sample
from training.tasks.by_name import task_of
from training.tasks.choices import OnConflict

TWO_LABELS = "same image under two labels"
OTHER_NUMBERS = "same image with other numbers"
TWO_PARTS = "same image in two parts"
COPY = "exact duplicate"
IN_TWO_SOURCES = "same image in two sources"
NO_IMAGE = "class without images"
NOT_IN_PART = "class missing from a part"

ERRORS = {
    TWO_LABELS: "images have two labels",
    TWO_PARTS: "images are in two parts",
    NO_IMAGE: "classes have no image",
    NOT_IN_PART: "classes are missing from a part",
}
"""What is said of each kind of conflict where it is an error."""


def settle_classes(listing: Listing, choice: OnConflict) -> tuple[Listing, list[ImageFinding]]:
    """Decides about classes without images, and those that train, val or test lack.

    Args:
        listing: The images, before any is opened.
        choice: What the user wants.

    Returns:
        The listing without the classes that go, and what was found; errors among it where the choice is that.
    """
    if not task_of(listing.task).one_class:
        return listing, []
    counts = Counter((sample.part, sample.label) for sample in listing.samples)
    findings = []
    gone = set[int]()
    for label, (name, expected) in enumerate(zip(listing.class_names, listing.expected(), strict=True)):
        given = sorted(expected, key=PARTS.index)
        lacking = [part for part in given if not counts[part, label]]
        if not lacking:
            continue
        stays = choice == "first" and "train" not in lacking
        action: Action = "error" if choice == "error" else "warning" if stays else "dropped"
        findings.append(ImageFinding(listing.source, _lack(name, lacking, given), action))
        if not stays:
            gone.add(label)
    kept = listing if choice == "error" else _without_classes(listing, gone)
    return kept, findings


def with_groups_of_copies(listing: Listing, same: Pairs) -> Listing:
    """Returns a listing where of a picture that two sources name, of which one says its group, both are of that group.

    Args:
        listing: The usable images.
        same: Indices of each copy, with the first of its kind before it.
    """
    samples = [*listing.samples]
    for first, other in same.tolist():
        if samples[first].source != samples[other].source:
            group = samples[first].group or samples[other].group
            for row in (first, other):
                samples[row] = dataclasses.replace(samples[row], group=samples[row].group or group)
    return listing.keep(tuple(samples))


def settle_copies(listing: Listing, same: Pairs, choice: OnConflict) -> tuple[tuple[int, ...], list[ImageFinding]]:
    """Decides about pictures that are there more than once.

    Args:
        listing: The usable images.
        same: Indices of each copy, with the first of its kind before it.
        choice: What the user wants.

    Returns:
        The indices of the images that stay, and what was found of the copies.
    """
    groups = defaultdict[int, list[int]](list)
    for first, other in same.tolist():
        groups[first].append(other)
    gone = set[int]()
    findings = []
    for first, others in groups.items():
        group = sorted((first, *others), key=lambda row: _precedence(listing, row))
        judged = [(row, *_judged(listing, listing.samples[group[0]], listing.samples[row])) for row in group[1:]]
        conflict = next(((kind, words) for _, kind, words in judged if kind in ERRORS), None)
        if conflict is not None and choice == "drop":
            kind, words = conflict
            gone.update(group)
            findings += [ImageFinding(listing.samples[row].path, f"{kind}{words}", "dropped") for row in group]
            continue
        for row, kind, words in judged:
            action = _action(kind, choice)
            earlier = listing.samples[group[0]].path
            findings.append(ImageFinding(listing.samples[row].path, f"{kind}{words}", action, earlier))
            if action == "dropped":
                gone.add(row)
    return tuple(row for row in range(len(listing.samples)) if row not in gone), findings


def _precedence(listing: Listing, row: int) -> tuple[bool, int, int]:
    """By what copies are ordered: first those whose source says which part they are of."""
    sample = listing.samples[row]
    return not listing.decides(sample), PARTS.index(sample.part), row


def _action(kind: str, choice: OnConflict) -> Action:
    if kind == IN_TWO_SOURCES:
        return "dropped"
    if kind not in ERRORS:
        return "warning"
    return "error" if choice == "error" else "dropped"


def _judged(listing: Listing, one: Sample, other: Sample) -> tuple[str, str]:
    """Returns what kind of a copy an image is of an earlier one, and the rest of the sentence."""
    elsewhere = one.source != other.source
    if one.part != other.part and (listing.decides(other) or not elsewhere):
        return TWO_PARTS, f": in {other.part} here, in {one.part} as {one.path}"
    if (one.label, one.values) == (other.label, other.values):
        return (IN_TWO_SOURCES, f": counts once, as {one.path}") if elsewhere else (COPY, f" of {one.path}")
    is_mistake = task_of(listing.task).copies_agree or one.path.resolve() == other.path.resolve()
    kind = TWO_LABELS if is_mistake else OTHER_NUMBERS
    return kind, f": {listing.words(other) or 'no class'} here, {listing.words(one) or 'no class'} as {one.path}"


def _lack(name: str, lacking: Sequence[Part], given: Sequence[Part]) -> str:
    """Says which parts have no image of a class."""
    there = [part for part in given if part not in lacking]
    if not there:
        return f"{NO_IMAGE}: class {name!r} holds no image"
    only = f", only in {' and '.join(there)}" if "train" in lacking else ""
    return f"{NOT_IN_PART}: class {name!r} has no image in {' and '.join(lacking)}{only}"


def _without_classes(listing: Listing, gone: set[int]) -> Listing:
    left = [label for label in range(len(listing.class_names)) if label not in gone]
    # the label of images of none of the classes is their number
    number = {label: place for place, label in enumerate((*left, len(listing.class_names)))}
    samples = tuple(
        dataclasses.replace(sample, label=number[sample.label])
        for sample in listing.samples
        if sample.label not in gone
    )
    names = tuple(listing.class_names[label] for label in left)
    return dataclasses.replace(listing, class_names=names, samples=samples)
