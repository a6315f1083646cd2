"""The files of reports on answers: an object of JSON, and a table with a line a frame."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnn_perception.answers.answer import Answer, Reading
from cnn_perception.answers.matching import AskedFrame
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.label_text import text_of
from cnn_perception.pipeline.pipeline import Pipeline


@dataclass(frozen=True)
class ModelFacts:
    """Which model answered offline, and where; see `onnx_model.OnnxModel`."""

    path: str
    sha256: str
    task: str
    architecture: str
    provider: str

    @classmethod
    def of(cls, pipeline: Pipeline) -> ModelFacts:
        """Returns what is said of a pipeline's model."""
        model = pipeline.model
        return cls(str(model.path), model.sha256, model.spec.task, model.spec.architecture, model.provider)


def report_json(report: Any) -> str:  # noqa: ANN401 any dataclass instance
    """Returns the text of a report: one object, a line for each field."""
    fields = dataclasses.asdict(report)
    ordered = {"version": fields.pop("version"), **fields}
    lines = (f"{json.dumps(key)}: {json.dumps(ordered[key], ensure_ascii=False, allow_nan=False)}" for key in ordered)
    return "{\n" + ",\n".join(lines) + "\n}\n"


def frames_csv(
    frames: Sequence[AskedFrame],
    streams: Mapping[str, Sequence[Answer | None]],
    reading: Reading,
    offline: Sequence[FrameRecord],
) -> str:
    """Returns a table with a line a frame, in order; empty cells where there is nothing to say.

    Args:
        frames: All frames.
        streams: By the name of the column, the answer to each frame.
        reading: How answers are read.
        offline: The frames as they are answered offline, as far as they are: the first of them, all or none.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [column for name in streams for column in (name, f"{name} score", f"{name} delay_ms")]
    writer.writerow(("index", "stamp_ns", "time_s", "truth", *columns, "offline", "offline error"))
    others = [FrameRecord(frame.index, "", frame.stamp_ns, frame.time_s, None) for frame in frames[len(offline) :]]
    for place, (frame, record) in enumerate(zip(frames, [*offline, *others], strict=False)):
        cells = [cell for given in streams.values() for cell in _cells(frame, given[place], reading)]
        known = (frame.index, frame.stamp_ns, f"{frame.time_s:.6f}", text_of(frame.truth))
        writer.writerow((*known, *cells, record.answer, record.error))
    return text.getvalue()


def _cells(frame: AskedFrame, answer: Answer | None, reading: Reading) -> tuple[str, str, str]:
    if answer is None:
        return "", "", ""
    score = f"{answer.results[0][1]:.6f}" if reading.has_classes and answer.results else ""
    return reading.text(answer), score, f"{(answer.time_s - frame.time_s) * 1e3:.3f}"
