"""A training run as one HTML page: how it went, what it is sure of, where it is wrong, and how to run it again."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from cnn_perception import metrics
from cnn_perception.pages import page
from training.calibration.embeddings import Predictions
from training.calibration.fit import Fitted
from training.checkpoint import write_text
from training.data.records import PARTS, Part
from training.loop.run import Run
from training.report import diagrams, worst_images

_MOST_COUNTED = 40
"""Classes beyond which a list of their images is cut."""


def write(run: Run, report: Mapping[str, Any], seen: Mapping[str, Predictions], fitted: Fitted) -> None:
    """Writes report.html into the run's folder.

    Args:
        run: The run; its network has the weights of best.pt.
        report: What report.json holds.
        seen: What `embeddings.of_run` returned.
        fitted: Temperature and unknown rule.
    """
    part: Part = "test" if "test" in seen else "val"
    title = f"{run.config.backbone} on {run.data.root.name}"
    body = (
        f'<header><div><h1>{escape(title)}</h1><p class="soft">{escape(_subtitle(run))}</p></div></header>',
        page.cards(_cards(report, part, fitted)),
        _curves(run),
        _scores(run, report, seen[part], part),
        _reliability(fitted),
        _unknown(fitted),
        worst_images.section(run, seen["train"], seen[part], part, fitted.calibration),
        _data(run),
        _again(run, report),
    )
    write_text(run.folder / "report.html", page.render(title, body))


def _subtitle(run: Run) -> str:
    counts = ", ".join(f"{len(run.data.part(part))} {part}" for part in PARTS if run.data.part(part))
    return (
        f"{run.config.mode} from {run.weights}, {run.data.task}: {len(run.data.class_names)} outputs, {counts} images"
    )


_CARDS = {
    "top1": "top-1 accuracy", "top5": "top-5 accuracy", "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1", "map": "mean average precision",
}  # fmt: skip


def _cards(report: Mapping[str, Any], part: str, fitted: Fitted) -> list[tuple[str, str]]:
    scores = report[part]
    hidden = {"top5"} if len(scores.get("per_class", ())) <= 5 else set()
    shares = [(text, scores[key]) for key, text in _CARDS.items() if key in scores and key not in hidden]
    cards = [(f"{text}, {part}", page.percent(share)) for text, share in shares]
    cards += [(f"{key.upper()}, {part}", f"{scores[key]:.3g}") for key in ("mae", "rmse", "r2") if key in scores]
    if part in fitted.reliability:
        cards.append((f"calibration error, {part}", page.percent(fitted.reliability[part].after.ece)))
    if (rule := fitted.calibration.unknown) is not None and rule.auroc is not None:
        cards.append(("AUROC, known against outside", f"{rule.auroc:.3f}"))
    return cards


def _curves(run: Run) -> str:
    picture = run.folder / "learning_curves.png"
    if not picture.is_file():
        return ""
    data = base64.b64encode(picture.read_bytes()).decode("ascii")
    image = f'<img alt="learning curves" style="width:100%" src="data:image/png;base64,{data}">'
    return page.section("Learning curves", image)


def _scores(run: Run, report: Mapping[str, Any], seen: Predictions, part: str) -> str:
    names = run.data.class_names
    if run.data.task == "multiclass":
        counts = metrics.confusion_matrix(seen.labels, seen.logits.argmax(axis=1), len(names))
        return page.classes(counts, names, f"{part} images")
    rows = report[part].get("per_class") or report[part]["per_number"]
    columns = list(next(iter(rows.values()), {}))
    head = "".join(f"<th>{escape(column.replace('_', ' '))}</th>" for column in ("", *columns))
    lines = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{_figure(row[column])}</td>' for column in columns)}</tr>"
        for name, row in rows.items()
    )
    table = f'<div class="scroll"><table class="plain"><tr>{head}</tr>{lines}</table></div>'
    return page.section(f"Each output, {part} images", table)


def _figure(value: object) -> str:
    return escape(f"{value:.4g}" if isinstance(value, float) else str(value))


def _reliability(fitted: Fitted) -> str:
    if not fitted.reliability:
        return ""
    drawn = ""
    for part, found in fitted.reliability.items():
        for when, of in (("before", found.before), ("after", found.after)):
            loss = found.loss_before if when == "before" else found.loss
            drawn += diagrams.reliability(of, f"{part}, {when}: ECE {of.ece:.1%}, loss {loss:.3f}")
    note = (
        f"temperature {fitted.calibration.temperature:.3f}, fitted on the validation images, so that their own figure "
        "after it is a little too good; bars: share of right answers, red: mean score, dashed: what both should be"
    )
    grid = f'<div style="display:grid;grid-template-columns:repeat(auto-fit,minmax(290px,1fr));gap:12px">{drawn}</div>'
    return page.section("Do the scores mean what they say?", f'<p class="soft small">{note}</p>{grid}')


def _unknown(fitted: Fitted) -> str:
    rule = fitted.calibration.unknown
    if rule is None:
        return ""
    below = {kind: float((values < rule.threshold).mean()) for kind, values in fitted.unknown_scores.items()}
    called = ", ".join(f"{page.percent(share)} of {kind}" for kind, share in below.items())
    figures = ", ".join(f"{method} {value:.3f}" for method, value in fitted.auroc.items())
    against = f"; AUROC against {rule.outside_images} images of something else: {figures}" if figures else ""
    note = f"rule: {rule.method}; called unknown: {called}{against}"
    drawn = diagrams.histogram(fitted.unknown_scores, rule.threshold, f"{rule.method} score, share of the images")
    return page.section("Images of none of the classes", f'<p class="soft small">{note}</p>{drawn}')


def _data(run: Run) -> str:
    data = run.data
    rows = [("source", str(data.root)), ("SHA-256 of names, labels and contents", data.sha256)]
    rows += [(f"{part} images", _counts(run, part)) for part in PARTS if data.part(part)]
    rows += [(f"ignored: {reason}", str(count)) for reason, count in sorted(data.ignored.items()) if count]
    if data.rejected:
        rows.append(("left out, cannot be decoded", f"{len(data.rejected)}, see findings.csv"))
    rows += [("warning", line) for line in data.warnings]
    return page.section("Data", page.card_table(rows))


def _counts(run: Run, part: Part) -> str:
    samples, names = run.data.part(part), run.data.class_names
    if run.data.task == "regression":
        return str(len(samples))
    if run.data.task == "multilabel":
        counts = np.sum([sample.values for sample in samples], axis=0)
    else:
        counts = np.bincount([sample.label for sample in samples], minlength=len(names))
    each = ", ".join(f"{name} {int(count)}" for name, count in list(zip(names, counts, strict=True))[:_MOST_COUNTED])
    return f"{len(samples)}: {each}{', ...' if len(names) > _MOST_COUNTED else ''}"


def _again(run: Run, report: Mapping[str, Any]) -> str:
    rows = [(name, value) for name, value in report["versions"].items() if value]
    rows += [("weights", run.weights), ("seed", str(run.config.seed)), ("device", str(run.device))]
    rows += [(f"seconds of {name}", f"{value:.1f}") for name, value in report["seconds"].items()]
    command = f"<p><code>{escape(report['command'])}</code></p>"
    note = '<p class="soft small">run it where this run was started; config.json holds every setting</p>'
    return page.section("Run it again", command + note + page.card_table(rows))
