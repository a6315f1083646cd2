"""Data set -> labels.html and suspects.csv, or decisions -> a new table: what is done in what order."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnn_perception.commands import for_shell
from cnn_perception.errors import DataError, printable
from cnn_perception.files import require_outside, require_unused
from cnn_perception.label_table import ListedFiles, read_table
from training import config
from training.config import TrainConfig
from training.data.load import DataOptions, list_images
from training.data.records import ImageFinding, Listing
from training.data_set.columns import CLASSES_FILE
from training.label_errors import corrections, features, page, worklist
from training.label_errors.checks import copies, doubts, giveaways, out_of_fold, unusual
from training.label_errors.measures import Measured, measure_all
from training.label_errors.options import Asked
from training.label_errors.page import Result
from training.label_errors.record import meaning_of, worst_first
from training.run_files import make_folder, write_text
from training.tasks.by_name import task_of

PAGE = "labels.html"
RECORD = "labels.json"
FEWEST = 2 * out_of_fold.FOLDS
"""Images below which labels are not judged."""
_SAID = 20
"""Findings of labels that are said in the terminal."""
_NAMED = 3


def run(asked: Asked) -> None:
    """Does what the command line says.

    Raises:
        ConfigError: If the options contradict each other, or files of others would be overwritten.
        DataError: If the data set or the worklist cannot be used.
    """
    given = {name: value for name, value in asked.given.items() if name != "mode"}
    chosen = config.make(output="-", mode="probe", **given)
    if asked.apply is not None:
        _apply(asked, chosen, asked.apply)
        return
    describe = features.chosen_by(given, chosen, asked.checkpoint, asked.model)
    if asked.output is not None:
        _require_folder(asked.output, Path(chosen.data))
    print(printable(f"{chosen.data}: looking for wrong labels"), flush=True)
    result = _found(chosen, describe)
    print(*map(printable, page.lines(result, _SAID)), sep="\n")
    if asked.output is not None:
        _write(asked.output, result, for_shell("python", "-m", "training.check", *asked.words))


def _apply(asked: Asked, chosen: TrainConfig, decided: Path) -> None:
    assert asked.output is not None  # see `Asked`
    options = DataOptions.of(chosen.to_dict())
    found = corrections.corrected(Path(chosen.data), options, decided, asked.output, asked.skipped or "drop")
    found.table.write()
    print(printable(found.in_words()))


def _found(chosen: TrainConfig, describe: features.Describe) -> Result:
    source = Path(chosen.data)
    listing = list_images(source, DataOptions.of(chosen.to_dict()))
    measured, listing, left_out = _measured(listing)
    described = describe(meaning_of(listing))
    known = np.flatnonzero(described.known)
    listing = listing.keep(tuple(listing.samples[row] for row in known))
    measured = [measured[row] for row in known]
    _check(listing)
    compact = out_of_fold.compact(described.rows[known])
    pairs = copies.find(measured, compact)
    doubted = doubts.find(listing, compact, list(pairs.values()), chosen.seed)
    findings = (
        *doubted.findings,
        *copies.with_other_labels(listing, pairs),
        *unusual.outliers(compact),
        *unusual.poor_pictures(measured),
    )
    notes = (*listing.notes, *_of_left_out(left_out), *_of_judged(doubted.not_judged), *doubted.notes, *described.notes)
    told = giveaways.find(listing, measured, _cells(listing), chosen.seed)
    return Result(listing, findings, tuple(told), doubted.noise, described.source, notes)


def _measured(listing: Listing) -> tuple[list[Measured], Listing, list[ImageFinding]]:
    """What was measured of the images that can be read, these, and the others."""
    found = list(measure_all([sample.path for sample in listing.samples]))
    usable = [row for row, one in enumerate(found) if isinstance(one, Measured)]
    measured = [one for one in found if isinstance(one, Measured)]
    left_out = [one for one in found if isinstance(one, ImageFinding)]
    return measured, listing.keep(tuple(listing.samples[row] for row in usable)), left_out


def _check(listing: Listing) -> None:
    """Raises DataError if there is nothing to be judged."""
    if len(listing.samples) < FEWEST:
        raise DataError(
            f"{listing.source}: {len(listing.samples)} usable images are too few to judge labels by; at least {FEWEST}"
        )
    there = Counter(sample.label for sample in listing.samples)
    if task_of(listing.task).one_class and len(there) < 2:
        only = listing.class_names[next(iter(there))]
        raise DataError(f"{listing.source}: one class only ({only!r}), at least 2 are needed")


def _of_left_out(left_out: Sequence[ImageFinding]) -> list[str]:
    if not left_out:
        return []
    named = "; ".join(f"{one.path} ({one.reason})" for one in left_out[:_NAMED])
    return [f"{len(left_out)} images cannot be read and are left out: {named}{'; ...' * (len(left_out) > _NAMED)}"]


def _of_judged(count: int) -> list[str]:
    if not count:
        return []
    return [f"{count} images are of classes that have no other images to be judged by; they are not judged"]


def _cells(listing: Listing) -> list[Mapping[str, str]]:
    """What a table says of each image; nothing of a folder."""
    if listing.source.is_dir():
        return []
    table = read_table(listing.source, "mend --data").naming("path")
    files = ListedFiles((listing.source.parent,))
    found = {path.resolve(): row.cells for row in table.rows if (path := files.find(row)) is not None}
    return [found.get(sample.path.resolve(), {}) for sample in listing.samples]


def _require_folder(folder: Path, source: Path) -> None:
    """Makes the folder of the results, unless it holds files of others, decisions, or the images."""
    require_outside(folder, source)
    worklist.require_undecided(folder / worklist.NAME)
    make_folder(folder)
    record = folder / RECORD
    names = (PAGE, worklist.NAME, CLASSES_FILE, RECORD)
    require_unused([folder / name for name in names], record, ("labels_of", "findings"))


def _write(folder: Path, result: Result, command: str) -> None:
    """Leaves the page, the worklist with its classes, and the record of all figures."""
    text = page.of(result, command)
    suspects = worklist.of_findings(folder / worklist.NAME, result.listing, result.findings)
    suspects.write()
    if not result.listing.units:
        write_text(folder / CLASSES_FILE, "".join(f"{name}\n" for name in result.listing.class_names))
    write_text(folder / PAGE, text)
    write_text(folder / RECORD, json.dumps(_record(result), indent=2, ensure_ascii=False) + "\n")
    print(printable(f"  shown in {folder / PAGE}; to decide: python -m training.label {folder / worklist.NAME}"))


def _record(result: Result) -> dict[str, Any]:
    samples = result.listing.samples
    return {
        "labels_of": str(result.listing.source),
        "task": result.listing.task,
        "images": len(samples),
        "features": result.source,
        "noise": result.noise,
        "counts": result.counts(),
        "findings": [
            {"path": str(samples[one.row].path), "kind": one.kind, "given": result.listing.words(samples[one.row])}
            | {"guess": one.guess, "doubt": one.doubt, "text": one.text}
            for one in worst_first(list(result.findings))
        ],
        "giveaways": [
            dataclasses.asdict(one.told) | {"name": one.name, "of": one.of, "chance": one.chance, "is_far": one.is_far}
            for one in result.giveaways
        ],
        "notes": list(result.notes),
    }
