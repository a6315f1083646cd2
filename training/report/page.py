"""A training run as one HTML page: how it went, what it is sure of, where it is wrong, and how to run it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnn_perception import metrics
from cnn_perception.model.spec import Task, UnknownRule
from cnn_perception.pages import data_url
from cnn_perception.pages.class_tables import ClassTables, class_tables
from cnn_perception.pages.rendering import percent, render
from cnn_perception.tasks.multiclass import MOST_WITHOUT_TOP5
from training.baselines import table
from training.calibration.embeddings import Predictions
from training.calibration.fit import Fitted
from training.data.records import PARTS, Part
from training.loop.run import Run
from training.report import diagrams, worst_images
from training.report.output_table import OutputTable
from training.report.preview import preview
from training.run_files import write_text
from training.tasks.by_name import task_of
from training.tasks.multiclass import confusion

_MOST_COUNTED = 40
"""Classes beyond which a list of their images is cut."""


@dataclass(frozen=True)
class _UnknownRule:
    """What the unknown rule makes of images of the classes and of others, in words and as a diagram."""

    note: str
    histogram: diagrams.Histogram


@dataclass(frozen=True)
class _Baselines:
    """What methods of before deep learning answer to the same images: notes, a heading, and rows of cells."""

    notes: tuple[str, ...]
    heading: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def write(
    run: Run, report: Mapping[str, Any], seen: Mapping[str, Predictions], fitted: Fitted, notes: Sequence[str]
) -> None:
    """Writes report.html into the run's folder.

    Args:
        run: The run; its network has the weights of best.pt.
        report: What report.json holds.
        seen: What `embeddings.of_run` returned.
        fitted: Temperature and unknown rule.
        notes: What has to be said of the scores, a line each.
    """
    text = render(
        "training.report",
        "report.html",
        title=f"{run.config.backbone} on {run.data.name}",
        subtitle=_subtitle(run),
        figures=_figures(report, fitted),
        notes=notes,
        learning_curves=_learning_curves(run),
        scores=_scores(run, report, seen["val"]),
        temperature=fitted.calibration.temperature,
        baselines=_baselines(report, run.data.task),
        reliability=_reliability(fitted),
        unknown=_unknown(fitted),
        part_name="val",
        worst_images=worst_images.worst(run, seen["train"], seen["val"], fitted.calibration),
        neighbours=worst_images.NEIGHBOURS,
        preview=preview(run.data, run.config),
        data=_data(run),
        command=report["command"],
        origin=_origin(run, report),
    )
    write_text(run.folder / "report.html", text)


def _subtitle(run: Run) -> str:
    counts = ", ".join(f"{len(run.data.part(part))} {part}" for part in PARTS if run.data.part(part))
    return (
        f"{run.config.mode} from {run.weights}, {run.data.task}: {len(run.data.class_names)} outputs, {counts} images"
    )


_SHARES = {
    "top1": "top-1 accuracy", "top5": "top-5 accuracy", "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1", "map": "mean average precision",
}  # fmt: skip
_ERRORS = ("mae", "rmse", "r2")


def _figures(report: Mapping[str, Any], fitted: Fitted) -> list[tuple[str, str]]:
    """Returns the cards at the top of the page, each a title and a figure."""
    scores = dict(report["val"])
    if len(scores.get("per_class", ())) <= MOST_WITHOUT_TOP5:
        scores.pop("top5", None)
    intervals = scores["intervals"]
    cards = _headline(scores.get("headline"))
    for key, text in _SHARES.items():
        if key in scores and not (cards and key == "top1"):
            cards.append((_with_interval(f"{text}, val", intervals.get(key), percent), percent(scores[key])))
    for key in _ERRORS:
        if key in scores:
            title = _with_interval(f"{key.upper()}, val", intervals.get(key), _three_digits)
            cards.append((title, _three_digits(scores[key])))
    if "val" in fitted.reliability:
        cards.append(("calibration error, val", percent(fitted.reliability["val"].after.ece)))
    if (rule := fitted.calibration.unknown) is not None and rule.auroc is not None:
        ends = (fitted.outside.auroc.low, fitted.outside.auroc.high) if fitted.outside else None
        cards.append((_with_interval("AUROC, known against outside", ends, _three_digits), f"{rule.auroc:.3f}"))
    return cards


def _headline(found: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Returns the cards of what the robot will do; none where an image has several classes, or numbers."""
    if found is None:
        return []
    texts = {"top1": "top-1 accuracy, val"}
    if found["coverage"]["value"] < 1:
        texts = {
            "top1": "top-1 accuracy with the unknown rule, val",
            "top1_without_rule": "top-1 accuracy without it, val",
            "coverage": "of val images answered",
            "top1_answered": "top-1 accuracy of these",
        }
    shares = [(text, found[key]) for key, text in texts.items() if found[key] is not None]
    return [(_with_interval(text, (one["low"], one["high"]), percent), percent(one["value"])) for text, one in shares]


