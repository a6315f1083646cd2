"""The evaluation as one HTML page that needs no other file, no script and no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import PurePath

import cv2

from cnn_perception.image import RgbImage
from cnn_perception.results import FrameRecord, Report, WorstFrame
from cnn_perception.timeline import render_timeline

_MOST_CLASSES = 24
"""More rows and columns than this cannot be read in a confusion matrix."""
_FEW_CLASSES = 6
"""Up to as many have room beside the per-class table."""
_JPEG_QUALITY = 82

_STYLE = """
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


@dataclass(frozen=True, eq=False)
class Picture:
    """A frame for a human's attention, with its overlay: (H, W, 3) uint8."""

    frame: WorstFrame
    image: RgbImage


def render_html(report: Report, records: Sequence[FrameRecord], pictures: Sequence[Picture], video: str = "") -> str:
    """Writes the page.

    Args:
        report: The figures.
        records: All frames, in order; used for the timeline.
        pictures: The worst frames, the worst first.
        video: Name of the overlay video beside the page; empty without one.

    Returns:
        The text of `report.html`.
    """
    source = PurePath(report.source).name
    timeline = render_timeline(records, report.model.spec.class_names) if report.topic else ""
    title = f"{report.model.spec.architecture} on {source}"
    body = (
        _header(report, title),
        _cards(report),
        _remarks(report),
        _section("Over time", timeline) if timeline else "",
        _classes(report) if report.scores.frames.scored else "",
        _pictures(report, pictures),
        _section("Overlay video", _video(video)) if video else "",
        f'<div class="columns">{_latency(report) if report.latency else ""}{_frames(report)}</div>',
        _model_card(report),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body><main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main></body></html>\n"
    )


def _header(report: Report, title: str) -> str:
    kind, verdict = "", "no target set"
    if report.passed is not None and report.min_accuracy is not None:
        kind = "good" if report.passed else "bad"
        verdict = f"{'Passed' if report.passed else 'Missed'}: top-1 of at least {_percent(report.min_accuracy)}"
    if not report.complete:
        kind, verdict = "bad", f"Incomplete; {verdict}"
    labels = f" &middot; labels <code>{escape(report.labels)}</code>" if report.labels else ""
    topic = f" &middot; topic <code>{escape(report.topic)}</code>" if report.topic else ""
    where = f'<p class="soft"><code>{escape(report.source)}</code>{topic}{labels}</p>'
    return f'<header><div><h1>{escape(title)}</h1>{where}</div><div class="verdict {kind}">{verdict}</div></header>'


def _cards(report: Report) -> str:
    scores, inference = report.scores, report.latency.get("inference")
    cards = [
        ("top-1 accuracy", scores.top1),
        ("balanced accuracy", scores.balanced_accuracy),
        ("macro F1", scores.macro_f1),
    ]
    if len(report.model.spec.class_names) > 5:
        cards.insert(1, ("top-5 accuracy", scores.top5))
    texts = [(name, _percent(value)) for name, value in cards if value is not None]
    if report.threshold > 0.0 and scores.coverage is not None and scores.top1_above_threshold is not None:
        texts.append((f"of frames score {report.threshold:g} or more", _percent(scores.coverage)))
        texts.append((f"top-1 at score {report.threshold:g} or more", _percent(scores.top1_above_threshold)))
    texts.append((f"frames scored of {scores.frames.total}", str(scores.frames.scored)))
    texts.append(("frames per second, all included", f"{report.frames_per_second:.1f}"))
    if inference is not None:
        texts.append(("inference, median", f"{inference.p50_ms:.1f} ms"))
    drawn = (f'<div class="card"><b>{value}</b><span>{escape(name)}</span></div>' for name, value in texts)
    return f'<div class="cards">{"".join(drawn)}</div>'


def _remarks(report: Report) -> str:
    if not report.remarks:
        return ""
    items = "".join(f"<li>{escape(remark)}</li>" for remark in report.remarks)
    return f'<section class="remarks"><h2>What is missing</h2><ul>{items}</ul></section>'


