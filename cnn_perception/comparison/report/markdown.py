"""A comparison as a summary for a pull request, in GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from cnn_perception.comparison.comparison import Measure, Slice
from cnn_perception.comparison.report import words
from cnn_perception.comparison.report.record import ComparisonReport
from cnn_perception.errors import printable
from cnn_perception.files import as_utf8

_MOST_SLICES = 15
_MOST_MEASURES = 10
_MOST_REMARKS = 8
_LONGEST = 200


def summary(report: ComparisonReport) -> str:
    """Returns the text of comparison.md, of less than 60 lines."""
    found = report.comparison
    mark = "passed" if report.is_passed else "**failed**"
    mark += ", but **not everything could be evaluated**" if report.missing else ""
    lines = [
        f"## {_text(words.heading(found))}",
        "",
        f"{_text(report.ours.path)} against {_text(report.theirs.path)} on {_text(report.source)}: {mark}.",
        "",
        *_table(("", "baseline", "now", "gain (95 %)"), _measures((found.headline, *found.measures[:_MOST_MEASURES]))),
        *_more(len(found.measures) - _MOST_MEASURES, "further figures"),
        "",
        f"{words.counted(len(found.lost), found, 'lost')}, {words.counted(len(found.gained), found, 'gained')}. "
        f"The smallest loss that could have been shown: {_text(words.detectable(found))}.",
        "",
    ]
    if found.slices:
        rows = _slices(found.slices[:_MOST_SLICES])
        lines += _table(("part", "frames", "baseline", "now", "gain (95 %)", "proven"), rows)
        lines += [*_more(len(found.slices) - _MOST_SLICES, "further parts"), ""]
    lines += [f"* {_text(remark)}" for remark in report.remarks[:_MOST_REMARKS]]
    lines += _more(len(report.remarks) - _MOST_REMARKS, "further remarks")
    return "\n".join(lines).rstrip() + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _measures(measures: Iterable[Measure]) -> list[list[str]]:
    return [[_text(one.name), *_figures(one)] for one in measures]


def _slices(slices: Iterable[Slice]) -> list[list[str]]:
    rows = []
    for one in slices:
        change = "" if one.change == "not shown" else one.change
        frames = str(one.measure.difference.frames)
        rows.append([_text(f"{one.kind}: {one.name}"), frames, *_figures(one.measure), change])
    return rows


def _figures(measure: Measure) -> list[str]:
    figures = (words.figure(measure, measure.theirs), words.figure(measure, measure.ours), words.gain(measure))
    return [_text(figure) for figure in figures]


def _more(count: int, what: str) -> list[str]:
    return [f"\n{count} {what} are in comparison.json."] if count > 0 else []


def _text(text: str) -> str:
    """Returns a text in which nothing is Markdown or HTML, on one line that is not too long."""
    line = printable(as_utf8(text).decode())
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
    escaped = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~@])", r"\\\1", escaped)
