"""The answers of an earlier evaluation: report.json and the predictions.csv beside it."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cnn_perception.comparison.compared_frame import Answer
from cnn_perception.comparison.model_card import ModelCard
from cnn_perception.errors import DataError, one_line
from cnn_perception.label_text import SEPARATOR, Truth
from cnn_perception.model.spec import UNKNOWN
from cnn_perception.model.spec_json import read_json
from cnn_perception.tasks.registry import TASKS, task_of

PREDICTIONS = "predictions.csv"
_PLACE = ("file", "stamp_ns", "received_ns", "content", "error")
_AGAIN = "evaluate the baseline again, or name its model file"

ValueT = TypeVar("ValueT")

FrameKey = tuple[str, int, int, int]
"""The name of a file, the stamp and the time of reception in nanoseconds, and how many of the same came before."""


@dataclass(frozen=True)
class RecordedAnswer:
    """What an earlier evaluation says of one frame.

    Attributes:
        content: Digest of the message's or file's bytes; empty where there were none.
        truth: What was known of it, as cells.
        answer: What was answered.
    """

    content: str
    truth: tuple[str, ...]
    answer: Answer


@dataclass(frozen=True, eq=False)
class RecordedAnswers:
    """An earlier evaluation.

    Attributes:
        path: Its report.
        card: The model.
        source: The recording or folder, as it was called then.
        topic: The image topic; empty for a folder.
        labels: The label file or topic.
        rows: By frame.
        encoding: What the pixels were taken for in place of what the messages say; empty for what they say.
        significant_bits: How many bits of 16-bit images were taken to be used; 0 for what the encoding says.
    """

    path: Path
    card: ModelCard
    source: str
    topic: str
    labels: str
    rows: Mapping[FrameKey, RecordedAnswer]
    encoding: str = ""
    significant_bits: int = 0


class FrameKeys:
    """Makes the keys of the frames of an evaluation, in their order, by which those that seem the same differ."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, int, int]] = Counter()

    def key(self, name: str, stamp_ns: int, received_ns: int) -> FrameKey:
        """Returns the key of the next frame."""
        place = (name, stamp_ns, received_ns)
        self._seen[place] += 1
        return (*place, self._seen[place])


def read_answers(path: Path) -> RecordedAnswers:
    """Reads an earlier evaluation.

    Args:
        path: Its report.json; predictions.csv lies beside it.

    Raises:
        DataError: If one of the files is missing, damaged, or of a version that does not say enough.
    """
    report = _read_report(path)
    if report.keys() >= {"bags", "slices"}:
        raise DataError(f"{path}: is of several bags, none with this one's name; name report.json in one's own folder")
    card = _card(report, path)
    table = path.with_name(PREDICTIONS)
    report = {"encoding": "", "significant_bits": 0, **report}  # of versions in which nothing could be said of them
    return RecordedAnswers(
        path=path,
        card=card,
        source=_field(report, "source", str, path),
        topic=_field(report, "topic", str, path),
        labels=_field(report, "labels", str, path),
        rows=_read_rows(table, card),
        encoding=_field(report, "encoding", str, path),
        significant_bits=_field(report, "significant_bits", int, path),
    )


def _read_report(path: Path) -> dict[str, Any]:
    try:
        report = read_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); name a report.json of evaluate_bag") from None
    except ValueError as error:
        raise DataError(f"{path}: is no report of evaluate_bag ({one_line(error)}); {_AGAIN}") from None
    if not isinstance(report, dict):
        raise DataError(f"{path}: is no report of evaluate_bag; {_AGAIN}")
    return report


def _card(report: dict[str, Any], path: Path) -> ModelCard:
    model = _field(report, "model", dict, path)
    spec = _field(model, "spec", dict, path)
    task = _field(report, "task", str, path)
    if task not in TASKS:
        raise DataError(f"{path}: the task {task!r} is none that this version knows; {_AGAIN}")
    return ModelCard(
        path=_field(model, "path", str, path),
        sha256=_field(model, "sha256", str, path),
        task=task,
        names=_texts(spec, "class_names", path),
        units=_texts(spec, "units", path),
        has_unknown_rule=_field(spec, "unknown", (dict, type(None)), path) is not None,
    )


