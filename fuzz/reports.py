"""Fuzzes the reports of earlier evaluations, with which a model is compared."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

from cnn_perception.comparison.model_card import common_names
from cnn_perception.comparison.recorded_answers import PREDICTIONS, RecordedAnswers, read_answers
from fuzz.documents import mutated_csv, mutated_json
from fuzz.mutation import mutated
from fuzz.target import Files, Sample, Target, ViolationError

_REPORT = "report.json"
_PLACES = "index,file,stamp_ns,time_s,received_ns,content"
_TABLES = {
    "multiclass": f"{_PLACES},truth,predicted,score,margin,truth_score,error,message\n"
    "0,,17,0.1,18,0123456789abcdef,red,red,0.9,0.8,0.9,,\n1,,19,0.2,20,a,,unknown,0.9,0.8,,,\n2,,21,0.3,22,,red,,,,,data,short\n",
    "multilabel": f"{_PLACES},truth,predicted,score red,score blue,error,message\n"
    "0,,17,0.1,18,0123456789abcdef,red,red;blue,0.9,0.8,,\n1,,19,0.2,20,b,;,;,0.1,0.1,,\n",
    "regression": f"{_PLACES},true red,predicted red,true blue,predicted blue,error,message\n"
    "0,a.png,0,0,0,0123456789abcdef,1,1.5,2,2.5,,\n1,b.png,0,0,0,c,,1e-3,,7,,\n",
}


def report_target() -> Target:
    """Returns the reader of report.json and predictions.csv."""
    return Target("report", _samples, _mutate, _check, batch=300)


def _samples() -> list[Sample]:
    return [Sample(task, {_REPORT: _report(task), PREDICTIONS: table.encode()}) for task, table in _TABLES.items()]


def _report(task: str) -> bytes:
    units = ["m", ""] if task == "regression" else []
    rule: dict[str, float] | None = {"threshold": 0.5} if task == "multiclass" else None
    spec = {"class_names": ["red", "blue"], "units": units, "unknown": rule}
    model = {"path": "model.onnx", "sha256": "ab" * 32, "spec": spec}
    report = {"task": task, "source": "/bags/drive", "topic": "/camera", "labels": "labels.csv", "model": model}
    return json.dumps(report).encode()


def _mutate(random: Random, sample: Sample, _: Sequence[Sample]) -> Files:
    files = dict(sample.files)
    name = random.choice(tuple(files))
    structured = mutated_json if name == _REPORT else mutated_csv
    files[name] = (mutated if random.random() < 0.4 else structured)(random, files[name])
    return files


def _check(sample: Sample) -> str:
    folder = Path(tempfile.gettempdir())
    for name, content in sample.files.items():
        (folder / name).write_bytes(content)
    found = read_answers(folder / _REPORT)
    _require_answers(found)
    names = min(len(common_names(found.card, found.card)), 3)
    return f"{found.card.task}, {names} names, {min(len(found.rows), 3)} rows"


def _require_answers(found: RecordedAnswers) -> None:
    """Makes sure that each answer is of the kind of the task, numbers as many as there are."""
    kinds = {"multiclass": str, "multilabel": frozenset, "regression": tuple}
    for row in found.rows.values():
        given = row.answer.given
        if given is not None and not isinstance(given, kinds[found.card.task]):
            raise ViolationError(f"an answer of another kind: {type(given).__name__} of {found.card.task}")
        if isinstance(given, tuple) and len(given) != len(found.card.names):
            raise ViolationError("an answer of more or less numbers than there are")
