"""Labelled images: found, checked and split. `load_images` is the one door, for image folders and CSV files.

Every file is read once before training: its content goes into the digest of the data set, and what cannot be decoded,
is there twice or contradicts itself is found before anything is learned from it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnn_perception.errors import DataError
from training.data import classes_file, conflicts, duplicates, look_alikes, names, scan, sources
from training.data.checks.findings import summary, write_findings
from training.data.checks.refusals import LISTS_THEM, Advice, require_classes, require_images
from training.data.duplicates import Pairs
from training.data.records import ImageFinding, LabelledImages, Listing, Sample, label_names
from training.data.scan import Content
from training.data.split import Division, divide, with_groups
from training.run_files import write_csv
from training.tasks import scaling
from training.tasks.by_name import task_of
from training.tasks.choices import By, OnConflict, TaskChoice
from training.tasks.scaling import Scaling


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
        may_lack_classes: Whether the images may show only some of `class_names`, see `classes_file.among`. No setting
            of a run: a network is measured on them then, and nothing is learned.
        can_choose: Whether these are flags of the command that reads the data, so that an error may advise them. No
            setting of a run, either.
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
    may_lack_classes: bool = False
    can_choose: bool = True

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> DataOptions:
        """Returns those of a run's settings that say how its data are read.

        Raises:
            ConfigError: If the file of their classes cannot be read.
        """
        file = settings.get("classes")
        read = cls.again(settings, classes_file.read(file) if file else ())
        return dataclasses.replace(read, can_choose=True)

    @classmethod
    def again(cls, settings: Mapping[str, Any], class_names: Sequence[str]) -> DataOptions:
        """Returns those of a run that is over, whose classes are known and whose file of them may be gone."""
        names = {field.name for field in dataclasses.fields(cls)}
        given = {name: value for name, value in settings.items() if name in names}
        is_taught = settings.get("unlabelled") and not settings.get("data")  # its classes are its teacher's
        known = settings.get("classes") or (is_taught and not given.get("targets"))
        return cls(**given, class_names=class_names if known else (), can_choose=False)

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
            parts differ in their classes or share images, an image has two labels, or more than
            `checks.refusals.MAX_REJECTED` of the images cannot be used.
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
    advice = Advice(f"see {findings_csv}" if findings_csv else LISTS_THEM, options.can_choose)
    listed, findings = conflicts.settle_classes(listed, options.on_conflict)
    findings += listed.left_out
    write_findings(findings_csv, findings)
    require_classes(listed, findings, advice)

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
    write_findings(findings_csv, [*findings, *look_alikes.findings(listing, listing, alike)])
    require_images(listing, findings, advice, strict=options.strict, on_conflict=options.on_conflict)

    recording = (
        *look_alikes.kept_together(listing, alike),
        *look_alikes.not_sought(contents),
        *look_alikes.of_a_recording(listing, alike, options.split),
    )
    return _Checked(listing, same, alike, tuple(findings), _digest(listing, contents), recording)


def _divided(checked: _Checked, options: DataOptions, findings_csv: Path | None) -> LabelledImages:
    """Divides checked images, and lists what was found about them."""
    listing = checked.listing
    alike = np.concatenate([*checked.alike.values()])
    samples = divide(listing, checked.same, alike, options.division, checked.alike[look_alikes.AUGMENTED])
    kept = listing.keep(samples)
    findings = [*checked.findings, *look_alikes.findings(listing, kept, checked.alike)]
    write_findings(findings_csv, findings)
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
            *_read_as_several(kept),
            *summary(findings),
            *task.oddities(train, kept.class_names),
        ),
        findings=tuple(findings),
        sources=listing.sources,
        outside=tuple(sample for sample in kept.samples if kept.is_outside(sample)),
    )


def _read_as_several(listing: Listing) -> list[str]:
    """Says which names of classes, not of columns, read as several."""
    if listing.units or not any(source.is_open for source in listing.sources):
        return []
    return names.like_several(listing.class_names, task_of(listing.task).one_class)


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
    listed = sources.read(paths, options.task, options.targets, classes_said=bool(options.class_names))
    if options.class_names:
        if options.may_lack_classes:
            listed = classes_file.among(listed, options.class_names)
        else:
            said = "--classes" if options.can_choose else "the classes of the run"
            listed = classes_file.ordered(listed, options.class_names, said)
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
        usable.append(dataclasses.replace(sample, pixels=scan.short(result.pixels)))
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


def _standardised(samples: Sequence[Sample], of: Scaling) -> tuple[Sample, ...]:
    if not of:
        return tuple(samples)
    values = scaling.standardised(np.array([sample.values for sample in samples]), of)
    rows = zip(samples, values.tolist(), strict=True)
    return tuple(dataclasses.replace(sample, values=tuple(row)) for sample, row in rows)
