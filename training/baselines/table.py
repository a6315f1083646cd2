"""The table of the baselines, for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.text_table import text_table

NOTES = (
    "95 %: intervals, of shares of the images Wilson's, else by bootstrap",
    "chosen: by cross-validation on the training images; ms an image: from the resized image to the answer",
)
"""What is to be said of every table."""


def cells(figures: Sequence[Mapping[str, Any]], metric: str, title: str) -> list[list[str]]:
    """Returns the cells of the table, the heading first.

    Args:
        figures: What `Row.figures` returned of each row.
        metric: Of the task.
        title: Above the names.
    """
    heading = [title, metric, "95 %", "chosen", "images", "fit, s", "ms an image", "stored, kB"]
    return [heading, *(_row(one, metric) for one in figures)]


def text(figures: Sequence[Mapping[str, Any]], metric: str, title: str) -> list[str]:
    """Returns the lines of the table for a terminal; see `cells`."""
    return text_table(cells(figures, metric, title))


def _row(one: Mapping[str, Any], metric: str) -> list[str]:
    low, high = one["interval"]
    return [
        one["name"],
        f"{one[metric]:.3f}",
        f"{low:.3f} to {high:.3f}",
        one["chosen"],
        _or_nothing(one["training_images"], "d"),
        _or_nothing(one["fit_s"], ".1f"),
        f"{one['ms_per_image']:.2f}",
        f"{one['size_bytes'] / 1000:,.0f}" if one["size_bytes"] >= 1000 else f"{one['size_bytes'] / 1000:.1f}",
    ]


def _or_nothing(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
