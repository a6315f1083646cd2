"""Data set -> labels.html and suspects.csv, or decisions -> a new table: what is done in what order."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnn_perception.commands import Done, for_shell, there
from cnn_perception.errors import printable
from cnn_perception.files import require_unused
from training import config
from training.config import TrainConfig
from training.data.load import DataOptions, list_images
from training.data.records import Listing
from training.data.sources import require_apart
from training.data_set.columns import CLASSES_FILE
from training.label_errors import corrections, examination, features, page, worklist
from training.label_errors.options import Asked
from training.label_errors.record import Result, worst_first
from training.run_files import make_output, write_text

PAGE = "labels.html"
RECORD = "labels.json"
_SAID = 20
"""Findings of labels that are said in the terminal."""


def run(asked: Asked) -> int:
    """Returns the exit code after doing what the command line says.

    Raises:
        ConfigError: If the options contradict each other, or files of others would be overwritten.
        DataError: If the data set or the worklist cannot be used.
    """
    given = {name: value for name, value in asked.given.items() if name != "mode"}
    chosen = config.make(output="-", mode="probe", **given)
    sources = tuple(map(Path, chosen.data))
    if asked.apply is None:
        return _examine(asked, chosen, sources)
    return _apply(asked, list_images(sources, DataOptions.of(chosen.to_dict())), sources, asked.apply)


def _examine(asked: Asked, chosen: TrainConfig, sources: Sequence[Path]) -> int:
    describe = features.chosen_by(asked.given, chosen, asked.checkpoint, asked.model)
    if asked.output is not None:
        _require_folder(asked.output, sources)
    listing = list_images(sources, DataOptions.of(chosen.to_dict()))
    result = examination.examine(examination.prepare(listing, describe), chosen.seed)
    print(*map(printable, page.lines(result, _SAID)), sep="\n")
    if asked.output is None:
        return Done(result=_record(result))
    _write(asked.output, result, for_shell("python", "-m", "training.check", *asked.words))
    written = there(asked.output, PAGE, RECORD, worklist.NAME, CLASSES_FILE)
    return Done(result=_record(result), written=written)


def _apply(asked: Asked, listing: Listing, sources: Sequence[Path], decided: Path) -> int:
    assert asked.output is not None  # see `Asked`
    found = corrections.corrected(listing, sources, decided, asked.output, asked.skipped or "drop")
    found.table.write()
    print(printable(found.in_words()))
    return Done(result={"said": found.in_words()}, written=[asked.output])


def _require_folder(folder: Path, sources: Sequence[Path]) -> None:
    """Makes the folder of the results, unless it holds files of others, decisions, or the images."""
    require_apart(folder, sources)
    worklist.require_undecided(folder / worklist.NAME)
    make_output(folder)
    record = folder / RECORD
    names = (PAGE, worklist.NAME, CLASSES_FILE, RECORD)
    require_unused([folder / name for name in names], record, ("labels_of", "findings"))


def _write(folder: Path, result: Result, command: str) -> None:
    """Leaves the page, the worklist with its classes, and the record of all figures."""
    text = page.of(result, command)
    suspects = worklist.of_findings(folder / worklist.NAME, result.listing, result.findings)
    suspects.write()
    write_text(folder / CLASSES_FILE, "".join(f"{name}\n" for name in result.listing.class_names))
    write_text(folder / PAGE, text)
    write_text(folder / RECORD, json.dumps(_record(result), indent=2, ensure_ascii=False) + "\n")
    print(printable(f"  shown in {folder / PAGE}; to decide: {_to_decide(suspects.file, result.listing)}"))


def _to_decide(file: Path, listing: Listing) -> str:
    """Returns the command that opens the worklist; it names the numbers, whose units no table has."""
    pairs = zip(listing.class_names, listing.units, strict=False)
    numbers = ",".join(f"{name}:{unit}" if unit else name for name, unit in pairs)
    return for_shell("python", "-m", "training.label", file, *(["--targets", numbers] if numbers else []))


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
