"""Names of the package by their dotted path."""

from __future__ import annotations

import importlib
from typing import Any


def named(path: str) -> Any:  # noqa: ANN401 whatever it is
    """Returns what a dotted path names.

    Raises:
        ValueError: If there is no such thing.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error
