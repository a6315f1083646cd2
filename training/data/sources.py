"""What is labelled, as one list: class folders, folders of MNIST's files, tables, and data sets with their tables."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from cnn_perception import label_table
from cnn_perception.errors import ConfigError, DataError
from cnn_perception.files import require_outside
from cnn_perception.image.listing import is_passed_over, visible_folders
from cnn_perception.label_table import ListedFiles, Table, read_table
from training import idx_files
from training.data import csv_table, image_folder
from training.data.names import part_of
from training.data.records import Listing, Part, Sample, Source
from training.data_set.columns import PATH
from training.data_set.table import table_file
from training.tasks.by_name import task_of
from training.tasks.choices import TaskChoice

_SHOWN = 3
"""So many of the classes that one source alone names are said."""


def read(paths: Sequence[Path], task: TaskChoice, targets: Sequence[str], *, classes_said: bool = False) -> Listing:
    """Lists the images that folders and tables name, in their order, as one data set.

    Args:
        paths: At least one. DIR with train, val and test folders of class folders, or with class folders, or with
            MNIST's idx files; a CSV file, or the folder of a data set with its table, or with train, val and test
            folders that hold one each.
        task: What is to be learned; `auto` tells it from each.
        targets: For regression, the columns of numbers, each `name` or `name:unit`.
        classes_said: Whether the user names the classes.

    Raises:
        ConfigError: If the options contradict each other or what is listed, or something is named twice.
        DataError: If one is no data set, nothing in them is labelled, or two are of different tasks or classes.
    """
    _refuse_twice(paths)
    parts = _parts_by_name(paths)
    if parts:
        listings = [_all_of(part, csv_table.read(path, task, targets)) for part, path in parts.items()]
    else:
        listings = [listing for path in paths for listing in _of(path, task, targets, classes_said)]
    for other in listings[1:]:
        _require_agreement(listings[0], other)
    found = _joined(listings) if len(listings) > 1 else listings[0]
    _require_labels(found)
    return found


def table_of(path: Path) -> Path | None:
    """Returns the table that is read where a user names it, or the folder of a data set; None for other folders.

    Raises:
        DataError: If a table in a folder cannot be read.
    """
    if is_table(path):
        return path
    file = table_file(path)
    return file if path.is_dir() and file.is_file() and _names_images(read_table(file, "mend --data")) else None


def _names_images(table: Table) -> bool:
    """Whether a table that lies in a folder is one of images: by its column, or because its first image is there."""
    if PATH in table.header:
        return True
    try:
        (first, *_) = table.naming(PATH).rows
        return ListedFiles((table.file.parent,)).find(first) is not None
    except (DataError, KeyError, ValueError):  # of a table of something else
        return False


def is_table(path: Path) -> bool:
    """Returns whether a path is that of a table; otherwise a folder is meant."""
    return path.suffix.lower() in label_table.ENDINGS and not path.is_dir()


def require_apart(output: Path, data: Iterable[Path]) -> None:
    """Refuses to write where images are searched for: a folder there is a class the next time, and a chart an image.

    Beside a table, and beside MNIST's files, nothing is read that they do not name; what is hidden is read nowhere.

    Args:
        output: The file or folder that is to be written.
        data: Folders and tables of labelled images.

    Raises:
        ConfigError: If it lies in a folder of class folders.
        DataError: If a table in a folder cannot be read.
    """
    for source in data:
        if table_of(source) is None and not idx_files.found(source):
            require_unread(output, source)


def require_unread(output: Path, folder: Path) -> None:
    """Refuses to write into a folder of which every image is read, but for what is hidden in it.

    Raises:
        ConfigError: If a file or folder lies there.
    """
    inside = Path(os.path.relpath(os.path.realpath(output), os.path.realpath(folder)))
    if not any(name.startswith(".") and name != os.pardir for name in inside.parts):
        require_outside(output, folder)


def base(source: Path) -> Path:
    """Returns the folder that the names of a source's images are relative to."""
    return source.absolute().parent if is_table(source) else source.absolute()


def _refuse_twice(paths: Sequence[Path]) -> None:
    real = [table_file(path).resolve() if table_file(path).is_file() else path.resolve() for path in paths]
    if len(set(real)) < len(real):
        raise ConfigError(f"--data: {max(real, key=real.count)} is named twice; name each once")


def _of(path: Path, task: TaskChoice, targets: Sequence[str], classes_said: bool) -> list[Listing]:
    if is_table(path):
        return [csv_table.read(path, task, targets)]
    if path.is_file():
        raise DataError(
            f"{path}: is neither a folder nor a table ({', '.join(label_table.ENDINGS)}); unpack it if it is an archive"
        )
    table = table_of(path)
    if table is not None:
        found = csv_table.read(table, task, targets)
        (source,) = found.sources
        return [dataclasses.replace(found, sources=(dataclasses.replace(source, path=path),))]
    if tables := _tables_of_parts(path):
        return [_all_of(part, csv_table.read(file, task, targets)) for part, file in tables.items()]
    if path.is_dir() and (targets or task not in ("auto", image_folder.TASK)):
        raise ConfigError(f"{path}: an image folder gives each image one class; write the labels to a CSV file")
    return [image_folder.read(idx_files.unpacked(path) if idx_files.found(path) else path, classes_said)]