def _field(record: dict[str, Any], name: str, kind: Any, path: Path) -> Any:  # noqa: ANN401 JSON
    if name not in record or not isinstance(record[name], kind):
        raise DataError(f"{path}: does not say {name!r} as this version writes it; {_AGAIN}")
    return record[name]


def _texts(record: dict[str, Any], name: str, path: Path) -> tuple[str, ...]:
    values = _field(record, name, list, path)
    if not all(isinstance(value, str) for value in values):
        raise DataError(f"{path}: does not say {name!r} as this version writes it; {_AGAIN}")
    return tuple(values)


def _read_rows(path: Path, card: ModelCard) -> dict[FrameKey, RecordedAnswer]:
    try:
        with path.open(newline="", errors="strict", encoding="utf-8") as stream:
            reader = csv.DictReader(stream, strict=True)
            missing = [name for name in (*_PLACE, *_columns(card)) if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{path}: has no column {', '.join(map(repr, missing[:5]))}, as of another version; {_AGAIN}"
                )
            keys = FrameKeys()
            rows = {}
            for row in reader:
                place = f"{path}, line {reader.line_num}"
                if None in row.values() or None in row:
                    raise DataError(f"{place}: has not as many cells as the first line; {_AGAIN}")
                stamp_ns = _whole(row["stamp_ns"], place)
                received_ns = _whole(row["received_ns"], place)
                rows[keys.key(row["file"], stamp_ns, received_ns)] = _recorded(row, card, place)
            return rows
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); it belongs to the report beside it") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: is damaged ({one_line(error)}); {_AGAIN}") from None


def _columns(card: ModelCard) -> tuple[str, ...]:
    return task_of(card.task).columns(card.names)


def _recorded(row: Mapping[str, str], card: ModelCard, place: str) -> RecordedAnswer:
    read = _read_numbers if not task_of(card.task).has_classes else _read_classes
    names = ("truth",) if task_of(card.task).has_classes else tuple(f"true {name}" for name in card.names)
    return RecordedAnswer(row["content"], tuple(row[name] for name in names), read(row, card, place))


def cells_of_numbers(numbers: Sequence[float]) -> tuple[str, ...]:
    """Returns the cells that `predictions.csv` has for numbers."""
    return tuple(f"{value:.6g}" for value in numbers)


def _read_numbers(row: Mapping[str, str], card: ModelCard, place: str) -> Answer:
    cells = [row[f"predicted {name}"] for name in card.names]
    values = tuple(_number(cell, place) for cell in cells)
    answer = None if row["error"] or not all(map(math.isfinite, values)) else values
    return Answer(answer, answer)


def _read_classes(row: Mapping[str, str], card: ModelCard, place: str) -> Answer:
    text = row["predicted"]
    if row["error"] or not text:
        return Answer(None, None)
    if not task_of(card.task).is_exclusive:
        seen = frozenset(text.split(SEPARATOR)) - {""}
        return Answer(seen, seen)
    return Answer(text, _without_rule(row, place) if text == UNKNOWN and card.has_unknown_rule else text)


def _without_rule(row: Mapping[str, str], place: str) -> Truth | None:
    """Returns the known class where it had the best score of an image called unknown; else some other one."""
    if not row["truth_score"]:
        return None
    is_best = _number(row["truth_score"], place) >= _number(row["score"], place)
    return row["truth"] if is_best else ""


def _number(text: str, place: str) -> float:
    return _converted(float, text or "nan", place)


def _whole(text: str, place: str) -> int:
    return _converted(int, text, place)


def _converted(convert: Callable[[str], ValueT], text: str, place: str) -> ValueT:
    try:
        return convert(text)
    except ValueError:
        raise DataError(f"{place}: {text[:40]!r} is not a number; {_AGAIN}") from None
