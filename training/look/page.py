"""The page of a look into a network, its pictures as files, and its figures as JSON."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnn_perception.errors import DataError
from cnn_perception.files import require_unused
from cnn_perception.pages.rendering import render
from training.look.section import Section
from training.look.sections import TITLES
from training.look.subject import Subject
from training.run_files import make_folder, make_output, replacing, write_text

PAGE = "look.html"
RECORD = "look.json"
FIGURES = "figures"


@dataclass(frozen=True)
class Part:
    """A section that was asked for, and what became of it.

    Attributes:
        name: One of `sections.NAMES`.
        section: What is shown; None where it cannot be made.
        missing: Why not; empty otherwise.
        elapsed_s: Time that it took.
    """

    name: str
    section: Section | None
    missing: str
    elapsed_s: float

    @property
    def title(self) -> str:
        """Its headline."""
        return TITLES[self.name]

    @property
    def seconds(self) -> str:
        """The time it took, in words."""
        return f"made in {self.elapsed_s:.0f} s" if self.elapsed_s >= 1 else "made in less than 1 s"


def require_place(folder: Path) -> None:
    """Makes the folder of a page, before minutes are spent, unless it holds files of others under their names.

    Raises:
        ConfigError: If it does.
        DataError: If it cannot be made or written to.
    """
    make_output(folder)
    record = folder / RECORD
    require_unused([folder / PAGE, record, folder / FIGURES], record, ("backbone", "sections"))
    with _new_folder(folder / FIGURES):
        pass


def write(subject: Subject, parts: Sequence[Part], folder: Path, command: str) -> Path:
    """Writes look.html, look.json and figures/SECTION/NAME.png; those of an earlier run go.

    Args:
        subject: What was looked at.
        parts: Its sections, in order.
        folder: Where they go, see `require_place`.
        command: What makes them again.

    Returns:
        The page.

    Raises:
        DataError: If something cannot be written.
    """
    text = _page(subject, parts, command)
    facts = json.dumps(_facts(subject, parts), indent=2, ensure_ascii=False) + "\n"
    with _new_folder(folder / FIGURES) as unfinished:
        for part in parts:
            _write_pictures(part, unfinished / part.name)
        _take_place(unfinished, folder, facts)
    write_text(folder / PAGE, text)
    return folder / PAGE


def _take_place(unfinished: Path, folder: Path, facts: str) -> None:
    """Replaces record and figures of an earlier run, whose page goes first: none is there before all else is."""
    try:
        (folder / PAGE).unlink(missing_ok=True)
        write_text(folder / RECORD, facts)
        shutil.rmtree(folder / FIGURES, ignore_errors=True)
        unfinished.replace(folder / FIGURES)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}); choose another --output") from None


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """Makes an empty folder beside a place that it is to take; it is removed unless it did."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    make_folder(unfinished)
    try:
        yield unfinished
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_pictures(part: Part, folder: Path) -> None:
    pictures = [picture for block in part.section.blocks for picture in block.pictures] if part.section else []
    if pictures:
        make_folder(folder)
    for picture in pictures:
        with replacing(folder / f"{picture.name}.png") as file:
            file.write(picture.png())


def _facts(subject: Subject, parts: Sequence[Part]) -> dict[str, Any]:
    saved = subject.checkpoint
    return {
        "backbone": saved.backbone,
        "task": saved.task,
        "classes": list(saved.class_names),
        "images": len(subject.surveyed),
        "of_images": len(subject.samples),
        "seed": subject.options.seed,
        "sections": {
            part.name: {"seconds": round(part.elapsed_s, 2)}
            | (dict(part.section.facts) if part.section else {"missing": part.missing})
            for part in parts
        },
    }


def _page(subject: Subject, parts: Sequence[Part], command: str) -> str:
    saved = subject.checkpoint
    size = saved.input
    looked_at = f"{len(subject.surveyed)} of {len(subject.samples)}" if subject.samples else "none"
    figures = [
        (f"layers looked at: {', '.join(layer.name for layer in subject.layers)}", str(len(subject.layers))),
        ("units in them", f"{sum(layer.shape[0] for layer in subject.layers):,}"),
        ("images of the run", looked_at),
    ]
    return render(
        "training.look",
        "look.html",
        title=f"What {saved.backbone} sees",
        subtitle=f"{saved.task}: {len(saved.class_names)} outputs, images of {size.height}x{size.width} pixels",
        figures=figures,
        parts=parts,
        command=command,
    )
