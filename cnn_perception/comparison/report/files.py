"""The files that a comparison leaves, by name."""

from __future__ import annotations

from collections.abc import Callable

from cnn_perception.comparison.report.junit import junit_xml
from cnn_perception.comparison.report.markdown import summary
from cnn_perception.comparison.report.page import page
from cnn_perception.comparison.report.record import ComparisonReport, record_json

PAGE = "comparison.html"
JUNIT = "comparison.xml"
_TEXTS: dict[str, Callable[[ComparisonReport], str]] = {
    "comparison.json": record_json,
    PAGE: page,
    "comparison.md": summary,
    JUNIT: junit_xml,
}
NAMES = tuple(_TEXTS)


def texts_of(report: ComparisonReport) -> dict[str, str]:
    """Returns the text of each file."""
    return {name: text(report) for name, text in _TEXTS.items()}
