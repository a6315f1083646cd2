"""Labelled images: found, checked and split. `load_images` is the one door, for image folders and CSV files.

Every file is read once before training: its content goes into the digest of the data set, and what cannot be decoded,
is there twice or contradicts itself is found before anything is learned from it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnn_perception.errors import ConfigError, DataError
from cnn_perception.image.listing import in_words
from training.data import classes_file, conflicts, duplicates, look_alikes, names, scan, sources
from training.data.conflicts import (
    COPY,
    ERRORS,
    IN_TWO_SOURCES,
    NO_IMAGE,
    NOT_IN_PART,
    OTHER_NUMBERS,
    TWO_LABELS,
    TWO_PARTS,
)
from training.data.duplicates import Pairs
from training.data.look_alikes import ACROSS, LOOK_ALIKES
from training.data.records import (
    PARTS,
    ImageFinding,
    LabelledImages,
    Listing,
    Part,
    RefusedDataError,
    Sample,
    label_names,
)
from training.data.scan import ANIMATED, BESIDE_PIXELS, HUGE, NEARLY_BLACK, TRANSPARENT, Content
from training.data.split import Division, divide, with_groups
from training.run_files import write_csv
from training.tasks import scaling
from training.tasks.by_name import task_of
from training.tasks.choices import By, OnConflict, TaskChoice
from training.tasks.scaling import Scaling
from training.tasks.task import MIN_IMAGES

_FINDINGS = ("path", "reason", "action")
MAX_REJECTED = 0.05
"""Share of unreadable images above which the data set, not the image, is taken to be broken."""

KINDS = (
    ANIMATED, TRANSPARENT, NEARLY_BLACK, HUGE, BESIDE_PIXELS, OTHER_NUMBERS, COPY,
    *(f"{kind} {ACROSS}" for kind in LOOK_ALIKES), *LOOK_ALIKES, IN_TWO_SOURCES, *ERRORS,
)  # fmt: skip
"""How the reasons of findings begin, by which they are counted; a longer one before its own beginning."""
_NAMED = 3
"""So many of the images that cannot be used are named in an error."""


@dataclass(frozen=True)
class DataOptions:
    """How a data set is read and split; the fields are those of a run's settings.

    Attributes:
        val_fraction: Share of each class held out for validation where the data set has no val part, in (0, 1).
        test_fraction: Share of each class held out for the test if it has no test part, in [0, 1).
        seed: Seed of the split.
        task: What is to be learned; `auto` tells it from the columns.
        targets: For regression, the columns of numbers, each `name` or `name:unit`.
        group_pattern: Regular expression that takes the group of an image from its file name.
        split: Whether images are held out at random, or from the end of the recording.
        folds: Validation is one of this many parts of the training images; val and test are left out.
        fold: Which of them, from 1; the first by default.
        strict: Whether one image that cannot be used is an error.
        on_conflict: What becomes of images and classes that contradict each other, see `conflicts`.
        class_names: Of the classes in their order, see `classes_file.ordered`; empty sorts them.
    """

    val_fraction: float = 0.2
    test_fraction: float = 0.0
    seed: int = 0
    task: TaskChoice = "auto"
    targets: Sequence[str] = ()
    group_pattern: str | None = None
    split: By = "random"
    folds: int | None = None
    fold: int | None = None
    strict: bool = False
    on_conflict: OnConflict = "error"
    class_names: Sequence[str] = ()

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> DataOptions:
        """Returns those of a run's settings that say how its data are read.

        Raises:
            ConfigError: If the file of their classes cannot be read.
        """
        file = settings.get("classes")
        return cls.again(settings, classes_file.read(file) if file else ())

    @classmethod
    def again(cls, settings: Mapping[str, Any], class_names: Sequence[str]) -> DataOptions:
        """Returns those of a run that is over, whose classes are known and whose file of them may be gone."""
        names = {field.name for field in dataclasses.fields(cls)}
        given = {name: value for name, value in settings.items() if name in names}
        is_taught = settings.get("unlabelled") and not settings.get("data")  # its classes are its teacher's
        known = settings.get("classes") or (is_taught and not given.get("targets"))
        return cls(**given, class_names=class_names if known else ())

    @property
    def division(self) -> Division:
        """What is held out."""
        return Division(self.val_fraction, self.test_fraction, self.seed, self.split, self.folds, self.fold)


def load_images(
    source: Path | Sequence[Path], options: DataOptions | None = None, findings_csv: Path | None = None
) -> LabelledImages:
    """Finds, checks and splits labelled images.

    Args:
        source: DIR with train, val and test folders of class folders, or with class folders; or with MNIST's idx files;
            or a CSV file, or the folder of a data set that is being labelled; or several of these, which are one data
            set then.
        options: How it is read and split; as usual by default.
        findings_csv: Where what was found is listed (path, reason, action); written if there is anything.

    Returns:
        The data set, without the images that cannot be used.

    Raises:
        ConfigError: If the options contradict each other or the data set.
        DataError: If it is no data set; `RefusedDataError`, which has the findings, if a class has too few images, its
            parts differ in their classes or share images, an image has two labels, or more than `MAX_REJECTED` of the
            images cannot be used.
    """
    options = options or DataOptions()
    return _divided(_checked(source, options, findings_csv), options, findings_csv)


def load_folds(
    source: Path | Sequence[Path], options: DataOptions, counts: Sequence[int], findings_csv: Path | None = None
) -> tuple[LabelledImages, tuple[LabelledImages, ...]]:
    """Returns what `load_images` returns, and its training part once more in folds; every image is read once.

    Args:
        source: As for `load_images`.
        options: As for `load_images`; without folds.
        counts: How many folds there may be, the preferred first: groups can be too few for many.
        findings_csv: As for `load_images`.

    Returns:
        The data set, and for each fold the training images, of which those of the fold are called its `val` part.

    Raises:
        ConfigError: As for `load_images`.
        DataError: As for `load_images`, and if the training images cannot be divided into any such number of folds.
    """
    checked = _checked(source, options, findings_csv)
    whole = _divided(checked, options, findings_csv)
    paths = {sample.path: sample for sample in (*whole.part("train"), *whole.outside_of("train"))}
    rows = np.array([row for row, sample in enumerate(checked.listing.samples) if sample.path in paths], np.int64)
    of_train = checked.rows(rows)
    for count in counts[:-1]:
        with contextlib.suppress(DataError):
            return whole, _folds(of_train, options, count)
    return whole, _folds(of_train, options, counts[-1])


@dataclass(frozen=True, eq=False)
class _Checked:
    """The usable images of a data set before they are divided.

    Attributes:
        listing: The images.
        same: Pairs of their rows that are copies.
        alike: Pairs that look alike, by the kind of likeness.
        findings: What was noticed.
        digest: Of the whole data set.
        recording: What is to be said of images of a recording.
    """

    listing: Listing
    same: Pairs
    alike: Mapping[str, Pairs]
    findings: tuple[ImageFinding, ...]
    digest: str
    recording: tuple[str, ...]

    def rows(self, rows: npt.NDArray[np.int64]) -> _Checked:
        """Returns the same of some of the images, all of the training part."""
        places = np.full(len(self.listing.samples), -1)
        places[rows] = np.arange(len(rows))
        samples = tuple(dataclasses.replace(self.listing.samples[row], part="train") for row in rows)
        alike = {kind: _among(pairs, places) for kind, pairs in self.alike.items()}
        listing = self.listing.keep(samples)
        return dataclasses.replace(self, listing=listing, same=_among(self.same, places), alike=alike)


def _among(pairs: Pairs, places: npt.NDArray[np.int64]) -> Pairs:
    """The pairs of which both are kept, by their new places."""
    moved = places[pairs.reshape(-1, 2)]
    return np.asarray(moved[(moved >= 0).all(axis=1)], np.int64)


def _folds(checked: _Checked, options: DataOptions, count: int) -> tuple[LabelledImages, ...]:
    plain = dataclasses.replace(options, test_fraction=0.0, folds=count)
    numbered = [dataclasses.replace(plain, fold=number) for number in range(1, count + 1)]
    return tuple(_divided(checked, one, None) for one in numbered)


def _checked(source: Path | Sequence[Path], options: DataOptions, findings_csv: Path | None) -> _Checked:
    """Finds and checks labelled images; see `load_images`."""
    listed = list_images(source, options)
    where = f"see {findings_csv}" if findings_csv else "--csv FILE lists them"
    listed, findings = conflicts.settle_classes(listed, options.on_conflict)
    findings += listed.left_out
    _write_findings(findings_csv, findings)
    with _refusing_with(findings):
        _refuse_conflicts(listed, findings, where)
        _check_classes(listed)

    listing, contents, more = _read_all(listed)
    findings += more
    copies = duplicates.exact([content.pixels for content in contents])
    listing = conflicts.with_groups_of_copies(listing, copies)
    kept_rows, copied = conflicts.settle_copies(listing, copies, options.on_conflict)
    findings += copied
    listing = listing.keep(tuple(listing.samples[row] for row in kept_rows))
    contents = [contents[row] for row in kept_rows]
    same = duplicates.exact([content.pixels for content in contents])
    alike = look_alikes.find(listing, contents, same)
    _write_findings(findings_csv, [*findings, *look_alikes.findings(listing, listing, alike)])
    with _refusing_with(findings):
        _refuse_unusable(listing, findings, options.strict, where)
        _refuse_conflicts(listing, findings, where)
        _check_counts(listing, options.on_conflict)
        _check_groups(listing)

    recording = (*look_alikes.not_sought(contents), *look_alikes.of_a_recording(listing, alike, options.split))
    return _Checked(listing, same, alike, tuple(findings), _digest(listing, contents), recording)


def _divided(checked: _Checked, options: DataOptions, findings_csv: Path | None) -> LabelledImages:
    """Divides checked images, and lists what was found about them."""
    listing = checked.listing
    samples = divide(listing, checked.same, np.concatenate([*checked.alike.values()]), options.division)
    kept = listing.keep(samples)
    findings = [*checked.findings, *look_alikes.findings(listing, kept, checked.alike)]
    _write_findings(findings_csv, findings)
    noted = dataclasses.replace(listing, notes=(*listing.notes, *checked.recording))
    return _described(noted, kept, checked.digest, findings)


def _described(listing: Listing, kept: Listing, digest: str, findings: Sequence[ImageFinding]) -> LabelledImages:
    """The images that are kept of a listing, their numbers standardised, with what their owner should know."""
    task = task_of(kept.task)
    known = [sample for sample in kept.samples if not kept.is_outside(sample)]
    train = [sample for sample in known if sample.part == "train"]
    of_numbers = task.scaling(train)
    ignored = dict(listing.ignored)
    if left := len(listing.samples) - len(kept.samples):
        ignored["images of val and test, which the folds leave out"] = left
    return LabelledImages(
        root=listing.source.resolve(),
        task=kept.task,
        class_names=kept.class_names,
        units=kept.units,
        scaling=of_numbers,
        samples=_standardised(known, of_numbers),
        sha256=digest,
        rejected=tuple(finding for finding in findings if finding.action == "left out"),
        ignored=ignored,
        warnings=(
            *listing.notes,
            *names.alike(kept.class_names),
            *names.odd(kept.class_names),
            *_summary(findings),
            *task.oddities(train, kept.class_names),
        ),
        findings=tuple(findings),
        sources=listing.sources,
        outside=tuple(sample for sample in kept.samples if kept.is_outside(sample)),
    )


def write_split(path: Path, data: LabelledImages) -> None:
    """Writes what each image shows, in units, and what it is used for: a table that `load_images` reads again."""
    task = task_of(data.task)
    header = ["path", *task.columns(data.class_names), "part", "group"]
    rows = []
    for sample in (*data.samples, *data.outside):
        cells = task.cells(data.in_units(sample), label_names(data.task, data.class_names))
        rows.append([sample.path.absolute(), *cells, sample.part, sample.group])
    write_csv(path, header, rows)


def list_images(source: Path | Sequence[Path], options: DataOptions) -> Listing:
    """Returns the images that sources name, with their groups, before any is opened or judged.

    Args:
        source: As for `load_images`.
        options: How it is read: its classes are in the order that they say.

    Raises:
        ConfigError: If the options contradict each other or the data set.
        DataError: If it is no data set.
    """
    paths = (source,) if isinstance(source, Path) else tuple(source)
    listed = sources.read(paths, options.task, options.targets)
    listed = classes_file.ordered(listed, options.class_names) if options.class_names else listed
    listed = with_groups(listed, options.group_pattern)
    names.require_storable(listed.class_names, listed.where)
    return listed


def _read_all(listing: Listing) -> tuple[Listing, list[Content], list[ImageFinding]]:
    """Returns the readable images, what is in them, and what was found on the way."""
    usable = []
    contents = []
    findings = list[ImageFinding]()
    found = scan.read_all([sample.path for sample in listing.samples])
    for sample, result in zip(listing.samples, found, strict=True):
        if isinstance(result, ImageFinding):
            findings.append(result)
            continue
        usable.append(sample)
        contents.append(result)
        findings += [ImageFinding(sample.path, note, "warning") for note in result.notes]
    return listing.keep(tuple(usable)), contents, findings


def _digest(listing: Listing, contents: Sequence[Content]) -> str:
    """Covers names, labels and contents; of a CSV file also parts and groups, which no name holds."""
    digest = hashlib.sha256()
    bases = [source.base or source.path for source in listing.sources]
    for sample, found in zip(listing.samples, contents, strict=True):
        words = [task_of(listing.task).content(sample, listing.label_names)]
        if listing.in_time or len(bases) > 1:
            words += [sample.part, sample.group]
        # a name may hold any character but NUL
        name = os.fsencode(os.path.relpath(sample.path, bases[sample.source]))
        for word in (name, *(word.encode(errors="surrogateescape") for word in words)):
            digest.update(word + b"\0")
        digest.update(found.sha256)
    return digest.hexdigest()


def _write_findings(path: Path | None, findings: Sequence[ImageFinding]) -> None:
    if path and os.path.lexists(path) and not _is_list_of_findings(path):
        raise ConfigError(f"{path}: is there already and no list of findings; choose another place for them")
    if path and not findings:
        path.unlink(missing_ok=True)  # an earlier check's
    elif path:
        write_csv(path, _FINDINGS, [(f.path, f.reason, f.action) for f in findings])


def _is_list_of_findings(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return path.is_file() and file.readline(100) == f"{','.join(_FINDINGS)}\n".encode()
    except OSError:
        return False


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


def _refuse_conflicts(listing: Listing, findings: Sequence[ImageFinding], where: str) -> None:
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
            f"it, {where}, or choose --on-conflict drop or first"
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
                    f"add some{' or remove it' * bool(name)}{_waiting(listing)}"
                )


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


def _standardised(samples: Sequence[Sample], of: Scaling) -> tuple[Sample, ...]:
    if not of:
        return tuple(samples)
    values = scaling.standardised(np.array([sample.values for sample in samples]), of)
    rows = zip(samples, values.tolist(), strict=True)
    return tuple(dataclasses.replace(sample, values=tuple(row)) for sample, row in rows)


def _summary(findings: Sequence[ImageFinding]) -> list[str]:
    """Says how often each kind of warning occurred, and what was dropped."""
    warned = Counter(_kind(finding) for finding in findings if finding.action == "warning")
    dropped = [finding for finding in findings if finding.action == "dropped"]
    counts = Counter(_kind(finding) for finding in dropped)
    return [
        *(finding.reason for finding in findings if finding.reason.startswith((NO_IMAGE, NOT_IN_PART))),
        *(f"{_images(warned[kind])}: {kind}" for kind in KINDS if warned[kind] and kind not in (NO_IMAGE, NOT_IN_PART)),
        *(
            f"{_images(counts[kind])} dropped: {kind}"
            for kind in (IN_TWO_SOURCES, TWO_LABELS, TWO_PARTS)
            if counts[kind]
        ),
    ]


def _images(count: int) -> str:
    return f"{count} {'image' if count == 1 else 'images'}"


def _kind(finding: ImageFinding) -> str:
    """Returns which of `KINDS` a warning is of."""
    return next(kind for kind in KINDS if finding.reason.startswith(kind))
