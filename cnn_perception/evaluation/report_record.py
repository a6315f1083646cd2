"""The report of an evaluation, as it is written into report.json."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cnn_perception.errors import DataError
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.recording.curves import TradeOff
from cnn_perception.evaluation.recording.facts import RecordingFacts
from cnn_perception.evaluation.recording.sampling import SamplingRecord
from cnn_perception.files import as_utf8, replacing
from cnn_perception.label_text import text_of
from cnn_perception.masks.scores import MaskScores
from cnn_perception.metrics import CalibrationScores, Latency
from cnn_perception.model.spec import ModelSpec
from cnn_perception.tasks.registry import gate_of, task_of
from cnn_perception.tasks.rules import Scores

REPORT_VERSION = 2


@dataclass(frozen=True)
class WorstFrame:
    """A frame that a human should look at.

    Attributes:
        index: Position in the bag's topic or in the folder.
        name: File name in a folder; empty in a bag.
        time_s: Seconds on the labels' time axis.
        truth: What is known, as in label files; None where it is unlabelled.
        predicted: What was answered, as in label files.
        is_right: Whether both are the same; None for numbers, and without a truth.
        score: Of the best class, in [0, 1]; None for numbers.
        margin: How far that is ahead of the second best class, in [0, 1]; None where the task is not multiclass.
        deviation: The largest absolute error of the numbers; None for classes, and without a truth.
    """

    index: int
    name: str
    time_s: float
    truth: str | None
    predicted: str
    is_right: bool | None
    score: float | None
    margin: float | None
    deviation: float | None


def worst_frame(record: FrameRecord, spec: ModelSpec) -> WorstFrame:
    """Returns what the report says of one frame."""
    task = task_of(spec.task)
    prediction = record.prediction
    return WorstFrame(
        index=record.index,
        name=record.name,
        time_s=record.time_s,
        truth=None if record.truth is None else text_of(record.truth),
        predicted=record.answer,
        is_right=record.is_right,
        score=prediction.score if prediction and task.has_classes else None,
        margin=task.margin(prediction) if prediction and task.is_exclusive else None,
        deviation=task.deviation(prediction, record.truth) if prediction else None,
    )


@dataclass(frozen=True)
class Target:
    """What the evaluation has to reach.

    Attributes:
        metric: Of one of the tasks' gates: `top-1` (share of right answers, unknown is wrong), `mAP`, or `MAE` (of
            every number).
        limit: Least top-1 or mAP, in [0, 1]; largest MAE, in the number's unit.
    """

    metric: str
    limit: float

    def reached(self, scores: Scores) -> bool:
        """Whether the figures are good enough; never where nothing was scored. Lost frames count against it."""
        return scores.reaches(self.limit)

    def __str__(self) -> str:
        return gate_of(self.metric).in_words(self.limit)


@dataclass(frozen=True)
class ModelRecord:
    """Which model ran, and where; see `onnx_model.OnnxModel`."""

    path: str
    sha256: str
    provider: str
    fallback: str
    spec: ModelSpec


@dataclass(frozen=True)
class Report:
    """Everything `report.json` holds.

    Attributes:
        complete: False if the evaluation ended early or frames or labels are missing, see `remarks`.
        remarks: Damages of the bag, an interruption, why nothing could be scored, or what counts against `target`;
            one line each.
        warnings: What is odd about the pictures and boxes, which were used all the same; a line for each kind.
        source: The bag or folder.
        topic: The image topic; empty for a folder.
        encoding: What the pixels were taken for, in place of what the messages say; empty for what they say.
        significant_bits: How many bits of 16-bit images were taken to be used; 0 for what the encoding says.
        labels: The label file or topic; empty without labels.
        model: Which model ran.
        threshold: Score below which the robot publishes nothing.
        target: What had to be reached; None if nothing had.
        passed: Whether it was reached; None if nothing had to be.
        latency: Percentiles of each stage and of their sum, one frame at a time as on the robot, milliseconds;
            empty where it was not measured.
        frames_per_second: Rate of the whole evaluation, reading and decoding included, with all cores busy.
        ignored: How many files of a folder were passed over, by the reason.
        scores: The figures, which depend on the model's task; in the file they stand beside the other fields.
        worst: Frames for a human's attention, the worst first.
        masks: How well the score map fits the images' masks; None without any.
        recording: The facts of a bag's topic; None for a folder.
        sampling: What the intervals of a recording's figures rest on; None for a folder, whose images are independent.
        calibration: Whether the scores can be taken for probabilities; None of numbers, and where nothing was scored.
        trade_off: What other thresholds would give; None unless one class an image is answered, likewise.
        version: Version of this layout.
    """

    complete: bool
    remarks: tuple[str, ...]
    warnings: tuple[str, ...]
    source: str
    topic: str
    encoding: str
    significant_bits: int
    labels: str
    model: ModelRecord
    threshold: float
    target: Target | None
    passed: bool | None
    latency: dict[str, Latency]
    frames_per_second: float
    ignored: Mapping[str, int]
    scores: Scores
    worst: tuple[WorstFrame, ...]
    masks: MaskScores | None = None
    recording: RecordingFacts | None = None
    sampling: SamplingRecord | None = None
    calibration: CalibrationScores | None = None
    trade_off: TradeOff | None = None
    version: int = REPORT_VERSION

    def fields(self) -> dict[str, object]:
        """Returns what `report.json` holds, by name.

        Of the unknown rule's centres, which are long, only their number is in it.
        """
        fields = dataclasses.asdict(self)
        if rule := fields["model"]["spec"]["unknown"]:
            rule["centres"] = len(rule["centres"])
        return {"version": fields.pop("version"), "task": self.model.spec.task, **fields.pop("scores"), **fields}

    def to_json(self) -> str:
        """Returns the text of `report.json`."""
        return json_lines(self.fields())


def json_lines(fields: Mapping[str, object]) -> str:
    """Returns one JSON object, a line for each field."""
    lines = (f"{json.dumps(key)}: {json.dumps(fields[key], ensure_ascii=False, allow_nan=False)}" for key in fields)
    return "{\n" + ",\n".join(lines) + "\n}\n"


def write_text(path: Path, text: str) -> None:
    """Writes a file so that it is either complete or not there at all.

    Raises:
        DataError: If it cannot be written, such as on a full disk.
    """
    try:
        with replacing(path) as file:
            file.write(as_utf8(text))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); free or choose another --output") from None
