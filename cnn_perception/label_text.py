"""Labels as text: what a label file and a report write for a frame's class, classes or numbers."""

from __future__ import annotations

UNLABELLED = "none"
"""Marks a stretch that is not scored, unless the model has a class of this name."""


NONE_OF_THESE = "none of these"
"""A label that a person gave: the image shows no class of the model, so that `unknown` is the right answer."""


SEPARATOR = ";"
"""Stands between the classes of one label, for a multilabel model; `|` is read too, as in training's CSV files."""


Truth = str | frozenset[str] | tuple[float, ...]
"""What is known of a frame: its class (multiclass), its classes (multilabel) or its numbers (regression)."""


def shown(text: str) -> str:
    """Returns what `text_of` returned as a human would write it."""
    return "nothing" if text == SEPARATOR else text.replace(SEPARATOR, ", ")


def text_of(truth: Truth | None) -> str:
    """Returns a truth as it is written in label files: empty for None, only `SEPARATOR` for none of the classes."""
    if truth is None or isinstance(truth, str):
        return truth or ""
    if isinstance(truth, frozenset):
        return SEPARATOR.join(sorted(truth)) or SEPARATOR
    return SEPARATOR.join(f"{value:.4g}" for value in truth)
