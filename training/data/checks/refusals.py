"""What a data set has to have to be learned from: one that has not is refused, with what was found in it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cnn_perception.errors import DataError
from cnn_perception.image.listing import in_words
from training.data import names as names_of_classes
from training.data.conflicts import ERRORS, NO_IMAGE
from training.data.records import PARTS, ImageFinding, Listing, Part, RefusedDataError
from training.tasks.by_name import task_of
from training.tasks.choices import OnConflict
from training.tasks.task import MIN_IMAGES

MAX_REJECTED = 0.05
"""Share of unreadable images above which the data set, not the image, is taken to be broken."""
_NAMED = 3
"""So many of the images that cannot be used are named in an error."""
LISTS_THEM = "python -m training.check --csv FILE lists them"
"""How a user gets all that was found where a command leaves no list of it."""


@dataclass(frozen=True)
class Advice:
    """What the user of a command can do about what it refuses.

    Attributes:
        where: How to get all that was found.
        can_choose: Whether the command has `--on-conflict`.
    """

    where: str
    can_choose: bool


def require_classes(listing: Listing, findings: Sequence[ImageFinding], advice: Advice) -> None:
    """Makes sure that there are classes to learn, and that they contradict nothing.

    Args:
        listing: The images, before any is opened.
        findings: What was found so far.
        advice: What the user can do.

    Raises:
        RefusedDataError: If there are not, or they do.
    """
    with _refusing_with(findings):
        _refuse_conflicts(listing, findings, advice)
        _check_classes(listing)


def require_images(
    listing: Listing, findings: Sequence[ImageFinding], advice: Advice, *, strict: bool, on_conflict: OnConflict
) -> None:
    """Makes sure that there are enough images, and that they contradict nothing.

    Args:
        listing: The usable images.
        findings: What was found so far.
        advice: What the user can do.
        strict: Whether one image that cannot be used is too many.
        on_conflict: What becomes of images and classes that contradict each other.

    Raises:
        RefusedDataError: If there are not, or they do.
    """
    with _refusing_with(findings):
        _refuse_unusable(listing, findings, strict, advice.where)
        _refuse_conflicts(listing, findings, advice)
        _check_counts(listing, on_conflict)
        _check_groups(listing)


@contextlib.contextmanager
def _refusing_with(findings: Sequence[ImageFinding]) -> Iterator[None]:
    """Has what is refused in this block carry what was found before."""
    try:
        yield
    except DataError as error:
        raise RefusedDataError(str(error), findings) from None


def _refuse_unusable(listing: Listing, findings: Sequence[ImageFinding], strict: bool, where: str) -> None:
    """Raises DataError if too many images cannot be used."""
    rejected = [finding for finding in findings if finding.action == "left out"]
    if len(rejected) > (0 if strict else MAX_REJECTED * (len(listing.samples) + len(rejected))):
        first = "; ".join(f"{finding.path} ({finding.reason})" for finding in _one_a_kind(rejected)[:_NAMED])
        raise DataError(
            f"{listing.where}: {len(rejected)} images cannot be used, first {first}; mend or remove them, {where}"
        )


def _one_a_kind(findings: Sequence[ImageFinding]) -> list[ImageFinding]:
    """Returns the first finding of each reason, which stands before its colon."""
    first: dict[str, ImageFinding] = {}
    for finding in findings:
        first.setdefault(finding.reason.partition(":")[0], finding)
    return list(first.values())


def _refuse_conflicts(listing: Listing, findings: Sequence[ImageFinding], advice: Advice) -> None:
    """Raises DataError if copies of an image contradict each other, or parts lack classes."""
    for kind, what in ERRORS.items():
        found = [finding for finding in findings if finding.action == "error" and finding.reason.startswith(kind)]
        if not found:
            continue
        words = found[0].reason.partition(": ")[2]
        first = words if found[0].path == listing.source else f"{found[0].path} ({words})"
        ignored = in_words(Counter(listing.ignored)) if kind == NO_IMAGE else ""
        raise DataError(
            f"{listing.where}: {len(found)} {what}, first {first}{f' (there are {ignored})' * bool(ignored)}; mend "
            f"it, {advice.where}{', or choose --on-conflict drop or first' * advice.can_choose}"
        )


def _check_classes(listing: Listing) -> None:
    if task_of(listing.task).one_class and len(listing.class_names) < 2:
        only = ", ".join(map(repr, listing.class_names)) or "none"
        raise DataError(f"{listing.where}: one class only ({only}); at least 2 are needed{_waiting(listing)}")


def _check_counts(listing: Listing, choice: OnConflict) -> None:
    of_classes = task_of(listing.task).one_class
    known = [sample for sample in listing.samples if not listing.is_outside(sample)]
    counts = Counter((sample.part, sample.label if of_classes else 0) for sample in known)
    names = [f"class {name!r} has " for name in listing.class_names] if of_classes else [""]
    expected = listing.expected() if of_classes else (listing.given,)
    for part in PARTS:
        if part in listing.given and not any(sample.part == part for sample in known):
            raise DataError(f"{listing.where}: no usable image in {part}; add some")
        needed = MIN_IMAGES if part == "train" else int(choice != "first")
        for label, name in enumerate(names):
            if part in expected[label] and (count := counts[part, label]) < needed:
                raise DataError(
                    f"{listing.where}: {name}{count} usable images in {part}, {needed} are needed; "
                    f"add some{' or remove it' * bool(name)}{_waiting(listing)}{_several(listing, label)}"
                )


def _several(listing: Listing, label: int) -> str:
    """Says that the name of a class reads as several, which may be why it has so few images."""
    told = names_of_classes.like_several(listing.class_names, only_one=True) if not listing.units else []
    shown = repr(listing.class_names[label]) if told else ""
    return next((f"; {line}" for line in told if f" {shown} reads" in line), "")


def _waiting(listing: Listing) -> str:
    """Says that rows wait for a label, where that may be why images are missing."""
    count = sum(source.unlabelled for source in listing.sources)
    return f" ({count} of {sum(source.rows for source in listing.sources)} rows have no label yet)" if count else ""


def _check_groups(listing: Listing) -> None:
    parts: dict[str, Part] = {}
    for sample in listing.samples:
        if not listing.decides(sample):
            continue
        if sample.group and (part := parts.setdefault(sample.group, sample.part)) != sample.part:
            raise DataError(
                f"{listing.where}: group {sample.group!r} is in {part} and in {sample.part}, where {sample.path} is; "
                "a group belongs to one part"
            )
