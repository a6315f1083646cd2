"""Findings as a table that `training.label` opens: a row an image, the worst first, its label to be decided again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cnn_perception.errors import ConfigError, DataError
from cnn_perception.files import as_utf8
from training.data.records import Listing, Sample
from training.data_set import columns, table
from training.data_set.table import DataSetTable
from training.label_errors.record import Finding, of_each_image
from training.tasks.by_name import task_of

NAME = "suspects.csv"


def label_columns(listing: Listing) -> tuple[str, ...]:
    """Returns the columns in which a data set's table has the labels of these images."""
    task = task_of(listing.task)
    if task.one_class:
        return (columns.CLASS,)
    return tuple(listing.class_names) if task.least_squares else (columns.CLASSES,)


def label_cells(listing: Listing, sample: Sample) -> dict[str, str]:
    """Returns what stands in these columns for an image."""
    task = task_of(listing.task)
    names = label_columns(listing)
    cells = task.cells(sample, listing.class_names) if task.least_squares else [listing.words(sample)]
    return dict(zip(names, cells, strict=True))


def of_findings(file: Path, listing: Listing, findings: Sequence[Finding]) -> DataSetTable:
    """Returns the worklist of some findings, for a file that need not be there yet.

    Args:
        file: Where it is going to lie; the paths are relative to its folder.
        listing: The images.
        findings: What is said of them; several findings of one image become one row.
    """
    header = (
        columns.PATH, *label_columns(listing), columns.STATE, columns.WAS, columns.GUESS, columns.DOUBT, columns.REASON,
        columns.BAG,
    )  # fmt: skip
    rows: dict[str, Mapping[str, str]] = {}
    for found in of_each_image(list(findings)).values():
        row = _row(file, listing, found)
        rows.setdefault(row[columns.PATH], row)  # two tables may list one image, with labels that differ
    return DataSetTable(file, header, tuple(rows.values()))


def _row(file: Path, listing: Listing, found: Sequence[Finding]) -> Mapping[str, str]:
    """The row of an image, of which the worst finding comes first."""
    sample = listing.samples[found[0].row]
    return {
        columns.PATH: relative(sample.path, file.parent),
        **label_cells(listing, sample),
        columns.STATE: "",
        columns.WAS: listing.words(sample),
        columns.GUESS: next((one.guess for one in found if one.guess), ""),
        columns.DOUBT: f"{found[0].doubt:.4f}",
        columns.REASON: "; ".join(f"{one.kind}: {one.text}" for one in found),
        columns.BAG: sample.group,
    }


def relative(path: Path, folder: Path) -> str:
    """Returns how a table in a folder names a file, all links to it followed; odd bytes of its name as escapes."""
    there = os.path.relpath(os.path.realpath(path), os.path.realpath(folder))
    return as_utf8(there).decode()


def require_undecided(file: Path) -> None:
    """Refuses to take the place of a worklist in which somebody has decided something.

    Raises:
        ConfigError: If it would.
    """
    if not file.exists():
        return
    try:
        rows = table.read(file).rows
    except DataError:  # no worklist, which `require_unused` says
        return
    if decided := sum(bool(row.get(columns.STATE)) for row in rows):
        raise ConfigError(
            f"{file}: holds {decided} decisions; bring them back with --apply, or choose another --output"
        )
