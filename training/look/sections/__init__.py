"""The sections of the page, a file each: `look(subject)` computes one and returns what is shown of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from training.look.section import Section
from training.look.subject import Subject

TITLES = {
    "filters": "First layer",
    "layers": "Every layer",
    "patches": "What excites a unit",
    "visualisation": "What a unit looks for",
    "occlusion": "What an answer rests on",
    "concepts": "What makes a class",
    "dissection": "Units and labelled concepts",
    "neighbours": "What looks alike",
    "trust": "Can the map be trusted?",
}
"""Headlines, in the order of the page."""
NAMES = tuple(TITLES)


def section(name: str) -> Callable[[Subject], Section]:
    """Returns the function that computes a section, by one of `NAMES`; only then its libraries are imported."""
    module = importlib.import_module(f"{__name__}.{name}")
    return cast("Callable[[Subject], Section]", module.look)
