"""What the HTML reports have in common: one page without script or network, its sections, tables and pictures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np

from cnn_perception import metrics
from cnn_perception.image.messages import RgbImage

MOST_CLASSES = 24
"""More rows and columns than this cannot be read in a confusion matrix."""
FEW_CLASSES = 6
"""Up to as many have room beside the per-class table."""
_JPEG_QUALITY = 82

STYLE = """
:root { --ink: #16202e; --soft: #5c6b7f; --line: #e3e8ef; --good: #12805c; --bad: #c8322b; --accent: #2b6cb0; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f9; color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 36px 24px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -.01em; }
h2 { font-size: 18px; margin: 0 0 14px; }
p { margin: 0 0 8px; } .soft { color: var(--soft); } .small { font-size: 13px; }
code { font: 13px ui-monospace, Consolas, monospace; overflow-wrap: anywhere; }
header { display: flex; gap: 24px; justify-content: space-between; align-items: flex-start; margin-bottom: 24px; }
.verdict { flex: none; padding: 10px 20px; border-radius: 999px; color: #fff; font-weight: 700; background: #64748b; }
.verdict.good { background: var(--good); } .verdict.bad { background: var(--bad); }
section { background: #fff; border: 1px solid var(--line); border-radius: 14px; padding: 22px 24px; }
section { margin-bottom: 20px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 14px; margin-bottom: 20px; }
.card { background: #fff; border: 1px solid var(--line); border-radius: 14px; padding: 16px 18px; }
.card b { display: block; font-size: 27px; line-height: 1.25; letter-spacing: -.02em; white-space: nowrap; }
.card span { color: var(--soft); font-size: 13px; }
.remarks { border-color: #f0b4b0; background: #fff5f4; } .remarks ul { margin: 0; padding-left: 20px; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(380px, 1fr)); gap: 20px; }
.columns.classes { grid-template-columns: auto minmax(480px, 1fr); }
.classes p { max-width: 270px; } .classes .bar { width: 60px; }
.columns section { margin: 0; } .columns { margin-bottom: 20px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
table.plain { width: 100%; }
.plain th, .plain td { padding: 6px 10px; text-align: right; white-space: nowrap; }
.plain th, .plain td { border-bottom: 1px solid var(--line); }
.plain th { color: var(--soft); font-weight: 600; font-size: 13px; }
.plain th:first-child, .plain td:first-child { text-align: left; padding-left: 0; }
.plain tr:last-child td { border-bottom: 0; }
.card-table td { text-align: left; white-space: normal; }
.card-table td:first-child { color: var(--soft); width: 220px; }
.confusion td { min-width: 40px; height: 36px; padding: 0 6px; text-align: center; }
.confusion td { border: 2px solid #fff; border-radius: 7px; }
.confusion th { font-size: 13px; font-weight: 500; padding: 4px 8px; }
.confusion td.zero { color: #b8c2cf; background: #f6f8fa; }
.confusion th.row { text-align: right; } .confusion th.column { vertical-align: bottom; }
.many th.column span { writing-mode: vertical-rl; transform: rotate(180deg); }
.bar { display: inline-block; width: 84px; height: 8px; margin-right: 9px; border-radius: 4px; background: #e8edf3; }
.bar i { display: block; height: 100%; border-radius: 4px; background: var(--accent); }
.number { display: inline-block; min-width: 56px; }
.chip { display: inline-flex; align-items: center; gap: 6px; margin: 0 14px 4px 0; font-size: 13px; }
.chip i { width: 12px; height: 12px; border-radius: 3px; }
.frames { display: grid; grid-template-columns: repeat(auto-fill, minmax(310px, 1fr)); gap: 18px; }
figure { margin: 0; } figure img { width: 100%; display: block; border-radius: 10px; }
figcaption { font-size: 13px; padding-top: 6px; }
b.wrong { color: var(--bad); } b.right { color: var(--good); }
video { width: 100%; max-width: 640px; border-radius: 10px; background: #000; display: block; }
@media print { body { background: #fff; } section, .card { break-inside: avoid; } }
"""


def render(title: str, parts: Sequence[str]) -> str:
    """Returns the text of a page; empty parts are left out."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main></body></html>\n"
    )


def section(title: str, content: str) -> str:
    """Returns a box with a heading; the content is HTML."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def cards(texts: Sequence[tuple[str, str]]) -> str:
    """Returns a row of (name, figure); the figure is HTML."""
    drawn = (f'<div class="card"><b>{value}</b><span>{escape(name)}</span></div>' for name, value in texts)
    return f'<div class="cards">{"".join(drawn)}</div>'


def card_table(rows: Sequence[tuple[str, str]]) -> str:
    """Returns a table of (name, plain text)."""
    lines = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<table class="plain card-table">{lines}</table>'


def bar(share: float | None, text: str) -> str:
    """Returns a bar of a share in [0, 1], with a text beside it."""
    width = min(max(share or 0.0, 0.0), 1.0)
    return f'<span class="bar"><i style="width:{width:.1%}"></i></span><span class="number">{text}</span>'


def percent(share: float | None) -> str:
    """Returns a share as a percentage; a dash for None."""
    return "&ndash;" if share is None else f"{share:.1%}"


def picture(image: RgbImage, alt: str) -> str:
    """Returns an (H, W, 3) uint8 image as an element that needs no file."""
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    data = base64.b64encode(jpeg.tobytes()).decode("ascii")
    return f'<img alt="{escape(alt)}" src="data:image/jpeg;base64,{data}">'


def classes(confusion: metrics.Counts, names: Sequence[str], unit: str) -> str:
    """Returns the confusion matrix and the table of the classes, of K classes with (K, K) counts.

    Args:
        confusion: Rows are the truth, columns the prediction.
        names: Of the classes.
        unit: What was counted, such as `frames`.
    """
    shown = _shown(confusion)
    both = _confusion(confusion, names, shown) + _per_class(confusion, names, shown, unit)
    return f'<div class="columns classes">{both}</div>' if len(shown) <= FEW_CLASSES else both


def _confusion(confusion: metrics.Counts, names: Sequence[str], shown: Sequence[int]) -> str:
    support = confusion.sum(axis=1)
    head = "".join(f'<th class="column"><span>{escape(names[k])}</span></th>' for k in shown)
    rows = []
    for i in (k for k in shown if support[k]):
        cells = "".join(_cell(int(confusion[i, j]), int(support[i]), i == j) for j in shown)
        rows.append(f'<tr><th class="row">{escape(names[i])}</th>{cells}</tr>')
    kind = "confusion many" if len(shown) > FEW_CLASSES else "confusion"
    table = f'<div class="scroll"><table class="{kind}"><tr><th></th>{head}</tr>{"".join(rows)}</table></div>'
    absent = len(names) - len(shown)
    note = f"; {absent} classes that do not occur or have the fewest mistakes are left out" if absent else ""
    return section("Confusion", f'<p class="soft small">rows: truth, columns: prediction{note}</p>{table}')


def _cell(count: int, support: int, is_right: bool) -> str:
    if not count:
        return '<td class="zero">&middot;</td>'
    strength = 0.12 + 0.88 * count / support
    colour, ink = "18,128,92" if is_right else "200,50,43", "#fff" if strength > 0.6 else "#16202e"
    return f'<td style="background:rgba({colour},{strength:.3f});color:{ink}">{count}</td>'


def _per_class(confusion: metrics.Counts, names: Sequence[str], shown: Sequence[int], unit: str) -> str:
    rows, scores, predicted = [], metrics.per_class(confusion), confusion.sum(axis=0)
    for k in shown:
        row = scores[k]
        values = (row.precision if predicted[k] else None, row.recall if row.support else None, row.f1)
        bars = "".join(f"<td>{bar(value, percent(value))}</td>" for value in values)
        rows.append(f"<tr><td>{escape(names[k])}</td><td>{row.support}</td>{bars}</tr>")
    head = f"<tr><th>class</th><th>{escape(unit)}</th><th>precision</th><th>recall</th><th>F1</th></tr>"
    return section("Per class", f'<div class="scroll"><table class="plain">{head}{"".join(rows)}</table></div>')


def _shown(confusion: metrics.Counts) -> list[int]:
    """Returns the classes that occur or were predicted; of too many, those with the most mistakes."""
    marginals = confusion.sum(axis=0) + confusion.sum(axis=1)
    seen = [int(k) for k in np.flatnonzero(marginals)]
    if len(seen) <= MOST_CLASSES:
        return seen
    mistakes = marginals - 2 * np.diag(confusion)
    return sorted(sorted(seen, key=lambda k: -int(mistakes[k]))[:MOST_CLASSES])
