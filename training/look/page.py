"""The page of a look into a network, its pictures as files, and its figures as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnn_perception.pages.rendering import render
from training.look.section import Section
from training.look.subject import Subject
from training.run_files import make_folder, replacing, write_text


@dataclass(frozen=True)
class Part:
    """A section that was asked for, and what became of it.

    Attributes:
        name: One of `sections.NAMES`.
        title: Its headline.
        section: What is shown; None where it cannot be made.
        missing: Why not; empty otherwise.
        elapsed_s: Time that it took.
    """

    name: str
    title: str
    section: Section | None
    missing: str
    elapsed_s: float

    @property
    def seconds(self) -> str:
        """The time it took, in words."""
        return f"made in {self.elapsed_s:.0f} s" if self.elapsed_s >= 1 else "made in less than 1 s"


def write(subject: Subject, parts: Sequence[Part], folder: Path, command: str) -> Path:
    """Writes look.html, look.json and figures/SECTION/NAME.png.

    Args:
        subject: What was looked at.
        parts: Its sections, in order.
        folder: Where they go; it is made.
        command: What makes them again.

    Returns:
        The page.

    Raises:
        DataError: If something cannot be written.
    """
    for part in parts:
        pictures = [picture for block in part.section.blocks for picture in block.pictures] if part.section else []
        if pictures:
            make_folder(folder / "figures" / part.name)
        for picture in pictures:
            with replacing(folder / "figures" / part.name / f"{picture.name}.png") as file:
                file.write(picture.png())
    write_text(folder / "look.json", json.dumps(_facts(subject, parts), indent=2, ensure_ascii=False) + "\n")
    page = folder / "look.html"
    write_text(page, _page(subject, parts, command))
    return page


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
