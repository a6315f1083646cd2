"""The evaluation as one HTML page that needs no other file, no script and no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import PurePath

from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.page_sections import cards, figures, order_of_worst, over_time
from cnn_perception.evaluation.report_record import Report, WorstFrame
from cnn_perception.image.messages import RgbImage
from cnn_perception.label_text import shown
from cnn_perception.model.spec import UNKNOWN
from cnn_perception.pages import page
from cnn_perception.tasks.registry import task_of


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
    timeline = over_time(report, records) if report.topic else ""
    title = f"{report.model.spec.architecture} on {source}"
    body = (
        _header(report, title),
        _cards(report),
        _remarks(report),
        page.section("Over time", timeline) if timeline else "",
        figures(report, records) if report.scores.frames.scored else "",
        _pictures(report, pictures),
        page.section("Overlay video", _video(video)) if video else "",
        f'<div class="columns">{_latency(report) if report.latency else ""}{_frames(report)}</div>',
        _model_card(report),
    )
    return page.render(title, body)


def _header(report: Report, title: str) -> str:
    kind, verdict = "", "no target set"
    if report.target is not None:
        kind = "good" if report.passed else "bad"
        verdict = f"{'Passed' if report.passed else 'Missed'}: {escape(str(report.target))}"
    if not report.complete:
        kind, verdict = "bad", f"Incomplete; {verdict}"
    labels = f" &middot; labels <code>{escape(report.labels)}</code>" if report.labels else ""
    topic = f" &middot; topic <code>{escape(report.topic)}</code>" if report.topic else ""
    where = f'<p class="soft"><code>{escape(report.source)}</code>{topic}{labels}</p>'
    return f'<header><div><h1>{escape(title)}</h1>{where}</div><div class="verdict {kind}">{verdict}</div></header>'


def _cards(report: Report) -> str:
    inference, scored = report.latency.get("inference"), report.scores.frames
    texts = cards(report)
    texts.append((f"frames scored of {scored.total}", str(scored.scored)))
    texts.append(("frames per second, all included", f"{report.frames_per_second:.1f}"))
    if inference is not None:
        texts.append(("inference, median", f"{inference.p50_ms:.1f} ms"))
    return page.cards(texts)


def _remarks(report: Report) -> str:
    if not report.remarks:
        return ""
    items = "".join(f"<li>{escape(remark)}</li>" for remark in report.remarks)
    return f'<section class="remarks"><h2>What is missing</h2><ul>{items}</ul></section>'


def _pictures(report: Report, pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    drawn = "".join(_figure(picture, bool(report.topic)) for picture in pictures)
    order = f'<p class="soft small">{order_of_worst(report.model.spec)}</p>'
    return page.section("Worst frames", f'{order}<div class="frames">{drawn}</div>')


def _figure(picture: Picture, is_bag: bool) -> str:
    frame = picture.frame
    place = f"frame {frame.index}, {frame.time_s:.2f} s" if is_bag else frame.name
    answer = escape(shown(frame.predicted))
    if frame.score is not None and frame.margin is not None:
        answer += f" {page.percent(frame.score)}" if frame.predicted != UNKNOWN else ""
        place += f", margin {frame.margin:.2f}"
    elif frame.deviation is not None:
        place += f", off by {frame.deviation:.3g}"
    if frame.truth is None:
        text = f"<b>{answer}</b>, unlabelled"
    elif frame.is_right:
        text = f'<b class="right">{answer}</b>, right'
    else:
        kind = "" if frame.is_right is None else ' class="wrong"'
        text = f"<b{kind}>{answer}</b>, is {escape(shown(frame.truth))}"
    caption = f'{text}<br><span class="soft">{escape(place)}</span>'
    image = page.picture(picture.image, f"{place}: {frame.predicted}")
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _video(name: str) -> str:
    link = f'<p class="soft small"><a href="{escape(name)}">{escape(name)}</a>, beside this page</p>'
    return f'<video controls muted src="{escape(name)}"></video>{link}' if name.endswith(".webm") else link


def _latency(report: Report) -> str:
    largest = max((row.p50_ms for row in report.latency.values()), default=0.0) or 1.0
    rows = "".join(
        f"<tr><td>{escape(stage)}</td><td>{page.bar(row.p50_ms / largest, f'{row.p50_ms:.2f}')}</td>"
        f"<td>{row.p90_ms:.2f}</td><td>{row.p99_ms:.2f}</td><td>{row.mean_ms:.2f}</td></tr>"
        for stage, row in report.latency.items()
    )
    head = "<tr><th>stage</th><th>p50</th><th>p90</th><th>p99</th><th>mean</th></tr>"
    note = '<p class="soft small">milliseconds, one frame at a time as on the robot, over the first frames</p>'
    return page.section("Latency", f'{note}<table class="plain">{head}{rows}</table>')


def _frames(report: Report) -> str:
    scores = report.scores
    rows = [("scored", scores.frames.scored), ("unlabelled, not scored", scores.frames.unlabelled)]
    rows += [(f"bad: {reason}", count) for reason, count in scores.frames.bad.items()]
    lines = "".join(
        f"<tr><td>{escape(name)}</td><td>{count}</td></tr>" for name, count in [*rows, ("all", scores.frames.total)]
    )
    return page.section("Frames", f'<table class="plain">{lines}</table>')


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
    agreement = f"agreement {page.percent(parity.top1_agreement)} on {parity.images} {parity.source} images"
    cost = spec.precision
    precision: str = cost.precision
    if cost.metric:
        precision += f": {cost.metric} {cost.before:.4g} before, {cost.after:.4g} after, on {cost.images} images"
    rule = "none"
    if spec.unknown is not None:
        rule = f"{spec.unknown.method} below {spec.unknown.threshold:.4g}"
        rule += f", for {page.percent(spec.unknown.false_alarm_rate)} of the known validation images"
    rows = [
        ("file", model.path),
        ("SHA-256", model.sha256),
        ("architecture", spec.architecture),
        ("execution provider", model.provider + (f" ({model.fallback})" if model.fallback else "")),
        ("task", spec.task),
        (f"{len(spec.class_names)} {'classes' if task_of(spec.task).has_classes else 'numbers'}", classes),
        ("input", f"{size.width} x {size.height}, {size.resize_mode}, {size.interpolation}{fraction}"),
        ("mean; standard deviation", f"{_numbers(size.mean)}; {_numbers(size.std)}"),
        ("activation map", activation),
        ("temperature", f"{spec.temperature:g}"),
        ("unknown rule", rule),
        ("training", trained),
        ("validation at export", f"{metrics} on {training.val_images} images"),
        ("parity with torch", f"{difference}, {agreement}"),
        ("precision", precision),
        ("exported", f"{training.created} by version {training.code_version}"),
    ]
    return page.section("Model", page.card_table(rows))


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
