"""The sections of the page, a file each: `look(subject)` computes one and returns what is shown of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from training.look.section import Section
from training.look.subject import Subject

NAMES = (
    "filters", "layers", "patches", "visualisation", "occlusion", "concepts", "dissection", "neighbours", "trust",
)  # fmt: skip
"""In the order of the page."""


def section(name: str) -> Callable[[Subject], Section]:
    """Returns the function that computes a section, by one of `NAMES`; only then its libraries are imported."""
    module = importlib.import_module(f"{__name__}.{name}")
    return cast("Callable[[Subject], Section]", module.look)