def _classes(report: Report) -> str:
    both = _confusion(report) + _per_class(report)
    return f'<div class="columns classes">{both}</div>' if len(_shown_classes(report)) <= _FEW_CLASSES else both


def _confusion(report: Report) -> str:
    shown, names, confusion = _shown_classes(report), report.model.spec.class_names, report.scores.confusion
    head = "".join(f'<th class="column"><span>{escape(names[k])}</span></th>' for k in shown)
    rows = []
    for i in (k for k in shown if report.scores.classes[k].support):
        cells = "".join(_cell(confusion[i][j], report.scores.classes[i].support, i == j) for j in shown)
        rows.append(f'<tr><th class="row">{escape(names[i])}</th>{cells}</tr>')
    kind = "confusion many" if len(shown) > _FEW_CLASSES else "confusion"
    table = f'<div class="scroll"><table class="{kind}"><tr><th></th>{head}</tr>{"".join(rows)}</table></div>'
    absent = len(names) - len(shown)
    note = f"; {absent} classes that do not occur or have the fewest mistakes are left out" if absent else ""
    return _section("Confusion", f'<p class="soft small">rows: truth, columns: prediction{note}</p>{table}')


def _cell(count: int, support: int, is_right: bool) -> str:
    if not count:
        return '<td class="zero">&middot;</td>'
    strength = 0.12 + 0.88 * count / support
    colour, ink = "18,128,92" if is_right else "200,50,43", "#fff" if strength > 0.6 else "#16202e"
    return f'<td style="background:rgba({colour},{strength:.3f});color:{ink}">{count}</td>'


def _per_class(report: Report) -> str:
    rows = []
    for k in _shown_classes(report):
        row = report.scores.classes[k]
        was_predicted = any(counts[k] for counts in report.scores.confusion)
        values = (row.precision if was_predicted else None, row.recall if row.support else None, row.f1)
        bars = "".join(f"<td>{_bar(value, _percent(value))}</td>" for value in values)
        rows.append(f"<tr><td>{escape(row.name)}</td><td>{row.support}</td>{bars}</tr>")
    head = "<tr><th>class</th><th>frames</th><th>precision</th><th>recall</th><th>F1</th></tr>"
    return _section("Per class", f'<div class="scroll"><table class="plain">{head}{"".join(rows)}</table></div>')