def _parts_by_name(paths: Sequence[Path]) -> dict[Part, Path]:
    """Returns which of several tables is which part, as train.csv and val.csv are; none where none is called so."""
    stems = [path.stem for path in paths]
    names = stems if len({*stems}) > 1 else [path.absolute().parent.name for path in paths]
    found = {part: path for name, path in zip(names, paths, strict=True) if (part := part_of(name, names)) is not None}
    is_said = all(map(is_table, paths)) and len(found) == len(paths) > 1 and "train" in found
    return found if is_said else {}


def _tables_of_parts(folder: Path) -> dict[Part, Path]:
    """Returns the table that lies beside the images of each part, as Roboflow writes them; none where one has none."""
    found: dict[Part, Path] = {}
    for sub in visible_folders(folder) if folder.is_dir() else ():
        part = part_of(sub.name)
        tables = [
            file for file in sub.iterdir() if file.suffix.lower() in image_folder.TABLES and not is_passed_over(file)
        ]
        if part is None or part in found or len(tables) != 1 or visible_folders(sub):
            return {}
        found[part] = tables[0]
    return found if "train" in found else {}


def _all_of(part: Part, listing: Listing) -> Listing:
    """Returns a listing with all images of one part, as its table's name says, unless its rows say themselves."""
    (source,) = listing.sources
    if source.has_parts:
        return listing
    samples = tuple(dataclasses.replace(sample, part=part) for sample in listing.samples)
    told = dataclasses.replace(source, given=frozenset({part}), has_parts=True)
    notes = (*listing.notes, f"by its name all its images are taken for the part {part}")
    return dataclasses.replace(listing, sources=(told,), samples=samples, notes=notes)


def _require_agreement(first: Listing, other: Listing) -> None:
    """Raises DataError if two sources cannot be learned from together; says what each of them has."""
    if first.task != other.task:
        raise DataError(
            f"--data: {first.where} is {first.task}, {other.where} is {other.task}; give sources of one task, or say "
            "which by --task"
        )
    for one, another in ((first, other), (other, first)):
        if not one.sources[0].is_open and (lacking := {*another.class_names} - {*one.class_names}):
            raise DataError(
                f"--data: {another.where} has {_some(lacking)}, of which {one.where} has no column; add it there"
            )


def _difference(first: Listing, other: Listing) -> str:
    """Says which classes only one of two sources has; empty if none."""
    pairs = ((first, {*first.class_names} - {*other.class_names}), (other, {*other.class_names} - {*first.class_names}))
    return "; ".join(f"only {one.where} has {_some(names)}" for one, names in pairs if names)


def _some(names: set[str]) -> str:
    return ", ".join(map(repr, sorted(names)[:_SHOWN])) + ", ..." * (len(names) > _SHOWN)


def _joined(listings: Sequence[Listing]) -> Listing:
    """One list of several: the classes of all of them, and the images in the order in which they were given."""
    names = _names(listings)
    named = [one.renamed(names, [names.index(name) for name in one.class_names]) for one in listings]
    given = frozenset[Part]().union(*(source.given for one in listings for source in one.sources))
    return Listing(
        sources=tuple(_settled(source, given) for one in listings for source in one.sources),
        task=listings[0].task,
        class_names=names,
        units=listings[0].units,
        samples=tuple(_of_source(sample, k) for k, one in enumerate(named) for sample in one.samples),
        in_time=all(one.in_time for one in listings),
        ignored=dict(sum((Counter(one.ignored) for one in listings), Counter[str]())),
        notes=(*(f"{one.where}: {note}" for one in listings for note in one.notes), *_notes(listings)),
        left_out=tuple(finding for one in listings for finding in one.left_out),
    )


def _names(listings: Sequence[Listing]) -> tuple[str, ...]:
    """The classes of all, sorted as those of one; what are columns of the tables stays in their order."""
    first = listings[0].class_names
    named = {name for one in listings for name in one.class_names}
    return first if named == {*first} else tuple(sorted(named))


def _of_source(sample: Sample, number: int) -> Sample:
    return dataclasses.replace(sample, source=number)


def _settled(source: Source, given: frozenset[Part]) -> Source:
    """A source that names parts keeps them, although others have further parts."""
    return dataclasses.replace(source, given=source.given | given) if source.has_parts else source


def _notes(listings: Sequence[Listing]) -> list[str]:
    """What has to be said of sources that name different classes."""
    first, *others = [one for one in listings if one.class_names] or listings[:1]
    different = [_difference(first, other) for other in others]
    meaning = "" if task_of(first.task).one_class else ", which the images of the others count as without"
    return [f"the classes differ: {words}{meaning}" for words in different if words]


def _require_labels(listing: Listing) -> None:
    rows = sum(source.rows for source in listing.sources)
    if not listing.samples and any(source.unlabelled for source in listing.sources):
        raise DataError(
            f"{listing.where}: none of its {rows} rows has a label yet; label some, by python -m training.label or by "
            "hand, and try again"
        )
    if listing.samples and not any(sample.part == "train" for sample in listing.samples):
        raise DataError(f"{listing.where}: no row is of the part train; add some")
    if not listing.class_names:
        what = "is of a class" if task_of(listing.task).one_class else "shows any class"
        raise DataError(f"{listing.where}: no image {what}; name some in the column {_column(listing)!r}")


def _column(listing: Listing) -> str:
    return "class" if task_of(listing.task).one_class else "classes"