def _with_interval(title: str, ends: Sequence[float] | None, shown: Callable[[float], str]) -> str:
    return title if ends is None else f"{title}; 95 %: {shown(ends[0])} to {shown(ends[1])}"


def _three_digits(value: float) -> str:
    return f"{value:.3g}"


def _learning_curves(run: Run) -> str:
    picture = run.folder / "learning_curves.png"
    return data_url.of_png(picture.read_bytes()) if picture.is_file() else ""


def _scores(run: Run, report: Mapping[str, Any], seen: Predictions) -> ClassTables | OutputTable:
    unit = "val images"
    if task_of(run.data.task).one_class:
        return class_tables(confusion(seen.logits, seen.labels), run.data.class_names, unit)
    rows: Mapping[str, Mapping[str, object]] = report["val"].get("per_class") or report["val"]["per_number"]
    columns = next(iter(rows.values()), {})
    return OutputTable(
        unit=unit,
        columns=tuple(column.replace("_", " ") for column in columns),
        rows=tuple((name, tuple(map(_figure, row.values()))) for name, row in rows.items()),
    )


def _baselines(report: Mapping[str, Any], task: Task) -> _Baselines | None:
    """Returns the table of the baselines, and whether the network is worth its cost; None where there are none."""
    found = report.get("baselines")
    if found is None:
        return None
    heading, *lines = table.cells(found["rows"], task_of(task).metric, "")
    compared = found.get("comparison")
    notes = [*([compared["in_words"]] if compared else []), *table.NOTES]
    return _Baselines(tuple(notes), tuple(heading), tuple((name, tuple(cells)) for name, *cells in lines))


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _reliability(fitted: Fitted) -> list[diagrams.Reliability]:
    """Returns two diagrams for each part, before and after the fit."""
    drawn = []
    for part, found in fitted.reliability.items():
        drawn.append(_reliability_of(f"{part}, before", found.before, found.loss_before))
        drawn.append(_reliability_of(f"{part}, after", found.after, found.loss))
    return drawn


def _reliability_of(title: str, found: metrics.CalibrationScores, loss: float) -> diagrams.Reliability:
    return diagrams.Reliability(f"{title}: ECE {found.ece:.1%}, loss {loss:.3f}", found.bins)


def _unknown(fitted: Fitted) -> _UnknownRule | None:
    rule = fitted.calibration.unknown
    if rule is None:
        return None
    title = f"{rule.method} score, share of the images"
    return _UnknownRule(
        note=_unknown_note(rule, fitted),
        histogram=diagrams.histogram(fitted.unknown_scores, rule.threshold, title),
    )


def _unknown_note(rule: UnknownRule, fitted: Fitted) -> str:
    called = ", ".join(f"{percent(share)} of {kind}" for kind, share in fitted.called_unknown().items())
    note = f"rule: {rule.method}; called unknown: {called}"
    if not fitted.auroc:
        return note
    areas = ", ".join(f"{method} {value:.3f}" for method, value in fitted.auroc.items())
    note = f"{note}; AUROC against {rule.outside_images} images of something else: {areas}"
    return f"{note}. {fitted.outside.in_words()}" if fitted.outside else note


def _data(run: Run) -> list[tuple[str, str]]:
    """Returns what the run learned from, in rows of a title and a text."""
    data = run.data
    rows = [("source", data.where), ("SHA-256 of names, labels and contents", data.sha256)]
    rows += [("of the sources", line) for line in data.of_sources()]
    rows += [(f"{part} images", _counts(run, part)) for part in PARTS if data.part(part)]
    rows += [(f"ignored: {reason}", str(count)) for reason, count in sorted(data.ignored.items()) if count]
    if data.rejected:
        rows.append(("left out, cannot be decoded", f"{len(data.rejected)}, see findings.csv"))
    rows += [("warning", line) for line in data.warnings]
    return rows


def _counts(run: Run, part: Part) -> str:
    """Returns how many images a part has, and how many of them show each class."""
    samples = run.data.part(part)
    names = run.data.class_names
    counts = task_of(run.data.task).class_counts(samples, len(names))
    if not counts:
        return str(len(samples))
    each = [f"{name} {count}" for name, count in zip(names, counts, strict=True)]
    more = ["..."] if len(each) > _MOST_COUNTED else []
    return f"{len(samples)}: {', '.join(each[:_MOST_COUNTED] + more)}"


def _origin(run: Run, report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns what the run depended on, in rows of a title and a text."""
    rows = [(name, value) for name, value in report["versions"].items() if value]
    rows += [("weights", run.weights), ("seed", str(run.config.seed)), ("device", run.computed)]
    rows += [(f"seconds of {name}", f"{value:.1f}") for name, value in report["seconds"].items()]
    return rows