def _pictures(report: Report, pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    figures = "".join(_figure(picture, bool(report.topic)) for picture in pictures)
    order = "mistakes first, the most confident one at the top; then the closest calls"
    return _section("Worst frames", f'<p class="soft small">{order}</p><div class="frames">{figures}</div>')


def _figure(picture: Picture, is_bag: bool) -> str:
    frame = picture.frame
    _, jpeg = cv2.imencode(
        ".jpg", cv2.cvtColor(picture.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    data = base64.b64encode(jpeg.tobytes()).decode("ascii")
    place = f"frame {frame.index}, {frame.time_s:.2f} s" if is_bag else frame.name
    answer = f"{escape(frame.predicted)} {_percent(frame.score)}"
    if frame.truth is None:
        text = f"<b>{answer}</b>, unlabelled"
    elif frame.truth == frame.predicted:
        text = f'<b class="right">{answer}</b>, right'
    else:
        text = f'<b class="wrong">{answer}</b>, is {escape(frame.truth)}'
    caption = f'{text}<br><span class="soft">{escape(place)}, margin {frame.margin:.2f}</span>'
    alt = escape(f"{place}: {frame.predicted}")
    return f'<figure><img alt="{alt}" src="data:image/jpeg;base64,{data}"><figcaption>{caption}</figcaption></figure>'


def _video(name: str) -> str:
    link = f'<p class="soft small"><a href="{escape(name)}">{escape(name)}</a>, beside this page</p>'
    return f'<video controls muted src="{escape(name)}"></video>{link}' if name.endswith(".webm") else link


def _latency(report: Report) -> str:
    largest = max((row.p50_ms for row in report.latency.values()), default=0.0) or 1.0
    rows = "".join(
        f"<tr><td>{escape(stage)}</td><td>{_bar(row.p50_ms / largest, f'{row.p50_ms:.2f}')}</td>"
        f"<td>{row.p90_ms:.2f}</td><td>{row.p99_ms:.2f}</td><td>{row.mean_ms:.2f}</td></tr>"
        for stage, row in report.latency.items()
    )
    head = "<tr><th>stage</th><th>p50</th><th>p90</th><th>p99</th><th>mean</th></tr>"
    note = '<p class="soft small">milliseconds, one frame at a time as on the robot, over the first frames</p>'
    return _section("Latency", f'{note}<table class="plain">{head}{rows}</table>')


def _frames(report: Report) -> str:
    scores = report.scores
    rows = [("scored", scores.frames.scored), ("unlabelled, not scored", scores.frames.unlabelled)]
    rows += [(f"bad: {reason}", count) for reason, count in scores.frames.bad.items()]
    lines = "".join(
        f"<tr><td>{escape(name)}</td><td>{count}</td></tr>" for name, count in [*rows, ("all", scores.frames.total)]
    )
    return _section("Frames", f'<table class="plain">{lines}</table>')


def _model_card(report: Report) -> str:
    model, spec = report.model, report.model.spec
    size, training, parity = spec.input, spec.training, spec.parity
    activation = "none"
    if spec.activation is not None:
        activation = f"{spec.activation.method}, {spec.activation.rows} x {spec.activation.columns} cells"
    fraction = f", keeps {size.crop_fraction:g} of the shorter side" if size.resize_mode == "crop" else ""
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in training.metrics.items()) or "none"
    classes = ", ".join(spec.class_names[:40]) + (", ..." if len(spec.class_names) > 40 else "")
    trained = f"{training.mode} from {training.weights}, {training.train_images} images of {training.data or 'no data'}"
    difference = f"largest logit difference {parity.max_logit_difference:.2g} (allowed {parity.tolerance:g})"
    agreement = f"top-1 agreement {_percent(parity.top1_agreement)} on {parity.images} {parity.source} images"
    rows = [
        ("file", model.path),
        ("SHA-256", model.sha256),
        ("architecture", spec.architecture),
        ("execution provider", model.provider + (f" ({model.fallback})" if model.fallback else "")),
        (f"{len(spec.class_names)} classes", classes),
        ("input", f"{size.width} x {size.height}, {size.resize_mode}, {size.interpolation}{fraction}"),
        ("mean; standard deviation", f"{_numbers(size.mean)}; {_numbers(size.std)}"),
        ("activation map", activation),
        ("temperature", f"{spec.temperature:g}"),
        ("training", trained),
        ("validation at export", f"{metrics} on {training.val_images} images"),
        ("parity with torch", f"{difference}, {agreement}"),
        ("exported", f"{training.created} by version {training.code_version}"),
    ]
    lines = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return _section("Model", f'<table class="plain card-table">{lines}</table>')


def _shown_classes(report: Report) -> list[int]:
    """Returns the classes that occur or were predicted; of too many, those with the most mistakes."""
    confusion = report.scores.confusion
    everyone = range(len(confusion))
    columns = [sum(row[k] for row in confusion) for k in everyone]
    seen = [k for k in everyone if sum(confusion[k]) + columns[k] > 0]
    if len(seen) <= _MOST_CLASSES:
        return seen
    mistakes = {k: sum(confusion[k]) + columns[k] - 2 * confusion[k][k] for k in seen}
    return sorted(sorted(seen, key=lambda k: -mistakes[k])[:_MOST_CLASSES])


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _bar(share: float | None, text: str) -> str:
    width = min(max(share or 0.0, 0.0), 1.0)
    return f'<span class="bar"><i style="width:{width:.1%}"></i></span><span class="number">{text}</span>'


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _percent(share: float | None) -> str:
    return "&ndash;" if share is None else f"{share:.1%}"
